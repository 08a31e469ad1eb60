"""What to say of an error, and the exit status."""

import dis
import errno
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

from longlag.messages import Fix, GuidedError, Worded, is_out_of_memory, on_one_line

_TRAINED = {
    "roles": "or say what it is called with --columns.series, --columns.time, --columns.features "
    "and --columns.target",
    "no time": "train with --columns.time null",
    "no date": "drop the row",
    "text feature": "drop the row",
    "missing": "train with --missing previous, mean or indicator",
}
_FITTED = {
    "roles": "or say which column is what with --columns.series, --columns.time, "
    "--columns.features and --columns.target",
    "no time": "use --columns.time null",
    "no date": "leave the column out of --columns.dates",
    "text feature": "name the column in --columns.categories, or leave it out with "
    "--columns.features",
    "missing": "give --missing previous, mean or indicator",
    "label tags": "give --tags labels",
    "label arrays": "give y (N, L), L from 2, for classification, and (N, T, L) with --tags "
    "labels for tagging",
    "label cells": "give --columns.label_separator for cells that list labels",
    "labels": "use --task classification for labels, or name another column with --columns.target",
    "stratified split": "--validation: it",
    "smaller split": "Use a smaller --validation",
    "no split": "Give more series of a class, or --validation_data FILE, or --task regression "
    "where the target is a number",
    "series column": "name the column that tells series apart with --columns.series",
    "weight column": "name another column with --columns.weight",
    "another target": "another column with --columns.target",
    "no score": "empty the column to train without it",
    "start anew": "or delete this one to start anew",
}
_FIXES = {
    "train": _FITTED,
    "sweep": _FITTED,
    "predict": {**_TRAINED, "no score": "give --no_score to leave the target aside"},
    "report": {**_TRAINED, "roles": "for the model knows its columns by their names in training"},
    "turing": {"exact": "give --exact"},
}
"""What each command says for a fix of the library, by its key; what is not here stays as it is."""

_SMALLER = {
    "train": "smaller --hidden, --layers or --batch_size, or fewer or shorter series; in "
    "forecasting a smaller --window",
    "predict": "a smaller --batch_size, or a file with fewer or shorter series",
    "report": "smaller --sequences or --steps, or a file with fewer or shorter series",
    "export": "a smaller network: a sparse matrix becomes a full one",
    "turing": "a smaller --max_steps or --picture_steps, or another --form",
    "bench": "--rows with smaller networks, or --quick",
    "sweep": "a smaller --at_once, or smaller networks in --space",
    "compare": "smaller --hidden, --lags or --seeds",
}
"""What needs less memory."""

_PROCESSES = ("concurrent", "ray")
"""What brings errors from other processes: where in these they began is not known."""

BUG = "longlag: this is a bug in longlag; please report it, with the lines above and the command"
"""What follows the traceback of a fault."""

_WITHOUT_FLAG = {"data": "DATA"}


def describe(error: BaseException, argv: Sequence[str]) -> tuple[int | None, str]:
    """The exit status and the message; None for what is a fault of longlag itself.

    >>> describe(ValueError("--hidden: got 0"), [])
    (2, 'longlag: --hidden: got 0')
    """
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return _interrupted(error, argv)
    if isinstance(error, ArithmeticError) and _is("NonFiniteLossError", error):
        return 3, f"longlag: {_diverged(error)}"
    if is_out_of_memory(error):
        advice = _SMALLER.get(argv[0] if argv else "", "smaller numbers")
        return 2, f"longlag: there is not enough memory ({on_one_line(error)}). Give {advice}."
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        if not where and error.errno == errno.ENOSPC:  # files are named by what writes them
            where = "standard output: "
        return 2, f"longlag: {where}{error.strerror or error}"
    if isinstance(error, ImportError) or (isinstance(error, ValueError) and _is_told(error)):
        text = error.told(_words(argv)) if isinstance(error, GuidedError) else str(error)
        return 2, f"longlag: {text}"
    return None, ""


def _is_told(error: ValueError) -> bool:
    """Whether longlag raised it on purpose: a check of what the user gave.

    It did so where the error is of a class of longlag, or was raised by a `raise` in a module of
    longlag. One that arose in NumPy, PyTorch or Python itself, or where longlag called what is
    written in C, is a fault that no check foresaw. What a check says of what another part of
    longlag gave to it cannot be told from the former.

    >>> try:
    ...     int("many")
    ... except ValueError as error:
    ...     print(_is_told(error))
    False
    """
    if _root(type(error).__module__) == "longlag":
        return True
    last = error.__traceback__
    if last is None:
        return True
    while last.tb_next is not None:
        last = last.tb_next
    module = _root(last.tb_frame.f_globals.get("__name__", ""))
    if module in _PROCESSES:
        return True
    operation = dis.opname[last.tb_frame.f_code.co_code[last.tb_lasti]]
    return module == "longlag" and operation == "RAISE_VARARGS"


def _root(module: str) -> str:
    return module.partition(".")[0]


def _words(argv: Sequence[str]) -> Callable[[Worded], str]:
    fixes = _FIXES.get(argv[0] if argv else "", {})

    def say(part: Worded) -> str:
        if isinstance(part, Fix):
            return fixes.get(part.key, part.in_python)
        flag = _WITHOUT_FLAG.get(part.name, f"--{part.name}")
        return flag if part.value is None else f"{flag} {part.value}"

    return say


def _is(name: str, error: BaseException) -> bool:
    """Whether it is this error of `longlag.training`, which need not be loaded."""
    training = sys.modules.get("longlag.training")
    return training is not None and isinstance(error, getattr(training, name))


def _interrupted(error: BaseException, argv: Sequence[str]) -> tuple[int, str]:
    saving = any(word.split("=")[0] == "--checkpoint" for word in argv)
    again = "The same command goes on from there: longlag " + shlex.join(argv)
    if _is("TrainingInterrupted", error):
        training: Any = error
        if training.checkpoint is not None:
            return training.code, f"longlag: {again}"
        return training.code, (
            "longlag: no model was written. With --checkpoint FOLDER the same command could go on "
            "from where it stopped."
        )
    if isinstance(error, SystemExit) and isinstance(error.code, int):  # a second SIGTERM
        status = error.code
    else:
        status = getattr(error, "status", 130)
    # Of a training a logger may have written.
    kept = "No model was written." if argv[:1] == ["train"] else "Nothing was written."
    if saving:
        kept = f"What the checkpoint holds stays. {again}"
    if argv[:1] == ["reproduce"] and any(word.split("=")[0] == "--folder" for word in argv):
        kept = "The rows that are done are in the folder; with --resume the others follow."
    if argv[:1] == ["sweep"]:
        kept = f"The trials that are done are in the folder. {again}"
    if argv[:1] == ["compare"]:
        kept = f"The cases that are done are in the folder. {again}"
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
