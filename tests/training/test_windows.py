"""Training window by window: truncated backpropagation through time in `fit`."""

import numpy as np
import pytest
import torch
from tests.training.helpers import quiet, same_tree, saved, weights
from torch import nn

import longlag as ll
from longlag.training import Checkpoint

K1, K2 = 3, 5


def net(reduce=None, seed=0):
    return ll.SequenceModel(ll.GRU(2, 4, seed=seed), 1, reduce=reduce, seed=seed + 1)


def given(count=10, steps=11, seed=0, ragged=True):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(count, steps, 2)).astype(np.float32)
    lengths = generator.integers(1, steps + 1, count) if ragged else np.full(count, steps)
    return x, np.tanh(x.cumsum(1))[..., :1], lengths


def sgd(parameters):
    return torch.optim.SGD(parameters, 0.1, momentum=0.9)


def by_hand(model, x, target, lengths, epochs, batch):
    """What `fit` promises, written out: an update after each window, the state going on."""
    optimizer = sgd(model.parameters())
    x, target, lengths = map(torch.as_tensor, (x, target, lengths))
    losses = []
    for _ in range(epochs):
        for rows in torch.arange(len(x)).split(batch):
            longest, states, state = int(lengths[rows].max()), [None], None
            for first in range(0, longest, K1):
                stop = min(first + K1, longest)
                start = max(0, first - (K2 - K1))
                at = (lengths[rows] - start).clamp(0, stop - start)
                out = model(x[rows, start:stop], states[start], lengths=at)[:, first - start :]
                due = torch.arange(first, stop) < lengths[rows, None]
                loss = (out - target[rows, first:stop])[due].square().mean()
                optimizer.zero_grad()
                loss.backward()
                # The states of these steps, of the weights before the update.
                for step in range(first, stop):
                    some = (lengths[rows] - start).clamp(0, step + 1 - start)
                    with torch.no_grad():
                        _, state = model.run(x[rows, start : step + 1], states[start], some)
                    states.append(state)
                optimizer.step()
                losses.append(loss.item())
    return losses


@pytest.mark.slow
def test_an_update_after_each_window():
    x, target, lengths = given()
    ours, plain = net(), net()
    history = quiet(
        ours, (x, target, lengths), method=ll.TruncatedBPTT(K1, K2), epochs=2, batch_size=4,
        shuffle=False, optimizer=sgd,
    )  # fmt: skip
    losses = by_hand(plain, x, target, lengths, 2, 4)
    assert len(history) == len(losses)
    np.testing.assert_allclose(history.losses, losses, rtol=1e-4)
    for ours_weight, plain_weight in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours_weight, plain_weight, rtol=1e-4, atol=1e-5)


def test_one_output_a_sequence_is_one_update_a_batch():
    x, target, lengths = given()
    model = net("last")
    history = quiet(
        model, (x, target[:, 0], lengths), method=ll.TruncatedBPTT(2), epochs=1, batch_size=5
    )
    assert len(history) == 2


def test_where_no_error_is_due_there_is_no_update():
    """Nor does momentum move the weights; but the state goes on."""
    x, target, _ = given(count=4, steps=9, ragged=False)
    target[:, :6] = np.nan
    model = net()
    history = quiet(model, (x, target), method=ll.TruncatedBPTT(3), epochs=1, batch_size=4)
    assert len(history) == 1
    other = net()
    with torch.no_grad():
        before, _ = other.run(torch.as_tensor(x[:, :6])), None
    out, _ = other.run(torch.as_tensor(x[:, 6:]), before[1])
    loss = (out - torch.as_tensor(target[:, 6:])).square().mean()
    assert history.losses[0] == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("halt", [1, 2, 5, 6, 9])
def test_a_run_that_stops_inside_a_batch_goes_on_bit_for_bit(tmp_path, halt):
    data = given()
    options = {"method": ll.TruncatedBPTT(K1, K2), "batch_size": 4, "seed": 3}
    whole, parts = net(), net()
    every = {"every_steps": 1, "every_seconds": None}
    quiet(whole, data, steps=12, checkpoint=Checkpoint(tmp_path / "a", **every), **options)
    checkpoint = Checkpoint(tmp_path / "b", **every)
    quiet(parts, data, steps=halt, checkpoint=checkpoint, **options)
    again = net(seed=5)
    quiet(again, data, steps=12, checkpoint=checkpoint, **options)
    assert same_tree(weights(whole), weights(again))
    first, second = saved(tmp_path / "a"), saved(tmp_path / "b")
    assert same_tree(first["carry"], second["carry"])
    assert first["position"]["window"] == second["position"]["window"]


def test_what_looks_inside_the_model_wants_its_precision():
    from lightning_fabric import Fabric

    data, method = given()[:2], ll.TruncatedBPTT(3)
    fabric = Fabric(accelerator="cpu", devices=1, precision="64-true")
    inside, before = net(), net().double()
    history = quiet(inside, data, method=method, epochs=1, fabric=fabric)
    expected = quiet(before, data, method=method, epochs=1)
    assert history.losses.tolist() == expected.losses.tolist()
    assert same_tree(weights(inside), weights(before))
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    with pytest.raises(ValueError, match=r"bf16-mixed.*TruncatedBPTT\(k1=3, k2=None\).*BPTT\(\)"):
        quiet(net(), data, method=method, epochs=1, fabric=fabric)


def test_a_module_that_cannot_be_cut_is_refused_by_name():
    x, target, _ = given(ragged=False)
    with pytest.raises(TypeError, match="does not know how to with a Sequential"):
        quiet(nn.Sequential(nn.Linear(2, 1)), (x, target), method=ll.TruncatedBPTT(3), epochs=1)


def test_omega_is_a_method_whose_weight_decays_by_update():
    x, target, lengths = given()
    plain, decayed = net(seed=2), net(seed=2)
    quiet(plain, (x, target, lengths), method=ll.Omega(0.5), steps=3, batch_size=10, optimizer=sgd)
    quiet(
        decayed, (x, target, lengths), method=ll.Omega(0.5, decay="1/t"), steps=3, batch_size=10,
        optimizer=sgd,
    )  # fmt: skip
    by_hand = net(seed=2)
    optimizer = sgd(by_hand.parameters())
    data = tuple(torch.as_tensor(part) for part in (x, target, lengths))
    padding = torch.arange(x.shape[1]) >= data[2][:, None]
    due = data[1].masked_fill(padding[..., None], float("nan"))
    for update in (1, 2, 3):
        optimizer.zero_grad()
        ll.Omega(0.5 / update).accumulate(
            by_hand, data[0], due, ll.training.mse, torch.Tensor.backward, lengths=data[2]
        )
        optimizer.step()
    for found, wanted in zip(decayed.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    assert not torch.equal(plain.layer.weight_hh, decayed.layer.weight_hh)
