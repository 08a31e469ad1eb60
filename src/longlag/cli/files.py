"""Where a command may write: everything that can be known before the work begins."""

import os
from pathlib import Path
from typing import Any

from longlag.cli.options import UsageError

FIGURES = (".png", ".pdf", ".svg")
"""What a figure may end in."""

PAGES = (".html", ".htm")
"""What a page may end in."""


def check_outputs(
    options: Any, suffixes: dict[str, tuple[str, ...]], inputs: tuple[str | None, ...] = ()
) -> dict[str, Path]:
    """The paths of files that are to be written, by the options that name them, where given.

    Args:
        options: of the command; `overwrite` says whether files may be there already.
        suffixes: by option, what its file may end in; empty: anything.
        inputs: files that none must replace; nor may one replace another.

    Raises:
        UsageError: a file's folder is missing or cannot be written, it is a folder, it is there, it
            is an input or another output, or it ends in another way.
    """
    paths = {}
    for name, endings in suffixes.items():
        path = getattr(options, name)
        if path is not None:
            paths[name] = _check_output(
                f"--{name}", path, overwrite=options.overwrite, suffixes=endings, inputs=inputs
            )
            inputs = (*inputs, path)
    return paths


def _check_output(
    flag: str,
    path: str,
    *,
    overwrite: bool,
    suffixes: tuple[str, ...],
    inputs: tuple[str | None, ...],
) -> Path:
    target = Path(path)
    if suffixes and target.suffix.lower() not in suffixes:
        raise UsageError(
            f"{flag} {path}: the suffix {target.suffix!r} is not known; expected one of "
            f"{', '.join(suffixes)}"
        )
    if target.is_dir():
        raise UsageError(f"{flag} {path}: it is a folder; expected the name of a file")
    if not target.parent.is_dir():
        raise UsageError(
            f"{flag} {path}: there is no folder {target.parent}; make it with "
            f"`mkdir -p {target.parent}`"
        )
    if not os.access(target.parent, os.W_OK):
        raise UsageError(f"{flag} {path}: the folder {target.parent} cannot be written to")
    if any(other is not None and target.resolve() == Path(other).resolve() for other in inputs):
        raise UsageError(f"{flag} {path}: the command uses this file already; give another name")
    if target.exists() and not overwrite:
        raise UsageError(
            f"{flag} {path}: it is there already; give --overwrite to replace it, or another name"
        )
    return target


def check_model(flag: str, path: str) -> Path:
    """The path of a file with a saved network.

    Raises:
        UsageError: there is none.
    """
    if Path(path).is_dir():
        raise UsageError(f"{flag} {path}: it is a folder; expected a file that longlag saved")
    if not Path(path).is_file():
        raise UsageError(f"{flag} {path}: there is no such file")
    return Path(path)


def check_folder(flag: str, path: str) -> Path:
    """The path of a folder that is to be made or used.

    Raises:
        UsageError: something else has its name.
    """
    target = Path(path)
    if target.exists() and not target.is_dir():
        raise UsageError(f"{flag} {path}: it is a file; expected a folder, or a new name")
    return target


def make_folder(flag: str, folder: Path) -> None:
    """Make a folder, and those that it lies in, where they are not there.

    Raises:
        UsageError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{flag} {folder}: cannot be made ({error.strerror})") from error
