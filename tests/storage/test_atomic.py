import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from longlag.storage import (
    ArchiveError,
    atomic,
    atomic_write,
    atomic_write_text,
    previous_path,
    read_archive,
    remove_leftovers,
    write_archive,
)

posix = pytest.mark.skipif(os.name != "posix", reason="modes, links and pipes are POSIX")


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


@posix
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o664, 0o666])
def test_a_file_that_is_replaced_hands_on_its_permissions(tmp_path, mode, keep):
    path = tmp_path / "file"
    for content in (b"old", b"new", b"newer"):
        atomic_write(path, put(content), keep_previous=keep)
        if content == b"old":
            path.chmod(mode)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert not keep or stat.S_IMODE(previous_path(path).stat().st_mode) == mode


@posix
def test_nobody_else_can_read_a_private_file_while_it_is_written(tmp_path):
    path = tmp_path / "file"
    atomic_write(path, put(b"old"))
    path.chmod(0o600)
    modes = []
    atomic_write(path, lambda file: modes.append(os.fstat(file.fileno()).st_mode & 0o777))
    assert modes == [0o600]


@posix
def test_a_copy_kept_without_hard_links_has_the_permissions_too(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EPERM, "Operation not permitted")

    path = tmp_path / "file"
    atomic_write(path, put(b"old"))
    path.chmod(0o600)
    monkeypatch.setattr(atomic.os, "link", refuse)
    atomic_write(path, put(b"new"), keep_previous=True)
    assert previous_path(path).stat().st_mode & 0o777 == 0o600


@posix
@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("relative", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path, there, relative):
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "target", tmp_path / "link"
    if there:
        target.write_bytes(b"old")
    link.symlink_to("far/target" if relative else target)
    second = tmp_path / "second"
    second.symlink_to(link)
    atomic_write(second, put(b"new"), keep_previous=True)
    assert link.is_symlink()
    assert second.is_symlink()
    assert target.read_bytes() == b"new"
    assert not target.is_symlink()
    assert os.listdir(tmp_path / "far") == ["target"]
    assert previous_path(second).exists() == there
    assert not there or previous_path(second).read_bytes() == b"old"


@posix
def test_a_link_to_nowhere_is_an_error_and_stays(tmp_path):
    away, loop = tmp_path / "away", tmp_path / "loop"
    away.symlink_to(tmp_path / "absent" / "file")
    loop.symlink_to(loop)
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*absent; make it first"):
        atomic_write(away, put(b""))
    with pytest.raises(OSError, match="loop"):
        atomic_write(loop, put(b""))
    assert away.is_symlink()
    assert loop.is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["away", "loop"]


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    here = os.getcwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.chdir(here)


def make_link_to_device(path):
    path.symlink_to(os.devnull)


NO_FILES = {
    "pipe": (make_pipe, "is a pipe, expected a file"),
    "socket": (make_socket, "is a socket, expected a file"),
    "device": (make_link_to_device, "is a device, expected a file"),
    "folder": (os.mkdir, "Is a directory"),
}


@posix
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_not_replaced(tmp_path, kind):
    make, message = NO_FILES[kind]
    path = tmp_path / "name"
    make(path)
    before = path.lstat()
    for write in (
        lambda: atomic_write(path, put(b"new")),
        lambda: atomic_write(path, put(b"new"), keep_previous=True),
        lambda: atomic_write_text(path, "new"),
        lambda: write_archive(path, "example", None, {}),
    ):
        with pytest.raises(OSError, match=message) as caught:
            write()
        assert str(path) in str(caught.value)
    assert path.lstat().st_ino == before.st_ino
    assert os.listdir(tmp_path) == ["name"]


@posix
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_not_read(tmp_path, kind):
    make, message = NO_FILES[kind]
    make(tmp_path / "name")
    with pytest.raises(OSError, match=message):
        read_archive(tmp_path / "name", "example")


@pytest.mark.parametrize("name", ["a" * 255, "a" * 234, "\u00e9" * 127, "a" * 201, "a" * 200])
def test_names_as_long_as_the_system_allows(tmp_path, name):
    path = tmp_path / name
    try:
        path.touch()
    except OSError:
        pytest.skip("this file system has shorter names")
    for content in (b"one", b"two"):
        atomic_write(path, put(content))
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == [name]
    with pytest.raises(ArchiveError, match="cut short"):
        read_archive(path, "example")


@pytest.mark.parametrize("name", ["file", "a" * 240, "run[1]*?"])
def test_what_a_killed_writer_left_goes_when_it_is_old(tmp_path, name):
    path, folder = tmp_path / name, tmp_path
    for age, fuse in ((0, 1), (7200, 1)):
        before = set(folder.iterdir())
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Cut):
            Tripwire(patch, fuse)
            atomic_write(path, put(b"half"))
        (leftover,) = set(folder.iterdir()) - before
        when = leftover.stat().st_mtime - age
        os.utime(leftover, (when, when))
    other = folder / ".other.0123.tmp"
    other.touch()
    os.utime(other, (0, 0))
    assert len([*folder.iterdir()]) == 3
    atomic_write(path, put(b"new"))
    assert len([*folder.iterdir()]) == 3  # the new one may be another writer's
    assert leftover not in folder.iterdir()
    remove_leftovers(path)
    assert set(folder.iterdir()) == {path, other}


@posix
def test_leftovers_beside_what_a_link_leads_to_go_too(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "target")
    (tmp_path / "far" / ".target.0123.tmp").touch()
    (tmp_path / ".link.0123.tmp").touch()
    remove_leftovers(tmp_path / "link")
    assert os.listdir(tmp_path / "far") == []
    assert sorted(os.listdir(tmp_path)) == ["far", "link"]
