"""Exact runs are those of fractions; float64 is never off where the certificate says so."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import longlag as ll
from longlag.recurrence.arithmetic import EXACT
from longlag.turing import Certificate, ExactRun


def drawn(data: st.DataObject, units: int) -> ll.Elman:
    """A network of few weights, all multiples of 1/8."""
    layer = ll.Elman(0, units, activation="saturated", dtype=torch.float64)
    eighths = st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4, 8, 16, 32, -1, -4, -8, -16])
    with torch.no_grad():
        for tensor in (layer.weight_hh, layer.bias):
            numbers = data.draw(st.lists(eighths, min_size=tensor.numel(), max_size=tensor.numel()))
            tensor.copy_(torch.tensor(numbers).view(tensor.shape) / 8)
    return layer


def by_fractions(layer: ll.Elman, state: list[Fraction]) -> list[Fraction]:
    program = layer.recurrence.forward
    rows, bias = layer.weight_hh.tolist(), layer.bias.tolist()
    drives = [
        sum((Fraction(w) * h for w, h in zip(row, state, strict=True)), Fraction(b))
        for row, b in zip(rows, bias, strict=True)
    ]
    return [Fraction(program.evaluate(EXACT, [drive, Fraction(0)][: len(program.inputs)])[0])
            for drive in drives]  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.data(), st.integers(2, 5))
def test_any_saturated_network_is_run_exactly(data, units):
    layer = drawn(data, units)
    fraction = st.fractions(0, 1, max_denominator=12)
    state = data.draw(st.lists(fraction, min_size=units, max_size=units))
    window = data.draw(st.sampled_from([1, 4, 8]))
    run = ExactRun(layer, dict(enumerate(state)), window=window)
    dyadic = all(n.denominator in (1, 2, 4, 8) for n in state)
    floats = np.array([[float(n) for n in state]])
    certificate = Certificate(layer)
    for _ in range(8):
        state = by_fractions(layer, state)
        assert run.run(1) == 1
        assert run.state == {unit: number for unit, number in enumerate(state) if number}
        if dyadic:
            dyadic = certificate.exact_steps(floats) == 1
            before = torch.from_numpy(floats)
            output, _ = layer(torch.zeros(1, 1, 0, dtype=torch.float64), layer.state_of((before,)))
            floats = output[0].detach().numpy()
            if dyadic:
                assert [Fraction(number) for number in floats[0].tolist()] == state
    assert run.updates == 8


def test_the_certificate_stops_where_the_bits_end():
    # h' = h / 4 + 1/2: two more bits each time, until 53 do not hold them.
    layer = ll.Elman(0, 1, activation="saturated", dtype=torch.float64)
    with torch.no_grad():
        layer.weight_hh.fill_(0.25)
        layer.bias.fill_(0.5)
    x = torch.zeros(1, 40, 0, dtype=torch.float64)
    states = torch.cat([torch.zeros(1, 1, dtype=torch.float64), layer(x)[0][0].detach()])
    exact = [Fraction(0)]
    for _ in range(40):
        exact.append(exact[-1] / 4 + Fraction(1, 2))
    right = [Fraction(number) == own for number, own in
             zip(states[:, 0].tolist(), exact, strict=True)]  # fmt: skip
    first_wrong = right.index(False)
    steps = Certificate(layer).exact_steps(states.numpy())
    assert first_wrong - 2 <= steps < first_wrong
    assert Certificate(layer).exact_steps(states.numpy()[:5]) == 5


def test_other_networks_are_refused():
    for layer in (ll.Elman(0, 2), ll.Elman(0, 2, activation="sigmoid")):
        with pytest.raises(ValueError, match=r"expected Elman\(0, H, activation='saturated'\)"):
            ExactRun(layer, {})
    layer = ll.Elman(0, 2, activation="saturated")
    with pytest.raises(ValueError, match=r"a number outside \[0, 1\]"):
        ExactRun(layer, {0: Fraction(2)})
