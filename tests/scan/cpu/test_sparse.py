"""A sparse W as the kernels read it: slots, windows, and tiles whose rows are turned."""

import re
from dataclasses import replace

import pytest
import torch
from tests.scan import cases
from tests.scan.cpu.test_plan import HOSTS, MULTIPLY_ADD, PLAIN, assembly_of, host_of

import longlag as ll
from longlag.scan.connections import Entries
from longlag.scan.cpu import forward, plan
from longlag.scan.cpu.sparse import CHAINS, TURN, form_of, slots_of

NOTHING, FULL = 0.0, 1.0


def entries_of(wires, hidden, density):
    generator = torch.Generator().manual_seed(hidden)
    there = torch.rand(wires * hidden, hidden, generator=generator) < density
    there[hidden // 2] = density == FULL  # a unit that reads nothing
    return Entries.of(there)


def windows_of(slots, lanes):
    """By window its first column and its places; the heads, as numbers of windows; and how many
    columns a window has."""
    heads, columns, chosen, _ = slots
    assert int(heads[-1]) == len(chosen) == CHAINS * len(columns)
    words = columns[:, CHAINS:].contiguous().view(torch.int16).int().unsqueeze(1)
    places = words >> 4 * torch.arange(CHAINS).view(1, -1, 1) & 15
    return columns[:, :CHAINS].flatten(), places.flatten(0, 1), heads, lanes


def triples_of(slots, lanes):
    """The same of triples."""
    heads, columns, chosen, _ = slots
    heads, firsts = heads.split([len(heads) - len(columns), len(columns)])
    assert int(heads[-1]) == len(columns) == len(chosen) // TURN
    assert columns.dtype == (torch.int32 if lanes == 16 else torch.int64)
    places = columns.unsqueeze(1) >> 5 * torch.arange(TURN).view(1, -1, 1) & 31
    both = torch.stack([firsts & (1 << 32) - 1, firsts >> 32], -1)
    first = both.repeat_interleave(TURN // 2, -1)
    return first.flatten(), places.flatten(0, 1), heads * TURN, 2 * lanes


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize(
    ("form", "lanes", "least"), [("windows", 8, 8), ("triples", 8, 16), ("triples", 16, 32)]
)
def test_windows_hold_every_entry_once_at_its_place(form, lanes, least, back):
    sizes = ((1, 0, 0.3), (2, 13, 0.2), (3, 8, FULL), (1, 29, NOTHING), (1, 92, 0.1))
    for wires, more, density in sizes:
        hidden = least + more
        entries = entries_of(wires, hidden, density)
        slots = slots_of(entries, form, lanes, back)
        first, places, heads, width = (windows_of if form == "windows" else triples_of)(
            slots, lanes
        )
        vectors = -(-hidden // lanes)
        values = torch.arange(1.0, len(entries.indices) + 1)
        numbers = slots.pack(values).view(-1, lanes)
        assert numbers.data_ptr() % 64 == 0
        matrix = torch.zeros(wires, hidden, hidden)
        assert len(heads) == wires * vectors + 1
        for vector in range(wires * vectors):
            wire, start = divmod(vector, vectors)
            start = min(start * lanes, hidden - lanes)
            matrix[wire, start : start + lanes] = 0  # the last vector does some units again
            for slot in range(heads[vector], heads[vector + 1]):
                assert 0 <= int(first[slot]) <= hidden - width
                assert int(places[slot].max()) < width
                at = first[slot] + places[slot]
                matrix[wire, range(start, start + lanes), at] += numbers[slot]
        expected = entries.dense(values).view(wires, hidden, hidden)
        assert torch.equal(matrix, expected.mT if back else expected)


def test_windows_are_taken_where_they_save_time_and_one_instruction_permutes():
    dense, thin = entries_of(1, 256, 0.2), entries_of(1, 256, 0.01)
    forms = [form_of(dense, *facts) for facts in ((False, 8), (False, 16), (True, 8))]
    assert forms == ["windows", "triples", "triples"]
    assert form_of(entries_of(1, 31, 0.2), False, 16) == "windows"  # no room for two vectors
    assert form_of(thin, False, 8) == "slots"
    for facts in ((False, 4), (True, 4), (True, 2), (False, 1)):
        assert form_of(dense, *facts) == "slots"


def test_many_rows_are_turned_in_tiles_that_cover_them():
    for few, most in plan.FEW_ROWS.items():
        for batch in (1, most, most + 1, 16, 20, 64):
            chosen = plan.choose(HOSTS["AVX2"][1], batch, 100, 1, double=False, sparse=few)
            assert chosen.sparse == ("turned" if batch > most else few)
            if batch > most:
                assert chosen.rows == (8 if batch <= 8 or batch == 20 else 16)
    two = plan.choose(HOSTS["AVX2"][1], 64, 100, 2, double=False, sparse="slots")
    assert two.sparse == "turned"
    assert -(-64 // two.rows) % 2 == 0  # nobody waits for the other
    chosen = plan.choose(HOSTS["AVX2"][1], 64, 100, 1, double=False, sparse="slots", turns=False)
    assert chosen.sparse == "slots"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "dtype"),
    [
        pytest.param(
            lambda **options: ll.EchoState(2, 37, leak=0.4, **options), torch.float32, id="windows"
        ),
        pytest.param(
            lambda **options: ll.Skip(2, 20, delays=(1, 3), **options), torch.float64, id="delays"
        ),
        pytest.param(
            lambda **options: ll.LSTM(2, 9, peepholes=True, **options),
            torch.float64,
            id="gates",
            marks=pytest.mark.long,
        ),
    ],
)
def test_states_and_gradients_are_those_of_the_reference(make, dtype):
    bound = 2e-5 if dtype is torch.float32 else 1e-12
    for replicas, batch, ragged in ((None, 2, False), (None, 35, False), (2, 11, True)):
        layer = make(density=0.3, seed=0, dtype=dtype, replicas=replicas)
        generator = torch.Generator().manual_seed(batch)
        front = (batch,) if replicas is None else (replicas, batch)
        x = torch.randn(*front, 13, 2, dtype=dtype, generator=generator)
        schedule = {
            "lengths": torch.randint(0, 14, front, generator=generator),
            "resets": torch.rand(*front, 13, generator=generator) < 0.1,
        }
        outcomes = []
        for backend in ("cpu", "reference"):
            layer.backend = backend
            inputs = x.clone().requires_grad_()
            output, _ = layer(inputs, **(schedule if ragged else {}))
            output.square().sum().backward()
            outcomes.append((output.detach(), inputs.grad))
        for mine, other in zip(*outcomes, strict=True):
            torch.testing.assert_close(mine, other, rtol=bound, atol=bound)


@pytest.mark.slow
def test_bits_are_the_same_again_and_on_two_threads():
    layer, threads = ll.EchoState(1, 200, seed=0, backend="cpu"), torch.get_num_threads()
    x = torch.randn(40, 60, 1, generator=torch.Generator().manual_seed(0))
    outputs = []
    try:
        for count in (1, 2, 2):
            torch.set_num_threads(count)
            outputs.append(layer(x)[0])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(output, outputs[0]) for output in outputs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["AVX2", "AVX-512", "NEON"])
def test_the_forms_for_other_processors(name, monkeypatch):
    recurrence = cases.CELLS["Elman"].recurrence
    chosen = plan.choose(
        host_of(name, monkeypatch), 20, 64, 1, double=False, sparse="slots", **PLAIN
    )
    text = assembly_of(forward.emit(recurrence, chosen, store=False), name, monkeypatch)
    assert chosen.sparse == "turned"
    assert len(re.findall(MULTIPLY_ADD[name], text)) >= chosen.rows // chosen.lanes
    if name != "NEON":
        forms = {"windows": r"vperm(?:d|ps)"}
        if name == "AVX-512":
            forms["triples"] = r"vperm[it]2(?:d|ps)"
        for form, instruction in forms.items():
            windows = replace(chosen, sparse=form, rows=1)
            text = assembly_of(forward.emit(recurrence, windows, store=False), name, monkeypatch)
            register = {"AVX2": "ymm", "AVX-512": "zmm"}[name]
            assert re.search(rf"{instruction}\s.*%{register}", text)
