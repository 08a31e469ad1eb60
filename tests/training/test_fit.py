import random
from itertools import chain

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from tests.training.helpers import Net, Stream, quiet, signs, sums, weights
from torch import nn

import longlag as ll
from longlag.gradients import BPTT
from longlag.training import History, StopTraining


def test_it_learns_the_mean_of_a_sequence():
    model, held_out = Net(hidden=8), sums(64, seed=1)
    make = lambda parameters: torch.optim.Adam(parameters, lr=0.02)  # noqa: E731
    history = quiet(model, sums(256), validation=held_out, optimizer=make, epochs=40)
    variance = held_out[1].var()
    assert history.records[0].validation_loss is not None
    assert history.records[-1].validation_loss < 0.01 * variance < history.records[0].loss
    assert len(history) == 40 * 8
    assert [each.epoch for each in history.records] == list(range(1, 41))
    assert [each.step for each in history.records] == list(range(8, 321, 8))


def test_it_learns_classes():
    model, held_out = Net(hidden=8, outputs=2), signs(100, seed=1)
    make = lambda parameters: torch.optim.Adam(parameters, lr=0.02)  # noqa: E731
    history = quiet(
        model, signs(256), validation=held_out, metrics="accuracy", optimizer=make, epochs=30
    )
    assert history.records[-1].metrics["accuracy"] > 0.9


def test_steps_are_those_of_a_loop_by_hand():
    """Same order, same clipping, same updates as ten lines of torch."""
    x, target = (torch.from_numpy(each) for each in sums(20))
    model, by_hand = Net(), Net()
    history = quiet(model, (x, target), epochs=3, batch_size=8, clip_norm=0.1, seed=5)
    optimizer = torch.optim.Adam(by_hand.parameters(), lr=1e-3)
    losses, norms = [], []
    for epoch in range(3):
        order = torch.from_numpy(np.random.default_rng([5, epoch]).permutation(20))
        for chosen in order.split(8):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(by_hand(x[chosen]), target[chosen])
            loss.backward()
            norms.append(nn.utils.clip_grad_norm_(by_hand.parameters(), 0.1).item())
            optimizer.step()
            losses.append(loss.item())
    np.testing.assert_allclose(history.losses, losses, rtol=1e-5)
    np.testing.assert_allclose(history.gradient_norms, norms, rtol=1e-5)
    assert max(norms) > 0.1  # so that clipping was needed
    for name, value in weights(model).items():
        torch.testing.assert_close(value, by_hand.state_dict()[name], rtol=1e-4, atol=1e-6)
    mean = np.average(losses[3:6], weights=[8, 8, 4])
    assert history.records[1].loss == pytest.approx(mean, rel=1e-5)


def test_every_sequence_is_seen_once_an_epoch_and_in_a_new_order():
    x = np.arange(10, dtype=np.float32).reshape(10, 1, 1)
    seen = []

    class Spy(Net):
        def forward(self, x):
            seen.append(x[:, 0, 0].tolist())
            return super().forward(x)

    quiet(Spy(), (x, x[:, 0]), epochs=2, batch_size=4)
    assert [len(each) for each in seen] == [4, 4, 2] * 2
    first, second = [*chain(*seen[:3])], [*chain(*seen[3:])]
    assert sorted(first) == sorted(second) == x.ravel().tolist()
    assert first != second
    seen.clear()
    quiet(Spy(), (x, x[:, 0]), epochs=2, batch_size=4, shuffle=False)
    assert [*chain(*seen)] == 2 * x.ravel().tolist()


def test_the_same_seed_gives_the_same_bits_whatever_came_before():
    found = []
    for seed, noise in ((1, 0), (1, 3), (2, 0)):
        torch.rand(noise)
        model = Net(dropout=0.5)
        history = quiet(model, sums(), epochs=2, seed=seed)
        found.append((history.losses.tolist(), {k: v.tolist() for k, v in weights(model).items()}))
    assert found[0] == found[1]
    assert found[0] != found[2]


