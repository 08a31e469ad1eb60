"""Files that are old or new and never half.

The order of the system calls is the whole idea: write a temporary file in the same folder, fsync
it, rename it over the target, fsync the folder. Rename is atomic within one file system
(POSIX.1-2017, `rename`), and the two fsyncs keep the rename from reaching the disk before the bytes
do (Pillai et al. 2014, "All file systems are not created equal", OSDI).

Known limits: Windows has no fsync of a folder, so there a power cut may undo the last rename; the
file is still old or new. A process killed between two calls may leave a temporary file behind;
a later write of the same file deletes it when it is an hour old, `remove_leftovers` at once.
"""

import contextlib
import errno
import glob
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

_OLD = 3600.0
"""Seconds after which a temporary file is that of a killed writer: a write takes less."""

_LONG = 200
"""Bytes of a name from which on temporary files have a shorter one; most systems allow 255."""


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

    A file that is replaced hands on its permissions, and a symbolic link stays: what it leads to is
    replaced.

    Args:
        path: the file to create or replace; its folder must exist.
        write: is called once with a binary file open for writing.
        keep_previous: keep the file that is replaced as `previous_path(path)`. That one is replaced
            by a rename too, so once there are two good files there are never fewer.

    Raises:
        FileNotFoundError: the folder is missing.
        OSError: the disk is full, the folder is read-only, `path` is a folder, a pipe or a device;
            it is unchanged and no temporary file stays.

    Cost: the bytes once, two fsyncs (three with `keep_previous` on a file system without hard
        links).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "answer"
    ...     atomic_write(path, lambda file: file.write(b"42"))
    ...     path.read_bytes()
    b'42'
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(
            f"{path}: there is no folder {target.parent}; make it first, or give another path"
        )
    mode = _mode(path)
    temporary = _temporary_path(target)
    try:
        _write_new(temporary, write, mode)
        _remove_old(temporary, target)
        if keep_previous and mode is not None:
            _keep(target, path)
        os.replace(temporary, target)
    except BaseException as error:
        if isinstance(error, OSError) and _is_of(error, temporary):
            error.filename = os.fspath(path)
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def read_file(path: Path) -> bytes:
    """The bytes of a file; what has no end, or waits for a writer, is none.

    Raises:
        OSError: it is missing or unreadable, a folder, a pipe or a device.

    >>> read_file(Path(os.devnull))
    Traceback (most recent call last):
    OSError: /dev/null: is a device, expected a file; give the path of one
    """

    def at_once(name: str, flags: int) -> int:  # without waiting for one who writes to a pipe
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    with open(path, "rb", opener=at_once) as file:
        _check_kind(path, os.fstat(file.fileno()).st_mode)
        return file.read()


def remove_leftovers(path: Path) -> None:
    """Delete the temporary files that killed writers of `path` left beside it.

    Call it only where no other process may be writing `path` at the same time.
    """
    for place in {path, Path(os.path.realpath(path))}:
        for leftover in _leftovers(place):
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


def _mode(path: Path) -> int | None:
    """The permissions of the file that is there; None without one.

    Raises:
        OSError: what is there is no file.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return None
    _check_kind(path, mode)
    return mode & 0o777


_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


def _check_kind(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "a device")
        raise OSError(f"{path}: is {kind}, expected a file; give the path of one")


def _stem(path: Path) -> str:
    """What the names of the temporary files of a path begin with."""
    name = path.name
    if len(os.fsencode(name)) > _LONG:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return f".{name}."


def _temporary_path(path: Path) -> Path:
    return path.with_name(f"{_stem(path)}{secrets.token_hex(8)}.tmp")


def _leftovers(path: Path) -> Iterator[Path]:
    return path.parent.glob(f"{glob.escape(_stem(path))}*.tmp")


def _remove_old(fresh: Path, path: Path) -> None:
    """Delete what killed writers left; its age is by the clock of the file system, not by ours."""
    with contextlib.suppress(OSError):
        now = fresh.stat().st_mtime
        for leftover in _leftovers(path):
            if leftover.lstat().st_mtime < now - _OLD:
                leftover.unlink(missing_ok=True)


def _is_of(error: OSError, path: Path) -> bool:
    """Whether an error of the system is one of this file: a write, unlike an open, names none."""
    return error.errno is not None and error.filename in (None, os.fspath(path))


def _write_new(path: Path, write: Callable[[BinaryIO], object], mode: int | None = None) -> None:
    # O_EXCL: a name that is already there is somebody else's. Mode 0o666 is cut down by the user's
    # umask, as open does.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, 0o666 if mode is None else mode & 0o666), "wb") as file:
        if mode is not None and hasattr(os, "fchmod"):
            with contextlib.suppress(OSError):  # some network shares have no permissions
                os.fchmod(file.fileno(), mode)
        write(file)
        file.flush()
        os.fsync(file.fileno())


def _keep(present: Path, path: Path) -> None:
    """Make `previous_path(path)` a second name of the present file, by a rename."""
    second = _temporary_path(path)
    try:
        try:
            os.link(present, second)
        except OSError:  # no hard links here (FAT, some network shares): a copy says the same
            with present.open("rb") as source:
                _write_new(second, lambda file: shutil.copyfileobj(source, file), _mode(present))
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
