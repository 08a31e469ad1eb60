"""What a run that is taken up again must agree in."""

import json
from collections.abc import Container
from pathlib import Path
from typing import Any

from longlag.messages import GuidedError, Setting
from longlag.pipeline.settings import SettingsError
from longlag.storage import atomic_write_text
from longlag.training import Checkpoint
from longlag.training.checkpoints import CheckpointFile

_FILE = "settings.json"


def agree(folder: Path, settings: dict[str, Any], automatic: Container[str] = ()) -> None:
    """Note the settings of a run in its folder; if it holds a run, compare them with its own.

    Args:
        folder: of the run.
        settings: by their names.
        automatic: those that are chosen by the program where they are None.

    Raises:
        SettingsError: the folder holds a run with other settings; the message names them.
        GuidedError: what was noted in the folder is damaged.
        OSError: the folder cannot be written.
    """
    path = folder / _FILE
    settings = json.loads(json.dumps(settings))  # as they are read again: tuples as lists
    noted = None
    try:
        if CheckpointFile(Checkpoint(folder).path).exists() and path.exists():
            noted = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(noted, dict):
                raise ValueError(f"it holds a {type(noted).__name__}")
    except ValueError as error:
        raise GuidedError(
            f"{path}: it is damaged ({error}); delete it to go on without the comparison"
        ) from error
    if noted is not None:
        changed = [
            f"{name} was {_said(noted.get(name), name in automatic)} and is "
            f"{_said(settings.get(name), name in automatic)}"
            for name in sorted({*noted, *settings})
            if _given(noted.get(name)) != _given(settings.get(name))
        ]
        if changed:
            raise SettingsError(
                Setting("checkpoint"),
                f" {folder}: it holds a run with other settings: {', '.join(changed)}. Give the "
                "same ones to go on, another folder, or delete this one to start anew",
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, json.dumps(settings, indent=2) + "\n")


def _given(value: object) -> object:
    """Of a group of settings those that are there: an earlier version had fewer.

    >>> _given({"time": None, "series": "id"}) == _given({"series": "id", "weight": None})
    True
    """
    if not isinstance(value, dict):
        return value
    return {name: own for name, own in value.items() if own is not None}


def _said(value: object, automatic: bool) -> str:
    """A setting in words.

    >>> _said(None, True), _said(None, False), _said([1, "a"], True)
    ('not given', 'null', '[1, "a"]')
    """
    return "not given" if value is None and automatic else json.dumps(value)
