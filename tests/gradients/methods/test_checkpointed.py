"""CheckpointedBPTT: the bits of BPTT, within its budget."""

import contextlib
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.gradients.models import CELLS, MODELS, make, problem
from torch import nn

import longlag as ll
from longlag.gradients.methods import checkpointed
from longlag.gradients.methods.checkpointed import plan
from longlag.layers import readout
from longlag.scan.cpu import shape

mse = nn.functional.mse_loss


@contextlib.contextmanager
def stretched(stretch, rows):
    """Stretches and products of few rows, so that short sequences have several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readout, "STRETCH", stretch)
        patch.setattr(shape, "COLLECTED", 1)
        patch.setattr(shape, "LEAST_ROWS", rows)
        yield


def both(model, budget, steps, batch=3, seed=0, **options):
    x, target, lengths, resets = problem(model, steps=steps, batch=batch, seed=seed)
    given = {"lengths": lengths, "resets": resets, **options}
    return (
        ll.CheckpointedBPTT(budget).gradients(model, x, target, mse, **given),
        ll.BPTT().gradients(model, x, target, mse, **given),
    )


def assert_equal(found, wanted):
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        # Equal to the bit; NaN is NaN: the test's own cell squares, and can leave the numbers.
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=0, equal_nan=True)


@pytest.mark.every_cell
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "reduce"), [*((kind, None) for kind in MODELS), ("LSTM", "last"), ("own", "mean")]
)
@settings(max_examples=4, deadline=None)
@given(data=st.data())
def test_it_is_bptt_bit_for_bit(kind, reduce, data):
    steps = data.draw(st.integers(0, 30), label="steps")
    stretch = data.draw(st.integers(1, 4), label="stretch")
    budget = data.draw(st.integers(stretch + 1, 20), label="budget")
    rows = data.draw(st.integers(1, 20), label="rows")
    batch = data.draw(st.integers(1, 9), label="batch")
    direct = data.draw(st.booleans(), label="direct")
    model, seed = make(kind, reduce=reduce, direct=direct), data.draw(st.integers(0, 99))
    with stretched(stretch * batch, rows):
        assert_equal(*both(model, budget, steps, batch, seed))


@pytest.mark.every_cell
@pytest.mark.slow
@pytest.mark.parametrize("kind", [*CELLS, "own"])
def test_so_it_is_for_a_layer_alone_in_both_precisions(kind, monkeypatch):
    monkeypatch.setattr(shape, "SMALL", 0)
    before = torch.get_num_threads()
    try:
        for threads, dtype in ((1, torch.float32), (2, torch.float64)):
            torch.set_num_threads(threads)
            layer = make(kind, hidden=9).layer.to(dtype)
            x = torch.randn(11, 23, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
            lengths = torch.tensor([23, 1, 9, 0, 22, 23, 17, 16, 5, 12, 2])
            target = torch.ones(11, 23, layer.hidden_size, dtype=dtype)
            for some in (None, lengths):
                with stretched(1, 7):
                    found = ll.CheckpointedBPTT(6).gradients(layer, x, target, mse, lengths=some)
                    wanted = ll.BPTT().gradients(layer, x, target, mse, lengths=some)
                assert_equal(found, wanted)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("reduce", [None, "last", "mean"])
def test_pieces_shorter_than_a_stretch_agree_to_rounding(reduce):
    found, wanted = both(make("LSTM", reduce=reduce), 5, 29)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("backend", ["derived", "reference"])
def test_other_backends_agree_to_rounding(backend):
    model = make("GRU")
    model.layer.backend = backend
    found, wanted = both(model, 5, 29)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-12, atol=1e-14)


def test_a_start_state_frozen_parameters_and_a_module_of_torch():
    model = make("LSTM")
    model.layer.weight_ih.requires_grad_(False)
    state = tuple(torch.ones(3, 4, dtype=torch.float64) * k for k in (0.5, -0.3))
    found, wanted = both(model, 6, 17, state=state)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-12, atol=1e-14)
    torch.manual_seed(0)
    lstm = nn.LSTM(2, 3, num_layers=2, batch_first=True).double()
    x, target = torch.randn(4, 19, 2).double(), torch.randn(4, 19, 3).double()
    found = ll.CheckpointedBPTT(6).gradients(lstm, x, target, mse)
    for name, gradient in ll.BPTT().gradients(lstm, x, target, mse).items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-12, atol=1e-14)


def test_dropout_draws_the_same_masks_when_a_piece_is_run_again():
    """Against the same pieces in one graph."""
    model = make("stack")
    model.layer.dropout = 0.5
    model.layer.layers[0].recurrent_dropout = 0.3
    x, target, _, _ = problem(model, steps=24)
    method = ll.CheckpointedBPTT(6)
    piece = method.plan(model, x).piece
    torch.manual_seed(5)
    found = method.gradients(model, x, target, mse)
    after = torch.get_rng_state()
    torch.manual_seed(5)
    state, outputs = None, []
    for part in x.split(piece, 1):
        h, state = model.layer(part, state)
        outputs.append(model.readout(h))
    named = dict(model.named_parameters())
    value = mse(torch.cat(outputs, 1), target)
    assert torch.equal(after, torch.get_rng_state())
    for name, gradient in zip(named, torch.autograd.grad(value, [*named.values()]), strict=True):
        torch.testing.assert_close(found[name], gradient, rtol=1e-12, atol=1e-14)


class Most(dict):
    """Remembers how many were in it at once."""

    most = 0

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self.most = max(self.most, len(self))


@pytest.mark.slow
def test_no_more_states_are_there_than_the_budget_allows(monkeypatch):
    """Counted: what is stored, and the longest piece with a graph."""
    model = make("Elman")
    runs, longest, steps = [], 0, 0

    class Counting(checkpointed._Run):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.states = Most()
            runs.append(self)

        def back(self, number, state):
            nonlocal longest
            first, stop = self.bounds(number)
            longest = max(longest, stop - first)
            super().back(number, state)

    forward = ll.Elman.forward

    def counted(self, x, *arguments, **options):
        nonlocal steps
        steps += x.shape[1]
        return forward(self, x, *arguments, **options)

    monkeypatch.setattr(checkpointed, "_Run", Counting)
    monkeypatch.setattr(ll.Elman, "forward", counted)
    for budget, length in ((2, 50), (3, 100), (7, 200), (20, 200), (28, 200), (100, 200)):
        x, target, _, _ = problem(model, steps=length)
        longest = steps = 0
        method = ll.CheckpointedBPTT(budget)
        method.gradients(model, x, target, mse)
        assert longest + runs[-1].states.most <= budget
        assert steps <= method.plan(model, x).forward  # the last piece may be shorter


@pytest.mark.slow
def test_accumulate_and_fit():
    model, plain = make("GRU", reduce="last"), make("GRU", reduce="last")
    x, target, lengths, _ = problem(model, steps=20)
    found = ll.CheckpointedBPTT(5).accumulate(
        model, x, target, mse, torch.Tensor.backward, lengths=lengths
    )
    wanted = ll.BPTT().accumulate(plain, x, target, mse, torch.Tensor.backward, lengths=lengths)
    torch.testing.assert_close(found.loss, wanted.loss)
    torch.testing.assert_close(found.output, wanted.output)
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)
    data = (x, target, lengths)
    history = ll.fit(model, data, method=ll.CheckpointedBPTT(5), epochs=3, progress=False)
    again = ll.fit(plain, data, epochs=3, progress=False)
    torch.testing.assert_close(
        torch.tensor(history.losses), torch.tensor(again.losses), rtol=1e-9, atol=0
    )


def test_bytes():
    model = make("LSTM", hidden=4)
    x = torch.zeros(3, 5000, 3, dtype=torch.float64)
    state = 3 * 8 * 8  # h and c
    found = ll.CheckpointedBPTT("200 kB").plan(model, x)
    assert found.stored * state + found.piece * state * 9 / 2 <= 200_000
    assert found.forward == 10_000
    for text, size in (("1B", 1), ("1.5 KB", 1500), ("2 MiB", 2 << 20), ("1 gb", 10**9)):
        assert checkpointed._bytes(text) == size


def test_what_is_no_budget():
    for budget, error, message in [
        (1, ValueError, "budget: got 1, expected at least 2"),
        (2.5, TypeError, r"budget: got 2.5 \(float\), expected a number of states"),
        (True, TypeError, "budget: got True"),
        ("much", ValueError, "budget: got 'much', expected bytes such as '200 MB'"),
    ]:
        with pytest.raises(error, match=message):
            ll.CheckpointedBPTT(budget)
    model = make("LSTM")
    x, target, _, _ = problem(model, steps=20)
    with pytest.raises(ValueError, match=r"budget: got 0.52\d* states, expected at least 5.5"):
        ll.CheckpointedBPTT("100 B").gradients(model, x, target, mse)


@pytest.mark.parametrize("budget", [2, 3, 10, 100, 200, 1000])
@pytest.mark.parametrize("cost", [1.0, 4.5])
@pytest.mark.parametrize("stretch", [1, 16])
def test_a_plan_keeps_its_budget(budget, cost, stretch):
    if budget < 1 + cost:
        return
    found = plan(1000, budget, cost, stretch)
    assert found.piece * cost + found.stored <= budget or found.piece == 1000
    assert found.piece % stretch == 0 or budget < stretch * cost + 1
    assert found.forward >= 2000


@pytest.mark.slow
def test_more_budget_is_never_slower():
    forward = [plan(5000, budget).forward for budget in range(2, 300)]
    assert all(a >= b for a, b in itertools.pairwise(forward))
