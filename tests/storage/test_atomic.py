import contextlib
import errno
import os
from pathlib import Path

import pytest

from longlag.storage import atomic, atomic_write, previous_path, remove_leftovers


def put(content: bytes):
    def write(file) -> None:
        file.write(content)

    return write


class Cut(BaseException):
    """The process dies here: no `except Exception` may run on."""


CALLS = ("open", "fsync", "link", "replace")


class Tripwire:
    """Counts the system calls of `atomic` and dies before call number `fuse`."""

    def __init__(self, monkeypatch, fuse):
        self.count = 0
        self.fuse = fuse
        self.dead = False
        for name in CALLS:
            monkeypatch.setattr(atomic.os, name, self.guard(getattr(os, name)))
        real_unlink = Path.unlink

        def unlink(path, missing_ok=False):
            if not self.dead:  # a dead process cleans nothing
                real_unlink(path, missing_ok=missing_ok)

        monkeypatch.setattr(Path, "unlink", unlink)

    def guard(self, call):
        def guarded(*args, **kwargs):
            self.count += 1
            if self.count > self.fuse:
                self.dead = True
                raise Cut
            return call(*args, **kwargs)

        return guarded


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "file"
    atomic_write(path, put(b"one"))
    assert path.read_bytes() == b"one"
    atomic_write(path, put(b"two"))
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["file"]


def test_keeps_the_previous_file(tmp_path):
    path = tmp_path / "file"
    for content in (b"1", b"2", b"3"):
        atomic_write(path, put(content), keep_previous=True)
    assert path.read_bytes() == b"3"
    assert previous_path(path).read_bytes() == b"2"
    assert sorted(os.listdir(tmp_path)) == ["file", "file.previous"]


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        atomic_write(tmp_path / "file", put(b""))
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("keep", [False, True])
def test_a_crash_between_any_two_calls_leaves_old_or_new(tmp_path, keep):
    outcomes = []
    for fuse in range(100):
        folder = tmp_path / str(fuse)
        folder.mkdir()
        path = folder / "file"
        atomic_write(path, put(b"older"), keep_previous=keep)
        atomic_write(path, put(b"old"), keep_previous=keep)
        with pytest.MonkeyPatch.context() as patch:
            wire = Tripwire(patch, fuse)
            with contextlib.suppress(Cut):
                atomic_write(path, put(b"new"), keep_previous=keep)
        outcomes.append(path.read_bytes())
        assert outcomes[-1] in (b"old", b"new")
        if keep:
            kept = previous_path(path).read_bytes()
            assert kept in ((b"older", b"old") if outcomes[-1] == b"old" else (b"old",))
        if not wire.dead:
            break
        # The next write works, whatever was left, and keeps what the crash left.
        atomic_write(path, put(b"after"), keep_previous=keep)
        assert path.read_bytes() == b"after"
        if keep:
            assert previous_path(path).read_bytes() == outcomes[-1]
        remove_leftovers(path)
        assert sorted(os.listdir(folder)) == (["file", "file.previous"] if keep else ["file"])
    assert b"old" in outcomes[:-1]
    assert b"new" in outcomes[:-1]  # dying before the last fsync
    assert len(outcomes) == (8 if keep else 6)  # every gap was tried


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_call_leaves_no_temporary_file(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    atomic_write(path, put(b"old"))

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, call, full)
    with pytest.raises(OSError, match="No space left"):
        atomic_write(path, put(b"new"))
    assert os.listdir(tmp_path) == ["file"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failing_writer_leaves_no_temporary_file(tmp_path, error):
    path = tmp_path / "file"
    atomic_write(path, put(b"old"))

    def write(file) -> None:
        file.write(b"ne")
        raise error

    with pytest.raises(error):
        atomic_write(path, write, keep_previous=True)
    assert os.listdir(tmp_path) == ["file"]
    assert path.read_bytes() == b"old"


def test_without_hard_links_the_previous_file_is_a_copy(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(atomic.os, "link", refuse)
    path = tmp_path / "file"
    for content in (b"1", b"2", b"3"):
        atomic_write(path, put(content), keep_previous=True)
    assert previous_path(path).read_bytes() == b"2"
    assert sorted(os.listdir(tmp_path)) == ["file", "file.previous"]


def test_the_bytes_are_on_disk_before_the_name(tmp_path, monkeypatch):
    order = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)

        def logged(*args, name=name, real=real):
            is_folder = name == "fsync" and os.path.isdir(f"/proc/self/fd/{args[0]}")
            order.append("fsync folder" if is_folder else name)
            return real(*args)

        monkeypatch.setattr(atomic.os, name, logged)
    atomic_write(tmp_path / "file", put(b"x"))
    assert order == ["fsync", "replace", "fsync folder"]


def test_leftovers_of_other_files_stay(tmp_path):
    (tmp_path / ".file.0123.tmp").touch()
    (tmp_path / ".other.0123.tmp").touch()
    remove_leftovers(tmp_path / "file")
    assert os.listdir(tmp_path) == [".other.0123.tmp"]


def test_a_missing_folder_is_an_error(tmp_path):
    path = tmp_path / "absent" / "file"
    with pytest.raises(FileNotFoundError) as caught:
        atomic_write(path, put(b""))
    assert str(caught.value).startswith(f"{path}: there is no folder {path.parent}; make it first")


def test_an_error_names_the_file_and_not_the_temporary_one(tmp_path, monkeypatch):
    def refuse(path, *args):
        raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))

    monkeypatch.setattr(atomic.os, "open", refuse)
    with pytest.raises(PermissionError) as caught:
        atomic_write(tmp_path / "file", put(b""))
    assert caught.value.filename == str(tmp_path / "file")
