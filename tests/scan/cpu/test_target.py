"""The cache of compiled kernels: private, and no worse than none whatever lies in it."""

import ctypes
import os
import stat
import subprocess
import sys
import tempfile
import time

import pytest
from llvmlite import ir
from tests.scan import cases

from longlag.scan.cpu import backward, forward, plan, target

posix = pytest.mark.skipif(os.name != "posix", reason="modes and fork are POSIX")


KINDS = {
    "forward": lambda *given: forward.emit(*given, store=False),
    "store": lambda *given: forward.emit(*given, store=True),
    "backward": backward.emit,
}
"""What emits each kind of kernel."""


def module_of(number):
    """A function that stores a number."""
    module = ir.Module("test")
    pointer = ir.DoubleType().as_pointer()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer]), "put")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.store(ir.Constant(ir.DoubleType(), number), function.args[0])
    builder.ret_void()
    return str(module)


def value_of(number):
    put = target.compile_functions(module_of(number), {"put": [ctypes.c_void_p]})["put"]
    result = ctypes.c_double()
    put(ctypes.byref(result))
    return result.value


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """An empty cache and no kernel in memory; gives the list of modules that are compiled."""
    monkeypatch.setenv("LONGLAG_CACHE", str(tmp_path))
    monkeypatch.setattr(target, "_ENGINES", {})
    target._say.cache_clear()
    texts, compile_text = [], target._compile
    monkeypatch.setattr(target, "_compile", lambda text: texts.append(text) or compile_text(text))
    return texts


def anew():
    """As in another process: nothing in memory."""
    target._ENGINES.clear()


def entries(tmp_path):
    return sorted((tmp_path / "longlag" / "kernels").glob("*"))


def test_a_kernel_is_compiled_once_and_read_from_then_on(compiled, tmp_path):
    assert value_of(1.5) == 1.5
    assert value_of(1.5) == 1.5
    assert len(target._ENGINES) == 1  # equal modules share one
    anew()
    assert value_of(1.5) == 1.5
    assert len(compiled) == len(entries(tmp_path)) == 1
    assert value_of(2.5) == 2.5
    assert len(compiled) == len(entries(tmp_path)) == 2


def test_a_key_depends_on_all_that_the_code_depends_on(monkeypatch):
    host = target.host()
    keys = {target._key(module_of(1.0)), target._key(module_of(2.0))}
    for module, name, value in (
        (target, "host", lambda: target.Host("other", host.features, 16, 16, True, False)),
        (target, "host", lambda: target.Host(host.cpu, "+other", 16, 16, True, False)),
        (target, "_FORMAT", target._FORMAT + 1),
        (target.llvmlite, "__version__", "0.0"),
        (target.llvm, "llvm_version_info", (0, 0, 0)),
        (target.llvm, "get_process_triple", lambda: "riscv64-unknown-linux-gnu"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, value)
            keys.add(target._key(module_of(1.0)))
    assert len(keys) == 8


@pytest.mark.slow
def test_every_plan_and_cell_has_a_key_of_its_own():
    keys, count = set(), 0
    for name in ("Elman", "Elman relu", "GRU"):
        recurrence = cases.CELLS[name].recurrence
        for double in (False, True):
            for ordered in (False, True):
                for batch in (1, 5):
                    chosen = plan.choose(
                        target.host(), batch, 5, 1, double=double, ordered=ordered, has_input=True
                    )
                    for kind in KINDS.values():
                        keys.add(target._key(kind(recurrence, chosen)))
                        count += 1
    assert len(keys) == count


@posix
def test_the_folder_and_its_entries_are_private(compiled, tmp_path):
    value_of(1.5)
    folder = tmp_path / "longlag" / "kernels"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(entry.stat().st_mode) for entry in entries(tmp_path)] == [0o600]


