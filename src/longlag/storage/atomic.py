"""Files that are old or new and never half.

The order of the system calls is the whole idea: write a temporary file in the same folder, fsync
it, rename it over the target, fsync the folder. Rename is atomic within one file system
(POSIX.1-2017, `rename`), and the two fsyncs keep the rename from reaching the disk before the bytes
do (Pillai et al. 2014, "All file systems are not created equal", OSDI).

Known limits: Windows has no fsync of a folder, so there a power cut may undo the last rename; the
file is still old or new. A process killed between two calls may leave a temporary file behind;
`remove_leftovers` deletes those.
"""

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def previous_path(path: Path) -> Path:
    """Where `atomic_write(path, ..., keep_previous=True)` keeps the file that it replaced.

    >>> previous_path(Path("run/model.longlag")).name
    'model.longlag.previous'
    """
    return path.with_name(path.name + ".previous")


def atomic_write(
    path: Path, write: Callable[[BinaryIO], object], *, keep_previous: bool = False
) -> None:
    """Write a file so that at every instant `path` is the whole old file or the whole new one.

    Args:
        path: the file to create or replace; its folder must exist.
        write: is called once with a binary file open for writing.
        keep_previous: keep the file that is replaced as `previous_path(path)`. That one is replaced
            by a rename too, so once there are two good files there are never fewer.

    Raises:
        FileNotFoundError: the folder is missing.
        OSError: the disk is full, the folder is read-only; `path` is unchanged and no temporary
            file stays.

    Cost: the bytes once, two fsyncs (three with `keep_previous` on a file system without hard
        links).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "answer"
    ...     atomic_write(path, lambda file: file.write(b"42"))
    ...     path.read_bytes()
    b'42'
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"{path}: there is no folder {path.parent}; make it first, or give another path"
        )
    temporary = _temporary_path(path)
    try:
        _write_new(temporary, write)
        if keep_previous and path.exists():
            _keep(path)
        os.replace(temporary, path)
    except BaseException as error:
        if isinstance(error, OSError) and _is_of(error, temporary):
            error.filename = os.fspath(path)
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def remove_leftovers(path: Path) -> None:
    """Delete the temporary files that killed writers of `path` left beside it.

    Call it only where no other process may be writing `path` at the same time.
    """
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        leftover.unlink(missing_ok=True)


def atomic_write_text(path: Path, text: str) -> None:
    """The same for a text, in UTF-8; errors as for `atomic_write`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "answer"
    ...     atomic_write_text(path, "42")
    ...     path.read_text(encoding="utf-8")
    '42'
    """
    atomic_write(path, lambda file: file.write(text.encode()))


def _temporary_path(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def _is_of(error: OSError, path: Path) -> bool:
    """Whether an error of the system is one of this file: a write, unlike an open, names none."""
    return error.errno is not None and error.filename in (None, os.fspath(path))


def _write_new(path: Path, write: Callable[[BinaryIO], object]) -> None:
    # O_EXCL: a name that is already there is somebody else's. Mode 0o666 is cut down by the user's
    # umask, as open does.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, 0o666), "wb") as file:
        write(file)
        file.flush()
        os.fsync(file.fileno())


def _keep(path: Path) -> None:
    """Make `previous_path(path)` a second name of the present file, by a rename."""
    second = _temporary_path(path)
    try:
        try:
            os.link(path, second)
        except OSError:  # no hard links here (FAT, some network shares): a copy says the same
            with path.open("rb") as source:
                _write_new(second, lambda file: shutil.copyfileobj(source, file))
        os.replace(second, previous_path(path))
    finally:
        # Renaming one name of a file onto another name of the same file does nothing and leaves
        # both.
        second.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