def test_the_global_generators_are_left_as_they_were():
    state = (torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist())  # noqa: NPY002

    class Noisy(Net):
        def forward(self, x):
            random.random()
            np.random.rand()  # noqa: NPY002
            return super().forward(x)

    quiet(Noisy(dropout=0.5), sums(), epochs=1)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert random.getstate() == state[1]
    assert np.random.get_state()[1].tolist() == state[2]  # noqa: NPY002


def test_mode_and_grad_are_left_as_they_were():
    for training in (True, False):
        model = Net().train(training)
        quiet(model, sums(), validation=sums(), epochs=1)
        assert model.training is training
        assert all(each.grad is None for each in model.parameters())
    modes = [call[3] for call in model.calls]
    assert modes == [True, True, False, False]  # two batches of training, two of validation


def test_a_stream_makes_records_by_steps():
    stream = Stream()
    history = quiet(Net(), stream, steps=250)
    assert [each.step for each in history.records] == [100, 200, 250]
    assert {each.epoch for each in history.records} == {1}
    assert history.records[1].loss == pytest.approx(history.losses[100:200].mean())
    assert history.stopped == "steps"
    history = quiet(Net(), stream, steps=20, validate_every=8, validation=stream.batch(999))
    assert [each.step for each in history.records] == [8, 16, 20]
    assert all(each.validation_loss is not None for each in history.records)


def test_validate_every_counts_steps_across_epochs():
    history = quiet(Net(), sums(40), epochs=3, batch_size=10, validate_every=5)
    assert [(each.epoch, each.step) for each in history.records] == [(2, 5), (3, 10), (4, 12)]


def test_callbacks_see_each_record_and_may_stop():
    seen = []

    def stop_at_two(record, model):
        seen.append((record.epoch, type(model)))
        if record.epoch == 2:
            raise StopTraining

    history = quiet(Net(), sums(), epochs=9, callbacks=[stop_at_two])
    assert seen == [(1, Net), (2, Net)]
    assert history.stopped == "callback"
    assert len(history.records) == 2


def test_a_method_is_what_computes_the_gradient():
    class Doubled:
        def gradients(self, *arguments, **inputs):
            raise NotImplementedError

        def accumulate(self, model, x, target, loss, backward, **inputs):
            return BPTT().accumulate(model, x, target, loss, lambda v: backward(2 * v), **inputs)

    once, twice = (quiet(Net(), sums(), epochs=1, method=m) for m in (BPTT(), Doubled()))
    assert twice.gradient_norms[0] == pytest.approx(2 * once.gradient_norms[0], rel=1e-6)
    assert twice.losses[0] == once.losses[0]


def test_the_variables_of_lightning_are_followed(monkeypatch):
    monkeypatch.setenv("LT_PRECISION", "64-true")
    model = Net()
    quiet(model, sums(), epochs=1)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed", "bf16-true"])
def test_the_precision_of_fabric_is_used(precision):
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    model = Net()
    seen = []
    hook = model.readout.register_forward_hook(lambda m, i, output: seen.append(output.dtype))
    history = quiet(model, sums(), validation=sums(), epochs=1, fabric=fabric)
    hook.remove()
    inside = {"32-true": torch.float32, "64-true": torch.float64}.get(precision, torch.bfloat16)
    assert set(seen) == {inside}
    assert np.isfinite(history.losses).all()


@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed", "bf16-true"])
def test_so_it_is_for_layers_of_longlag(precision):
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    model = ll.SequenceModel(ll.Bidirectional(ll.LSTM(1, 4)), 1, reduce="mean", direct=True)
    dtype = {"64-true": torch.float64, "bf16-true": torch.bfloat16}.get(precision, torch.float32)
    history = quiet(model, sums(), validation=sums(), epochs=1, fabric=fabric)
    assert {weight.dtype for weight in model.parameters()} == {dtype}
    assert np.isfinite(history.losses).all()


def test_frozen_parameters_stay():
    model = Net()
    model.core.requires_grad_(False)
    before = weights(model)
    quiet(model, sums(), epochs=1)
    after = weights(model)
    assert torch.equal(before["core.weight_hh_l0"], after["core.weight_hh_l0"])
    assert not torch.equal(before["readout.weight"], after["readout.weight"])


def test_a_history_is_returned():
    history = quiet(Net(), sums(), epochs=1)
    assert isinstance(history, History)
    assert history.records[0].seconds > 0