@posix
@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702])
def test_a_folder_that_others_may_write_is_not_used(compiled, tmp_path, mode):
    folder = tmp_path / "longlag" / "kernels"
    value_of(1.5)
    (entry,) = entries(tmp_path)
    folder.chmod(mode)
    anew()
    with pytest.warns(RuntimeWarning, match=f"kernels can be written by others .mode {mode:o}"):
        assert value_of(1.5) == 1.5
    assert value_of(2.5) == 2.5  # which is said once
    assert entries(tmp_path) == [entry]
    assert len(compiled) == 3


@posix
@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("mode", [0o777, 0o707, 0o757])
def test_a_folder_within_one_that_others_may_write_is_not_used(
    compiled, tmp_path, monkeypatch, mode, depth
):
    base = tmp_path / "outer" / "cache"
    monkeypatch.setenv("LONGLAG_CACHE", str(base))
    value_of(1.5)
    (entry,) = entries(base)
    wide = [tmp_path / "outer", base, base / "longlag"][depth]
    wide.chmod(mode)
    anew()
    with pytest.warns(RuntimeWarning, match=f"{wide} can be written by others"):
        assert value_of(1.5) == 1.5
    assert entries(base) == [entry]
    assert len(compiled) == 2
    wide.chmod(mode | stat.S_ISVTX)  # as /tmp: others can replace nothing in it
    anew()
    assert value_of(1.5) == 1.5
    assert len(compiled) == 2


@posix
def test_nothing_is_made_in_a_folder_that_others_may_write(compiled, tmp_path):
    tmp_path.chmod(0o777)
    with pytest.warns(RuntimeWarning, match="compiled kernels are not kept"):
        value_of(1.5)
    assert os.listdir(tmp_path) == []


@posix
@pytest.mark.parametrize("group", ["own", "shared"])
def test_a_group_may_write_around_it_if_it_is_the_users_own(compiled, tmp_path, monkeypatch, group):
    tmp_path.chmod(0o775)
    monkeypatch.setattr(target, "_is_own_group", lambda number: group == "own")
    if group == "own":
        value_of(1.5)
    else:
        with pytest.warns(RuntimeWarning, match="can be written by others .mode 775"):
            value_of(1.5)
    assert len(entries(tmp_path)) == (group == "own")


@posix
@pytest.mark.parametrize("name", ["longlag", "longlag/kernels"])
def test_a_link_in_place_of_a_folder_is_not_followed(compiled, tmp_path, name):
    value_of(1.5)
    folder, elsewhere = tmp_path / name, tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    anew()
    with pytest.warns(RuntimeWarning, match=f"{folder} is no folder"):
        assert value_of(1.5) == 1.5
    assert len(compiled) == 2


@posix
def test_the_base_may_be_a_link_and_what_it_leads_to_is_checked(compiled, tmp_path, monkeypatch):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.setenv("LONGLAG_CACHE", str(tmp_path / "link"))
    value_of(1.5)
    assert len(entries(tmp_path / "real")) == 1
    (tmp_path / "real").chmod(0o777)
    with pytest.warns(RuntimeWarning, match="real can be written by others"):
        value_of(2.5)
    assert len(entries(tmp_path / "real")) == 1


@posix
@pytest.mark.parametrize("variable", ["LONGLAG_CACHE", "XDG_CACHE_HOME"])
@pytest.mark.parametrize("base", [".", "cache", "~/cache"])
def test_a_relative_folder_is_not_used(compiled, tmp_path, monkeypatch, variable, base):
    monkeypatch.delenv("LONGLAG_CACHE")
    monkeypatch.setenv(variable, base)
    monkeypatch.chdir(tmp_path)
    with pytest.warns(RuntimeWarning, match=f"{variable} is '{base}', expected an absolute path"):
        assert value_of(1.5) == 1.5
    assert value_of(2.5) == 2.5
    assert os.listdir(tmp_path) == []


def as_link(entry, whole):
    (entry.parent / "elsewhere").write_bytes(whole)
    entry.symlink_to("elsewhere")


