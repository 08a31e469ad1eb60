"""What to say of an error, and the exit status."""

import shlex
import sys
from collections.abc import Sequence
from typing import Any

__all__ = ["describe"]

_ASK = "or say which column is what with Columns(series=, time=, features=, target=)"
_TRAINED = {
    _ASK: "for the model knows its columns by their names in training",
    "use Columns(time=None)": "train with --columns.time null",
    "give the column another role with Columns": "drop the row",
}
_IN_FLAGS = {
    "train": {
        _ASK: "or say which column is what with --columns.series, --columns.time, "
        "--columns.features and --columns.target",
        "use Columns(time=None)": "use --columns.time null",
        "give the column another role with Columns": "leave the column out with --columns.features",
        "use the task classification": "use --task classification",
        "name another target column": "name another column with --columns.target",
        "split: stratify=True would hold out": "--validation: it would hold out",
        "Use a smaller fraction, or stratify=False": "Use a smaller --validation",
        "or resume='never' to start anew and overwrite it": "or delete this one to start anew",
    },
    "predict": _TRAINED,
    "report": _TRAINED,
}
"""The fixes that the library names for Python, and the same for the command line."""


def describe(error: BaseException, argv: Sequence[str]) -> tuple[int | None, str]:
    """The exit status and the message; None for what is a fault of longlag itself.

    >>> describe(ValueError("--hidden: got 0"), [])
    (2, 'longlag: --hidden: got 0')
    """
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return _interrupted(error, argv)
    if isinstance(error, ArithmeticError) and _is("NonFiniteLossError", error):
        return 3, f"longlag: {_diverged(error)}"
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return 2, f"longlag: {where}{error.strerror or error}"
    if isinstance(error, ValueError | ImportError):
        text = str(error)
        for python, flags in _IN_FLAGS.get(argv[0] if argv else "", {}).items():
            text = text.replace(python, flags)
        return 2, f"longlag: {text}"
    return None, ""


def _is(name: str, error: BaseException) -> bool:
    """Whether it is this error of `longlag.training`, which need not be loaded."""
    training = sys.modules.get("longlag.training")
    return training is not None and isinstance(error, getattr(training, name))


def _interrupted(error: BaseException, argv: Sequence[str]) -> tuple[int, str]:
    given = any(word.split("=")[0] == "--checkpoint" for word in argv)
    again = "The same command goes on from there: longlag " + shlex.join(argv)
    if _is("TrainingInterrupted", error):
        training: Any = error
        if training.checkpoint is not None:
            return training.code, f"longlag: {again}"
        return training.code, (
            "longlag: nothing was written. With --checkpoint FOLDER the same command could go on "
            "from where it stopped."
        )
    if isinstance(error, SystemExit) and isinstance(error.code, int):  # a second SIGTERM
        status = error.code
    else:
        status = getattr(error, "status", 130)
    kept = f"What the checkpoint holds stays. {again}" if given else "Nothing was written."
    if argv[:1] == ["reproduce"] and any(word.split("=")[0] == "--folder" for word in argv):
        kept = "The rows that are done are in the folder; with --resume the others follow."
    return status, f"longlag: interrupted. {kept}"


def _diverged(error: Any) -> str:
    kept = f" The last good checkpoint is {error.checkpoint}." if error.checkpoint else ""
    what = f"the loss is {error.loss}, the gradient norm {error.gradient_norm}"
    if _is("NonFiniteWeightsError", error):
        what = "its update made weights infinite or NaN"
    return (
        f"training stopped at step {error.step} (epoch {error.epoch}, seed {error.seed}): {what}. "
        f"No model was written.{kept} Try a --learning_rate ten times smaller, a smaller "
        "--clip_norm, and leave --standardise on; look for extreme values in the data."
    )
