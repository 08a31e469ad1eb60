"""The register tile: within the registers for every size, and for processors other than this."""

import itertools
import re

import llvmlite.binding as llvm
import pytest
from tests.scan import cases

from longlag.scan.cpu import backward, forward, plan, target
from longlag.scan.step import products as products_of

HOSTS = {
    "AVX2": ("x86_64-unknown-linux-gnu", target.Host("haswell", "", 32, 16, True)),
    "AVX-512": ("x86_64-unknown-linux-gnu", target.Host("skylake-avx512", "", 64, 32, True)),
    "NEON": ("aarch64-unknown-linux-gnu", target.Host("cortex-a76", "", 16, 32, True)),
    "SSE": ("x86_64-unknown-linux-gnu", target.Host("x86-64", "", 16, 16, False)),
}
PLAIN = {"lengths": False, "keep": False, "mask": False}
ALL = {"lengths": True, "keep": True, "mask": True}


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("double", [False, True])
def test_a_tile_stays_in_the_registers_and_covers_the_units(name, double):
    host = HOSTS[name][1]
    lanes = host.vector_bytes // (8 if double else 4)
    sizes = itertools.product(
        (1, 3, 4, 12, 13, 25),
        (0, 1, 2, 5, 100),
        (1, 7, 16, 17, 70, 512),
        (1, 3, 64),
    )
    for products, batch, hidden, threads in sizes:
        chosen = plan.choose(host, products, batch, hidden, threads, double=double, **PLAIN)
        size = (products, batch, hidden, threads, chosen)
        tile = chosen.rows * chosen.vectors
        accumulators = tile * chosen.chains * products
        # A weight and a state are operands beside them. Where even the smallest tile needs more
        # registers than there are, it is that one.
        assert accumulators + 2 <= host.registers or tile * chosen.chains == 1, size
        assert 1 <= chosen.rows <= max(1, batch), size
        assert chosen.lanes == lanes, size
        assert 1 <= chosen.vectors <= -(-hidden // lanes), size
        assert chosen.chains in (1, 2, 4), size
        assert chosen.units == lanes * chosen.vectors, size
        assert chosen.ragged_units == (hidden % chosen.units > 0), size
        assert chosen.ragged_lanes == (hidden % lanes > 0), size


@pytest.mark.parametrize("name", HOSTS)
def test_a_large_tile_fills_the_registers_and_a_small_one_has_chains(name):
    """Four cycles pass before a sum can be added to; two begin each cycle: so 8 at least."""
    host = HOSTS[name][1]
    for batch, hidden in ((60, 256), (1, 512), (1, 1), (2, 3)):
        chosen = plan.choose(host, 1, batch, hidden, 1, double=False, **PLAIN)
        tile = chosen.rows * chosen.vectors
        assert tile * chosen.chains >= min(8, 4 * tile), (batch, hidden, chosen)


def test_rows_are_enough_for_all_threads():
    for name, threads in itertools.product(HOSTS, (2, 4, 8)):
        chosen = plan.choose(HOSTS[name][1], 1, 8, 512, threads, double=False, **PLAIN)
        assert -(-8 // chosen.rows) >= threads, (name, chosen)


@pytest.mark.parametrize("schedule", [PLAIN, ALL, {**PLAIN, "keep": True}])
@pytest.mark.parametrize("double", [False, True])
def test_what_is_asked_for_is_in_the_plan(schedule, double):
    chosen = plan.choose(HOSTS["AVX2"][1], 3, 4, 5, 1, double=double, **schedule)
    assert chosen.double == double
    assert {name: getattr(chosen, name) for name in schedule} == schedule


def assembly_of(text, name, monkeypatch):
    """What the compiler of the backend makes of a kernel on another processor."""
    triple, host = HOSTS[name]
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(triple).create_target_machine(
        cpu=host.cpu, features=host.features, opt=3, reloc="pic", codemodel="jitdefault", jit=True
    )
    monkeypatch.setattr(
        machine, "emit_object", lambda module: machine.emit_assembly(module).encode()
    )
    monkeypatch.setattr(target, "_machine", lambda: machine)
    monkeypatch.setattr(target.llvm, "get_process_triple", lambda: triple)
    return target._compile(text).decode()


MULTIPLY_ADD = {"AVX2": r"vfn?m\w+\s.*%ymm", "AVX-512": r"vfn?m\w+\s.*%zmm", "NEON": r"fml[as]\s+v"}


@pytest.mark.parametrize("kind", [forward, backward], ids=["forward", "backward"])
@pytest.mark.parametrize(
    ("name", "cell", "double", "schedule"),
    [
        *(("AVX2", cell, True, ALL) for cell in cases.CELLS),
        *(("NEON", cell, False, ALL) for cell in cases.CELLS),
        *(("AVX-512", cell, False, PLAIN) for cell in ("Elman", "GRU", "Mixed")),
    ],
)
def test_kernels_for_other_processors(name, cell, double, schedule, kind, monkeypatch):
    """They compile, to wide multiply-adds, and call nothing: no libm, no library of ours."""
    recurrence = cases.CELLS[cell].recurrence
    dense = len(recurrence.dense_gates)
    products = dense if kind is forward else 1
    schedule = {**schedule, "mask": schedule["mask"] and dense > 0}
    chosen = plan.choose(HOSTS[name][1], products, 5, 21, 1, double=double, **schedule)
    text = assembly_of(kind.emit(recurrence, chosen), name, monkeypatch)
    assert text.count(f"{kind.NAME}:") == 1
    assert re.findall(r"^\s+(?:callq?|bl|blr)\s.*$", text, re.MULTILINE) == []
    if dense and (kind is forward or any(not p.truncated for p in products_of(recurrence))):
        assert len(re.findall(MULTIPLY_ADD[name], text)) >= chosen.rows
