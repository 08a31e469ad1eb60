"""The register tile: within the registers for every size, and for processors other than this."""

import functools
import itertools
import re
from dataclasses import replace

import llvmlite.binding as llvm
import pytest
from tests.scan import cases

from longlag.recurrence.lowered import lower
from longlag.scan.cpu import backward, forward, math_values, matrix, plan, target

HOSTS = {
    "AVX2": ("x86_64-unknown-linux-gnu", target.Host("haswell", "", 32, 16, True, False)),
    "AVX-512": (
        "x86_64-unknown-linux-gnu",
        target.Host("skylake-avx512", "+avx512vl", 64, 32, True, False),
    ),
    "NEON": ("aarch64-unknown-linux-gnu", target.Host("cortex-a76", "", 16, 32, True, True)),
    "SSE": ("x86_64-unknown-linux-gnu", target.Host("x86-64", "", 16, 16, False, False)),
}
PLAIN = {"ordered": False, "keep": False, "mask": False}
ALL = {"ordered": True, "keep": True, "mask": True}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("double", [False, True])
def test_a_tile_stays_in_the_registers_and_covers_the_units(name, double):
    host = HOSTS[name][1]
    lanes = host.vector_bytes // (8 if double else 4)
    sizes = itertools.product(
        (1, 4, 13, 25),
        (0, 1, 5, 100),
        (1, 7, 16, 17, 512),
        (1, 64),
    )
    for products, batch, hidden, threads in sizes:
        chosen = plan.choose(host, batch, hidden, threads, double=double, products=products)
        size = (products, batch, hidden, threads, chosen)
        accumulators = chosen.rows * chosen.vectors * chosen.chains
        # A weight and a state are operands beside them.
        assert accumulators + 2 <= host.registers, size
        assert 1 <= chosen.rows <= max(1, batch), size
        assert chosen.lanes <= min(lanes, hidden) < 2 * chosen.lanes or chosen.lanes == lanes, size
        assert 1 <= chosen.vectors <= -(-hidden // chosen.lanes), size
        assert chosen.chains in (1, 2, 4), size
        assert chosen.units == chosen.lanes * chosen.vectors, size
        assert (
            (chosen.blocks(hidden) - 1) * chosen.units
            < hidden
            <= (chosen.blocks(hidden) * chosen.units)
        ), size


@pytest.mark.parametrize("name", HOSTS)
def test_a_large_tile_fills_the_registers_and_a_small_one_has_chains(name):
    """Four cycles pass before a sum can be added to; two begin each cycle: so 8 at least."""
    host = HOSTS[name][1]
    for batch, hidden in ((60, 256), (1, 512), (1, 1), (2, 3)):
        chosen = plan.choose(host, batch, hidden, 1, double=False)
        tile = chosen.rows * chosen.vectors
        assert tile * chosen.chains >= min(8, 4 * tile), (batch, hidden, chosen)


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize(("drives", "together"), [(4, 4), (4, 3), (2, 2)])
def test_the_sums_of_all_drives_stay_in_the_registers(name, drives, together):
    host = HOSTS[name][1]
    for batch, hidden in itertools.product((4, 13, 32, 64), (5, 16, 64, 256)):
        given = {"double": False, "drives": drives, "together": together}
        chosen = plan.choose(host, batch, hidden, 1, **given)
        size = (batch, hidden, chosen)
        assert chosen.fused, size
        tile = chosen.rows * chosen.vectors
        # Beside the sums, what is added to some at the same time, and a number of a row.
        weights = chosen.vectors * together if chosen.rows > 1 else 0
        assert tile * drives * chosen.chains + weights + 1 <= host.registers, size
        assert tile * drives * chosen.chains >= 8, size
        assert chosen.even == (batch % chosen.rows == 0), size
    assert not plan.choose(host, 3, 64, 1, **given).fused
    assert not plan.choose(host, 7, 64, 2, **given).fused


@pytest.mark.parametrize("name", HOSTS)
def test_more_drives_than_registers_are_summed_one_after_the_other(name):
    host = HOSTS[name][1]
    for drives in (host.registers - 1, host.registers, 200):
        chosen = plan.choose(host, 8, 32, 1, double=False, drives=drives, together=drives)
        assert chosen.fused == (drives < host.registers)


def test_units_are_known_where_they_fill_up_to_four_vectors():
    host, sizes = HOSTS["AVX2"][1], (4, 8, 12, 16, 24, 32, 40, 64)
    known = [plan.choose(host, 32, hidden, 1, double=False).hidden for hidden in sizes]
    assert known == [0, 8, 0, 16, 24, 32, 0, 0]
    assert plan.choose(host, 32, 8, 1, double=True).hidden == 8
    assert plan.choose(HOSTS["AVX-512"][1], 32, 8, 1, double=False).hidden == 0


def test_weights_beyond_the_second_cache_are_asked_for_ahead():
    for name in HOSTS:
        choose = functools.partial(plan.choose, HOSTS[name][1], double=False)
        assert choose(32, 512, 1, products=4).ahead, name
        assert not choose(32, 64, 1, products=4).ahead, name
        assert not choose(1, 512, 1, products=4).ahead, name
        assert not choose(32, 512, 1, products=4, sparse="slots").ahead, name


def test_rows_are_enough_for_all_threads():
    for name, threads in itertools.product(HOSTS, (2, 4, 8)):
        chosen = plan.choose(HOSTS[name][1], 8, 512, threads, double=False)
        assert -(-8 // chosen.rows) >= threads, (name, chosen)


@pytest.mark.parametrize("schedule", [PLAIN, ALL, {**PLAIN, "keep": True}])
@pytest.mark.parametrize("double", [False, True])
def test_what_is_asked_for_is_in_the_plan(schedule, double):
    chosen = plan.choose(HOSTS["AVX2"][1], 4, 5, 1, double=double, **schedule)
    assert chosen.double == double
    assert {name: getattr(chosen, name) for name in schedule} == schedule


@pytest.mark.parametrize(
    ("batch", "threads", "ordered", "expected"),
    [(1, 1, False, "apart"), (3, 1, False, "apart"), (4, 1, False, "folded"),
     (7, 2, False, "apart"), (8, 2, False, "folded"), (1, 1, True, "folded")],
)  # fmt: skip
def test_the_input_of_few_sequences_is_a_product_of_its_own(batch, threads, ordered, expected):
    given = {"double": False, "ordered": ordered}
    host = HOSTS["AVX-512"][1]
    assert plan.choose(host, batch, 64, threads, has_input=True, **given).input == expected
    assert plan.choose(host, batch, 64, threads, **given).input == "drive"


def host_of(name, monkeypatch):
    """Another processor, for which the functions of equations are emitted from now on."""
    monkeypatch.setattr(math_values, "host", lambda: HOSTS[name][1])
    return HOSTS[name][1]


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


INPUTS = ("drive", "folded", "apart")


def emitted(kind, recurrence, chosen):
    if kind is forward:
        return forward.emit(recurrence, chosen, store=True)
    return backward.emit(recurrence, chosen)


@pytest.mark.every_cell
@pytest.mark.slow
@pytest.mark.parametrize("kind", [forward, backward], ids=["forward", "backward"])
@pytest.mark.parametrize(
    ("name", "cell", "double", "schedule"),
    [
        # All cells on one processor: which instructions there are is not a cell's affair.
        *(("AVX2", cell, True, ALL) for cell in ("Elman", "LSTM", "Mixed")),
        *(
            pytest.param("AVX2", cell, True, ALL, marks=pytest.mark.long)
            for cell in sorted(cases.CELLS.keys() - {"Elman", "LSTM", "Mixed"})
        ),
        *(("NEON", cell, False, ALL) for cell in cases.CELLS),
        *(("AVX-512", cell, False, PLAIN) for cell in ("Elman", "GRU", "Mixed")),
    ],
)
def test_kernels_for_other_processors(name, cell, double, schedule, kind, monkeypatch):
    """They compile, to wide multiply-adds, and call nothing but what they have the address of, and
    the memory functions of the C library, which are in every process."""
    recurrence = cases.CELLS[cell].recurrence
    dense = len(recurrence.dense_gates)
    schedule = {**schedule, "mask": schedule["mask"] and dense > 0}
    drives = max(len(stage.drives) for stage in lower(recurrence).stages)
    chosen = plan.choose(
        host_of(name, monkeypatch), 5, 21, 1, double=double, products=dense, drives=drives,
        together=drives, **schedule,
    )  # fmt: skip
    assert chosen.fused == (drives > 1)
    for source in INPUTS:
        if source == "apart" and chosen.ordered:
            continue
        text = assembly_of(
            emitted(kind, recurrence, replace(chosen, input=source)), name, monkeypatch
        )
        assert text.count(f"{kind.NAME}:") == 1
        calls = re.findall(r"^\s+(?:callq?|bl|blr|jmp)\s+(.*)$", text, re.MULTILINE)
        # Through a register or a place in memory, to itself, or to a place within.
        allowed = r"\*|x\d+$|\.L|longlag|mem(cpy|set|move)"
        assert [call for call in calls if not re.match(allowed, call)] == []
        if dense and (kind is forward or lower(recurrence).propagating):
            assert len(re.findall(MULTIPLY_ADD[name], text)) >= chosen.rows


@pytest.mark.parametrize("name", ["AVX2", "AVX-512", "NEON"])
@pytest.mark.parametrize("kept", [0, 3, 40])
def test_a_tile_of_halves(name, kept):
    """Two vectors are in one of words; sums that are there already leave room for the next."""
    processor = HOSTS[name][1]
    for hidden, batch in ((40, 1), (1000, 1), (1000, 2), (1000, 3)):
        chosen = plan.choose(
            processor, batch, hidden, 1, double=False, kept=kept, has_input=True, bfloat16=True
        )
        assert chosen.halves
        assert chosen.vectors % 2 == 0
        assert 2 * chosen.packed == chosen.units
        sums = chosen.rows * chosen.vectors
        if sums > 2:
            assert sums * (chosen.chains + kept) + chosen.vectors + 2 <= processor.registers
    many = plan.choose(processor, 4, 1000, 1, double=False, has_input=True, bfloat16=True)
    assert not many.halves
    resting = plan.choose(
        processor, 1, 64, 1, double=False, has_input=True, bfloat16=True, periods=(1, 2)
    )
    assert not resting.halves


@pytest.mark.slow
@pytest.mark.parametrize("kind", [forward, backward], ids=["forward", "backward"])
@pytest.mark.parametrize("name", ["AVX2", "AVX-512", "NEON"])
def test_kernels_of_halves_for_other_processors(name, kind, monkeypatch):
    """Words become numbers by a shift and a mask, which are vectors' too."""
    recurrence = cases.CELLS["GRU"].recurrence
    chosen = plan.choose(
        host_of(name, monkeypatch),
        1,
        200,
        1,
        double=False,
        products=3,
        kept=3,
        has_input=True,
        bfloat16=True,
    )
    text = assembly_of(emitted(kind, recurrence, chosen), name, monkeypatch)
    assert re.findall(r"^\s+(?:vpslld|shl)\s.*(?:[xyz]mm|\.4s)", text, re.MULTILINE)
    facts = matrix.Matrix(False, chosen.lanes, 2, HOSTS[name][1].registers, bfloat16=True,
                          halves=True)  # fmt: skip
    packs = assembly_of(matrix.emit(facts, matrix.PACKING), name, monkeypatch)
    assert re.findall(r"^(\w+):", packs, re.MULTILINE)[:2] == list(matrix.PACKING)
    assert re.findall(r"^\s+(?:callq?|bl|blr)\s.*$", packs, re.MULTILINE) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["AVX2", "AVX-512", "NEON"])
@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("side_by_side", [False, True])
def test_matrix_functions_for_other_processors(name, double, side_by_side, monkeypatch):
    host = HOSTS[name][1]
    lanes = host.lanes(8 if double else 4)
    lanes, networks = (1, lanes) if side_by_side else (lanes, 1)
    facts = matrix.Matrix(double, lanes, 2, host.registers, networks=networks)
    numbers, vectors = facts.outer_tile
    assert numbers * vectors + vectors + 1 <= host.registers
    assert facts.drive_rows * 2 + 2 + 1 <= host.registers
    text = assembly_of(matrix.emit(facts), name, monkeypatch)
    labels = re.findall(r"^(\w+):", text, re.MULTILINE)
    assert set(matrix.MATRIX) <= set(labels)
    assert re.findall(r"^\s+(?:callq?|bl|blr)\s.*$", text, re.MULTILINE) == []
    assert len(re.findall(MULTIPLY_ADD[name], text)) >= numbers * vectors
    for wide in (1,) if side_by_side else (1, 2, lanes):
        emitted = matrix.emit_send(double, lanes, wide, host.registers, networks)
        text = assembly_of(emitted, name, monkeypatch)
        assert text.count(f"{matrix.SEND}:") == 1
