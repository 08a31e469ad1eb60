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
        (target, "host", lambda: target.Host("other", host.features, 16, 16, True)),
        (target, "host", lambda: target.Host(host.cpu, "+other", 16, 16, True)),
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
    assert value_of(1.5) == 1.5
    assert value_of(2.5) == 2.5
    assert entries(tmp_path) == [entry]
    assert len(compiled) == 3


@posix
def test_a_folder_of_another_user_is_not_used(compiled, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
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
    assert value_of(1.5) == 1.5


def test_a_user_without_a_home_has_no_cache_and_no_error(compiled, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("LONGLAG_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(target.Path, "home", homeless)
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
for _ in range(5):
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
    assert run.stdout.strip() == "[0, 0, 0, 0, 0]", run.stderr
    # The forward and the backward kernel, and the matrix functions that they share.
    assert [entry.suffix for entry in entries(tmp_path)] == [".o", ".o", ".o"]