def as_pipe(entry, whole):
    os.mkfifo(entry)


def as_file_of_all(entry, whole):
    entry.write_bytes(whole)
    entry.chmod(0o666)


def as_file_of_a_group(entry, whole):
    entry.write_bytes(whole)
    entry.chmod(0o620)


@posix
@pytest.mark.parametrize("make", [as_link, as_pipe, as_file_of_all, as_file_of_a_group])
def test_an_entry_that_another_may_have_made_is_compiled_anew_and_replaced(
    compiled, tmp_path, make
):
    value_of(1.5)
    (entry,) = entries(tmp_path)
    whole = entry.read_bytes()
    entry.unlink()
    make(entry, whole)
    anew()
    assert value_of(1.5) == 1.5
    assert len(compiled) == 2
    status = entry.lstat()
    assert stat.S_ISREG(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert entry.read_bytes() == whole


@posix
def test_an_entry_of_another_user_is_compiled_anew(compiled, tmp_path, monkeypatch):
    value_of(1.5)
    (entry,) = entries(tmp_path)
    real = os.fstat

    def of_another(descriptor):
        status = list(real(descriptor))
        status[4] += 1
        return os.stat_result(status)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", of_another)
        assert target._read(entry) is None
    assert target._read(entry) is not None


@posix
@pytest.mark.parametrize("name", ["", "longlag", "longlag/kernels"])
def test_a_folder_of_another_user_around_it_is_not_used(compiled, tmp_path, monkeypatch, name):
    value_of(1.5)
    real, theirs = os.lstat, tmp_path / name

    def lstat(path):
        status = list(real(path))
        status[4] = 12345 if path == theirs else status[4]
        return os.stat_result(status)

    anew()
    monkeypatch.setattr(os, "lstat", lstat)
    with pytest.warns(RuntimeWarning, match=f"{theirs} belongs to user 12345"):
        assert value_of(1.5) == 1.5
    assert len(compiled) == 2


@posix
def test_a_folder_of_another_user_is_not_used(compiled, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.warns(RuntimeWarning, match="belongs to user"):
        assert value_of(1.5) == 1.5
    assert entries(tmp_path) == []


DAMAGE = {
    "empty": lambda data: b"",
    "digest alone": lambda data: data[:32],
    "short": lambda data: data[:-1],
    "long": lambda data: data + b"\0",
    "half": lambda data: data[: len(data) // 2],
    "one bit": lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
    "no digest": lambda data: data[32:],
    "zeros": lambda data: bytes(len(data)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_compiled_anew_and_replaced(compiled, tmp_path, damage):
    value_of(1.5)
    (entry,) = entries(tmp_path)
    whole = entry.read_bytes()
    entry.write_bytes(DAMAGE[damage](whole))
    anew()
    assert value_of(1.5) == 1.5
    assert len(compiled) == 2
    assert entries(tmp_path) == [entry]
    assert entry.read_bytes() == whole


def test_an_entry_under_the_name_of_another_is_not_taken_for_it(compiled, tmp_path):
    value_of(1.5)
    (first,) = entries(tmp_path)
    value_of(2.5)
    (second,) = set(entries(tmp_path)) - {first}
    second.write_bytes(first.read_bytes())
    anew()
    assert value_of(2.5) == 2.5
    assert len(compiled) == 3


def test_half_a_file_of_a_stopped_process_does_no_harm(compiled, tmp_path):
    value_of(1.5)
    (entry,) = entries(tmp_path)
    (entry.parent / ".kernel-half").write_bytes(entry.read_bytes()[:50])
    anew()
    assert value_of(1.5) == 1.5
    assert len(compiled) == 1


def fail(*arguments, **options):
    raise PermissionError("not allowed")


@pytest.mark.parametrize(("module", "name"), [(tempfile, "mkstemp"), (os, "replace")])
def test_a_cache_that_cannot_be_written_is_no_error(compiled, tmp_path, monkeypatch, module, name):
    monkeypatch.setattr(module, name, fail)
    assert value_of(1.5) == 1.5
    anew()
    assert value_of(1.5) == 1.5
    assert len(compiled) == 2
    assert entries(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_no_error(compiled, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LONGLAG_CACHE", str(tmp_path / "file"))
    with pytest.warns(RuntimeWarning, match="file is no folder"):
        assert value_of(1.5) == 1.5


def test_a_user_without_a_home_has_no_cache_and_no_error(compiled, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("LONGLAG_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(target.Path, "home", homeless)
    with pytest.warns(RuntimeWarning, match="not kept .Could not determine home directory"):
        assert value_of(1.5) == 1.5


def test_the_folder_is_where_one_expects_it(compiled, tmp_path, monkeypatch):
    monkeypatch.delenv("LONGLAG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    value_of(1.5)
    assert len(entries(tmp_path / "xdg")) == 1
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(target.Path, "home", lambda: tmp_path / "home")
    value_of(2.5)
    assert len(entries(tmp_path / "home" / ".cache")) == 1


def test_text_that_is_no_module_is_an_error_and_leaves_nothing(compiled, tmp_path):
    with pytest.raises(RuntimeError, match="parsing error"):
        target.compile_functions("define nothing", {})
    assert entries(tmp_path) == []
    assert value_of(1.5) == 1.5


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_compiling_takes_no_long_time(compiled, kind):
    chosen = plan.choose(
        target.host(), 20, 70, 1, double=False, ordered=True, keep=True, mask=True, has_input=True
    )
    text = KINDS[kind](cases.Mixed().recurrence, chosen)
    start = time.perf_counter()
    target._compile(text)
    assert time.perf_counter() - start < 5


def test_a_llvmlite_without_some_pass_compiles_by_the_usual_ones(compiled, monkeypatch):
    monkeypatch.setattr(target, "_PASSES", ("sroa", "of_another_version"))
    assert value_of(1.5) == 1.5


AT_ONCE = """
import os, sys, time
import torch
import longlag as ll

layer = ll.GRU(2, 5, seed=0, dtype=torch.float64)
x = torch.linspace(-1, 1, 3 * 4 * 2, dtype=torch.float64).view(3, 4, 2)

def gradients(backend):
    layer.backend = backend
    output, state = layer(x)
    return torch.autograd.grad(output.sin().sum() + state.h.sum(), list(layer.parameters()))

expected = gradients("reference")
start = time.time() + 0.3
children = []
for _ in range(3):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            time.sleep(max(0.0, start - time.time()))
            for mine, theirs in zip(gradients("cpu"), expected, strict=True):
                torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)
            status = 0
        finally:
            os._exit(status)
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""


@pytest.mark.slow
@posix
def test_processes_that_compile_the_same_at_once_are_all_right(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", AT_ONCE],
        env={**os.environ, "LONGLAG_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.stdout.strip() == "[0, 0, 0]", run.stderr
    # The forward and the backward kernel, and the matrix functions that they share.
    assert [entry.suffix for entry in entries(tmp_path)] == [".o", ".o", ".o"]


@posix
@pytest.mark.parametrize(
    ("name", "members", "own"),
    [
        ("ada", [], True),
        ("ada", ["ada"], True),
        ("ada", ["bob"], False),
        ("users", [], False),
        (None, [], False),
    ],
)
def test_a_group_is_the_users_own_if_it_has_the_name_and_nobody_else(
    monkeypatch, name, members, own
):
    import grp
    import pwd

    def getgrgid(number):
        if name is None:
            raise KeyError(number)
        return grp.struct_group((name, "x", number, members))

    user = pwd.struct_passwd(("ada", "x", os.getuid(), 7, "", "/home/ada", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda number: user)
    monkeypatch.setattr(grp, "getgrgid", getgrgid)
    assert target._is_own_group(7) == own
