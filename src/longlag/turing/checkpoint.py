"""Long exact runs, stopped and gone on with: the state of a network as a file of JSON."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

from longlag.storage import atomic_write_text
from longlag.turing.exact import ExactRun
from longlag.turing.network import TuringNetwork

_KEYS = {"machine", "form", "input", "updates", "state"}


def save_run(path: Path, network: TuringNetwork, word: str, run: ExactRun) -> None:
    """Write where an exact run is, whole or not at all.

    Args:
        path: the file; what is there is replaced.
        network: what runs.
        word: what it began with, to know the run by.
        run: where it is.

    Raises:
        OSError: the file cannot be written.
    """
    document = {
        "machine": str(network.machine),
        "form": network.form,
        "input": word,
        "updates": run.updates,
        "state": {
            network.units[unit]: [f"{number.numerator:x}", f"{number.denominator:x}"]
            for unit, number in run.state.items()
        },
    }
    atomic_write_text(path, json.dumps(document, indent=1) + "\n")


def load_run(path: Path, network: TuringNetwork, word: str) -> ExactRun:
    """The exact run that :func:`save_run` wrote, to go on with.

    Raises:
        ValueError: the file is damaged, or of another machine, form or input.
        OSError: the file cannot be read.
    """
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict) or document.keys() != _KEYS:
            raise ValueError("it has not the entries of one")
        updates = document["updates"]
        if type(updates) is not int or updates < 0:
            raise ValueError(f"updates is {updates!r}")
        places = {unit: place for place, unit in enumerate(network.units)}
        own = {"machine": str(network.machine), "form": network.form, "input": word}
        for name, value in own.items():
            if document[name] != value:
                raise _Other(
                    f"{path}: it is of another {name}; give the same, or another file, or delete "
                    "this one to start anew"
                )
        state = {
            places[unit]: Fraction(int(above, 16), int(below, 16))
            for unit, (above, below) in document["state"].items()
        }
        run = network.begin_exactly()
        run.go_to(state, updates)
        network.configuration_of(run)
    except _Other as error:
        raise ValueError(str(error)) from None
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise ValueError(
            f"{path}: is no checkpoint of a run of a network ({error}); delete it to start anew"
        ) from error
    return run


class _Other(Exception):
    """The file is one of another run."""
