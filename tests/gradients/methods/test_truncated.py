"""TruncatedBPTT against a plain loop that cuts the graph, and against BPTT."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.gradients.models import MODELS, make, problem
from torch import nn

import longlag as ll
from longlag.gradients import GradientMethod, WindowedMethod

mse = nn.functional.mse_loss


def by_hand(model, x, target, loss, k1, k2, lengths=None, resets=None):
    """One backward pass a step: the error of step t, sent back to where its window allows."""
    steps = x.shape[-2]
    named = dict(model.named_parameters())
    total = {name: torch.zeros_like(p) for name, p in named.items()}

    def run(state, first, stop):
        some = None if lengths is None else (lengths - first).clamp(0, stop - first)
        cut = None if resets is None else resets[..., first:stop]
        return model.run(x[..., first:stop, :], state, lengths=some, resets=cut)

    output = model(x, lengths=lengths, resets=resets).detach().requires_grad_()
    (error,) = torch.autograd.grad(loss(output, target), output)
    for first in range(0, steps, k1):
        stop = min(first + k1, steps)
        start = max(0, stop - k2)
        state = None
        if start:
            with torch.no_grad():
                _, state = run(None, 0, start)
        for t in range(max(first, stop - k2), stop):
            out, _ = run(state, start, t + 1)
            found = torch.autograd.grad(
                out[..., -1, :], list(named.values()), error[..., t, :], allow_unused=True
            )
            for name, gradient in zip(named, found, strict=True):
                if gradient is not None:
                    total[name] = total[name] + gradient
    return total


def assert_same(found, wanted, tolerance=1e-11):
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(("k1", "k2"), [(3, 3), (3, 5), (2, 7), (4, 2), (1, 1), (5, 1), (1, 4)])
def test_the_error_of_each_window_goes_back_k2_steps(kind, k1, k2):
    model = make(kind)
    x, target, lengths, resets = problem(model, steps=11)
    found = ll.TruncatedBPTT(k1, k2).gradients(
        model, x, target, mse, lengths=lengths, resets=resets
    )
    assert_same(found, by_hand(model, x, target, mse, k1, k2, lengths, resets))


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("reduce", [None, "last", "mean"])
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_with_k2_of_all_steps_it_is_bptt_bit_for_bit(kind, reduce, data):
    steps = data.draw(st.integers(0, 9), label="steps")
    k1, more = data.draw(st.integers(1, 12), label="k1"), data.draw(st.integers(0, 5), label="more")
    seed = data.draw(st.integers(0, 10**6), label="seed")
    model = make(kind, reduce=reduce)
    x, target, lengths, resets = problem(model, steps=steps, seed=seed)
    options = {"lengths": lengths, "resets": resets}
    method = ll.TruncatedBPTT(k1, max(steps, k1, 1) + more)
    found = method.gradients(model, x, target, mse, **options)
    wanted = ll.BPTT().gradients(model, x, target, mse, **options)
    for name, gradient in wanted.items():
        assert torch.equal(found[name], gradient), name


@pytest.mark.parametrize("reduce", ["last", "mean"])
def test_one_output_a_sequence_is_sent_back_from_each_ones_own_end(reduce):
    model = make("LSTM", reduce=reduce, direct=True)
    x, target, lengths, resets = problem(model, steps=10)
    options = {"lengths": lengths, "resets": resets}
    h = model.layer(x, **options)[0].detach().requires_grad_()
    padding = torch.arange(10)[:, None] >= lengths[:, None, None]
    if reduce == "last":
        rows, ends = torch.arange(3), (lengths - 1).clamp(min=0)
        full = (lengths > 0).unsqueeze(-1)
        read = h[rows, ends] * full, x[rows, ends] * full
    else:
        count = lengths.clamp(min=1).unsqueeze(-1)
        read = h.sum(1) / count, x.masked_fill(padding, 0.0).sum(1) / count
    (error,) = torch.autograd.grad(mse(model.readout(*read), target), h)

    every = ll.SequenceModel(model.layer, 4, reduce=None, bias=False).double()
    every.readout.weight.data = torch.eye(4).double()
    wanted = by_hand(every, x, error, lambda y, e: (y * e).sum(), 3, 5, lengths, resets)
    x = x.masked_fill(padding, float("nan"))
    found = ll.TruncatedBPTT(3, 5).gradients(model, x, target, mse, **options)
    for name in ("weight_ih", "weight_hh", "bias"):
        torch.testing.assert_close(found[f"layer.{name}"], wanted[f"layer.{name}"])
    exact = ll.BPTT().gradients(model, x, target, mse, **options)
    torch.testing.assert_close(found["readout.weight"], exact["readout.weight"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(("k1", "k2"), [(3, 3), (3, 7), (4, 2)])
def test_windows_one_by_one_are_the_gradients_of_the_whole(kind, k1, k2):
    """With weights that stay, and a loss that is a sum over steps."""
    steps = 12
    model = make(kind)
    x, target, lengths, resets = problem(model, steps)

    def loss(output, target):
        return (output - target).square().sum()

    method, carry, value, outputs = ll.TruncatedBPTT(k1, k2), None, 0.0, []
    for first in range(0, steps, k1):
        stop = min(first + k1, steps)
        some = None if lengths is None else (lengths - first).clamp(0, stop - first)
        cut = None if resets is None else resets[..., first:stop]
        found = method.accumulate_window(
            model, x[..., first:stop, :], target[..., first:stop, :], loss, torch.Tensor.backward,
            lengths=some, resets=cut, carry=carry,
        )  # fmt: skip
        carry, value = found.carry, value + found.loss
        outputs.append(found.output)
        assert not any(t.requires_grad for t in (found.loss, found.output, carry["x"]))
    wanted = method.gradients(model, x, target, loss, lengths=lengths, resets=resets)
    assert_same({n: p.grad for n, p in model.named_parameters()}, wanted)
    output = model(x, lengths=lengths, resets=resets)
    torch.testing.assert_close(torch.cat(outputs, -2), output.detach())
    torch.testing.assert_close(value, loss(output, target).detach())


def test_accumulate_adds_to_grad_and_hands_back_loss_and_output():
    model = make("GRU")
    x, target, lengths, _ = problem(model, steps=9)
    method = ll.TruncatedBPTT(2, 4)
    wanted = method.gradients(model, x, target, mse, lengths=lengths)
    for _ in range(2):
        found = method.accumulate(model, x, target, mse, torch.Tensor.backward, lengths=lengths)
    output = model(x, lengths=lengths)
    torch.testing.assert_close(found.output, output.detach())
    torch.testing.assert_close(found.loss, mse(output, target).detach())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.grad, 2 * wanted[name])


def test_a_module_of_torch_does_as_well():
    torch.manual_seed(0)
    lstm = nn.LSTM(2, 3, batch_first=True).double()
    x, target = torch.randn(4, 9, 2).double(), torch.randn(4, 9, 3).double()
    ours = ll.from_torch(lstm)
    found = ll.TruncatedBPTT(2, 3).gradients(lstm, x, target, mse)
    wanted = ll.TruncatedBPTT(2, 3).gradients(ours, x, target, mse)
    torch.testing.assert_close(found["weight_hh_l0"], wanted["weight_hh"])


def test_a_start_state_and_frozen_parameters():
    model = make("Elman")
    model.layer.weight_ih.requires_grad_(False)
    x, target, _, _ = problem(model, steps=8)
    state = (torch.ones(*x.shape[:-2], model.layer.hidden_size, dtype=torch.float64),)
    found = ll.TruncatedBPTT(3).gradients(model, x, target, mse, state=state)
    other = ll.TruncatedBPTT(3).gradients(model, x, target, mse)
    assert "layer.weight_ih" not in found
    assert not torch.equal(found["layer.weight_hh"], other["layer.weight_hh"])


def test_a_loss_that_depends_on_nothing_has_zero_gradients():
    model = make("Elman")
    x, target, _, _ = problem(model, steps=8)
    found = ll.TruncatedBPTT(3).gradients(model, x, target, lambda output, target: target.sum())
    assert all(gradient.count_nonzero() == 0 for gradient in found.values())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0,), ValueError, "k1: got 0, expected at least 1"),
        ((5, -1), ValueError, "k2: got -1"),
        ((2.0,), TypeError, r"k1: got 2.0 \(float\), expected a whole number"),
        ((2, True), TypeError, "k2: got True"),
    ],
)
def test_windows_that_are_none(arguments, error, message):
    with pytest.raises(error, match=message):
        ll.TruncatedBPTT(*arguments)


def test_what_cannot_be_cut_into_windows_is_refused():
    x, target = torch.zeros(2, 9, 3), torch.zeros(2, 9, 8)
    method = ll.TruncatedBPTT(2)
    both = ll.SequenceModel(ll.Bidirectional(ll.Elman(3, 4)), 8, reduce=None)
    with pytest.raises(ValueError, match=r"TruncatedBPTT cannot.*bidirectional.*BPTT\(\)"):
        method.gradients(both, x, target, mse)
    with pytest.raises(TypeError, match=r"does not know how to with a Linear.*ll\.SequenceModel"):
        method.gradients(nn.Linear(3, 8), x, target, mse)
    with pytest.raises(ValueError, match="batch_first=True"):
        method.gradients(nn.RNN(3, 8), x, target, mse)
    dropping = ll.SequenceModel(ll.Elman(3, 4, recurrent_dropout=0.5), 8, reduce=None)
    with pytest.raises(ValueError, match=r"layer drops out units.*other masks.*model\.eval\(\)"):
        method.gradients(dropping, x, target, mse)
    method.gradients(dropping.eval(), x, target, mse)
    last = ll.SequenceModel(ll.Elman(3, 4), 8)
    with pytest.raises(ValueError, match=r"one output a sequence \(reduce='last'\)"):
        method.accumulate_window(last, x, target, mse, torch.Tensor.backward)


@pytest.mark.parametrize("method", [ll.TruncatedBPTT(2), ll.CheckpointedBPTT(4), ll.RTRL()])
def test_lengths_and_resets_that_do_not_fit_are_refused_before_they_are_cut(method):
    model = make("Elman")
    x, target, _, _ = problem(model, steps=9)
    for options, message in [
        ({"lengths": torch.tensor([9, 9])}, r"lengths: got shape \(2,\), expected \(3,\)"),
        (
            {"lengths": torch.tensor([9, 10, 1])},
            "lengths: got values from 1 to 10, expected 0 to 9",
        ),
        ({"resets": torch.zeros(3, 8, dtype=torch.bool)}, r"resets: got shape \(3, 8\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            method.gradients(model, x, target, mse, **options)


def test_it_is_a_windowed_method():
    assert isinstance(ll.TruncatedBPTT(3), WindowedMethod)
    assert isinstance(ll.TruncatedBPTT(3), GradientMethod)
    assert not isinstance(ll.BPTT(), WindowedMethod)
    assert ll.TruncatedBPTT(3).window == 3
    assert repr(ll.TruncatedBPTT(3, 5)) == "TruncatedBPTT(k1=3, k2=5)"
