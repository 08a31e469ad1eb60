"""No update comes from an infinite gradient, and no infinite weight is saved or returned."""

import math

import numpy as np
import pytest
import torch
from tests.training.helpers import Net, quiet, same_tree, saved, sums, weights
from torch.optim.lr_scheduler import OneCycleLR

import longlag as ll
from longlag.batch import Batch
from longlag.training import (
    Checkpoint,
    EarlyStopping,
    History,
    NonFiniteLossError,
    NonFiniteWeightsError,
    Schedule,
)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_step_that_is_not_finite_stops_before_the_update(bad, tmp_path):
    """NaN in x makes the loss NaN; infinity saturates the GRU, and only the gradient is NaN."""
    x, target = sums(40)
    x[13] = bad
    step = np.random.default_rng([0, 0]).permutation(40).tolist().index(13) // 4 + 1
    assert step > 1
    model, until_then = Net(), Net()
    quiet(until_then, sums(40), steps=step - 1, batch_size=4, clip_norm=1.0)
    with pytest.raises(NonFiniteLossError) as caught:
        quiet(model, (x, target), epochs=1, batch_size=4, checkpoint=tmp_path, clip_norm=1.0)
    error = caught.value
    assert math.isfinite(error.loss) is math.isinf(bad)
    assert math.isnan(error.gradient_norm)
    assert (error.step, error.epoch, error.seed, error.checkpoint) == (step, 1, 0, None)
    assert f"step {step} (epoch 1, seed 0): loss {error.loss}" in str(error)
    assert "smaller clip_norm" in str(error)
    after = weights(model)
    assert all(torch.equal(after[k], v) for k, v in weights(until_then).items())


def test_a_gradient_that_is_not_finite_stops_too(tmp_path):
    def loss(output, target):
        return (output - output.detach()).square().sum().sqrt()  # 0, of slope 0/0

    model = Net()
    before = weights(model)
    with pytest.raises(NonFiniteLossError, match=r"loss 0\.0, gradient norm nan") as caught:
        quiet(model, sums(), loss=loss, epochs=1)
    assert caught.value.step == 1
    assert "there is no checkpoint" in str(caught.value)
    assert all(torch.equal(before[k], v) for k, v in weights(model).items())


def test_the_last_good_checkpoint_is_named(tmp_path):
    calls = []

    def loss(output, target):
        calls.append(0)
        return output.square().mean() * (1 if len(calls) < 5 else math.inf)

    with pytest.raises(NonFiniteLossError) as caught:
        quiet(Net(), sums(), loss=loss, steps=9, checkpoint=Checkpoint(tmp_path, every_steps=2))
    assert caught.value.step == 5
    assert caught.value.checkpoint == tmp_path / "checkpoint.longlag"
    assert str(tmp_path) in str(caught.value)


def too_far(after):
    """SGD whose update number `after` + 1 leaves the range of float32."""

    class Leap(torch.optim.SGD):
        made = 0

        def step(self, closure=None):
            self.param_groups[0]["lr"] = 3e38 if self.made == after else 0.01
            self.made += 1
            super().step(closure)

    return Leap


def steep(output, target):
    return 100 * (output - target).square().mean()


@pytest.mark.parametrize("checkpoint", [False, True])
def test_infinite_weights_are_not_a_success(checkpoint, tmp_path):
    folder = tmp_path if checkpoint else None
    with pytest.raises(NonFiniteWeightsError) as caught:
        quiet(Net(), sums(), loss=steep, optimizer=too_far(0), steps=1, checkpoint=folder)
    error = caught.value
    assert (error.step, error.epoch, error.checkpoint) == (1, 1, None)
    assert math.isfinite(error.loss)
    assert math.isfinite(error.gradient_norm)
    assert f"after the update the weights {error.weights!r} are not finite" in str(error)
    assert "there is no checkpoint" in str(error)
    assert not list(tmp_path.iterdir())


def test_the_last_good_checkpoint_is_good(tmp_path):
    settings = {"loss": steep, "batch_size": 10}
    every = Checkpoint(tmp_path / "leapt", every_steps=1)
    with pytest.raises(NonFiniteWeightsError) as caught:
        quiet(Net(), sums(), optimizer=too_far(6), epochs=50, checkpoint=every, **settings)
    assert (caught.value.step, caught.value.epoch) == (7, 2)
    assert caught.value.checkpoint == every.path
    quiet(Net(), sums(), optimizer=too_far(99), steps=6, checkpoint=tmp_path / "short", **settings)
    assert same_tree(saved(tmp_path / "leapt")["model"], saved(tmp_path / "short")["model"])


def test_weights_are_looked_at_between_no_saves(monkeypatch):
    """Only at the end: a step costs what it did."""
    looked = []
    real = torch.Tensor.isfinite
    monkeypatch.setattr(torch.Tensor, "isfinite", lambda each: looked.append(0) or real(each))
    counts = []
    for steps in (1, 9):
        looked.clear()
        quiet(Net(), sums(), steps=steps)
        counts.append(len(looked))
    assert counts[0] == counts[1] == len(list(Net().parameters()))


class WithBuffers(Net):
    """`mask` is infinite from the start; `total` becomes so when told."""

    def __init__(self, value=1.0):
        super().__init__()
        self.register_buffer("mask", torch.tensor([0.0, -math.inf]))
        self.register_buffer("total", torch.zeros(1))
        self.value = value

    def forward(self, x):
        self.total += self.value
        return super().forward(x)


def test_a_buffer_that_becomes_infinite_counts_and_a_mask_does_not(tmp_path):
    quiet(WithBuffers(), sums(), epochs=1, checkpoint=tmp_path)
    with pytest.raises(NonFiniteWeightsError, match="the weights 'total' are not finite"):
        quiet(WithBuffers(math.inf), sums(), epochs=1)


def test_the_best_weights_must_be_finite_too():
    """A callback that hides infinite weights from the check hides them in vain."""
    options = {"loss": steep, "steps": 1, "validate_every": 1, "optimizer": too_far(0)}
    mend = lambda record, model: model.load_state_dict(Net().state_dict())  # noqa: E731
    quiet(Net(), sums(), callbacks=[mend], **options)
    with pytest.raises(NonFiniteWeightsError):
        quiet(Net(), sums(), callbacks=[mend], early_stopping=EarlyStopping(), **options)


def padded():
    x, mean = sums(8)
    return x, np.repeat(mean[:, None], 6, axis=1), np.array([6, 3] * 4)


@pytest.mark.parametrize(
    "loss", [torch.nn.MSELoss(), torch.nn.functional.l1_loss, lambda o, t: (o - t).abs().sum()]
)
def test_a_loss_that_reads_padding_is_explained(loss):
    model = Net(reduce=False)
    before = weights(model)
    model.forward = without_lengths(model.forward)
    with pytest.raises(NonFiniteLossError) as caught:
        quiet(model, padded(), epochs=1, loss=loss)
    for part in ("target is NaN", "beyond lengths", "loss='mse'", "~target.isnan()"):
        assert part in str(caught.value)
        assert part in caught.value.hint
    assert all(torch.equal(before[k], v) for k, v in weights(model).items())


def without_lengths(forward):
    return lambda x, **inputs: forward(x)


def test_other_causes_get_no_such_hint():
    x, target = sums(8)
    x[0] = np.nan
    cases = [
        (Net(), (x, target), {"loss": torch.nn.MSELoss()}),  # nothing is NaN in the target
        (Net(reduce=False), padded(), {"loss": lambda o, t: o.sum() * math.inf}),  # not NaN
    ]
    for model, data, options in cases:
        with pytest.raises(NonFiniteLossError) as caught:
            quiet(model, data, epochs=1, **options)
        assert caught.value.hint == ""
        assert "target is NaN" not in str(caught.value)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("step", ["eager", "compiled"])
@pytest.mark.parametrize("schedule", [False, True])
def test_an_update_that_is_not_finite_is_left_out_where_that_is_asked_for(bad, step, schedule):
    """As if its batch were not there: each other update is made, with its own learning rate."""
    x, target = sums(40)
    x[13] = bad
    rates = lambda optimizer: OneCycleLR(optimizer, 0.1, total_steps=30)  # noqa: E731
    options = {"batch_size": 4, "clip_norm": 1.0, "epochs": 3, "step": step}
    if schedule:
        options["scheduler"] = Schedule(rates, every="step")
    model = ll.SequenceModel(ll.GRU(1, 4, seed=0), 1, reduce="last", seed=1)
    history = quiet(model, (x, target), nonfinite="skip", **options)
    assert (history.skipped, len(history), history.stopped) == (3, 27, "epochs")
    assert history.step == step
    assert np.isfinite(history.losses).all()

    class WithoutIt:
        """The batches of fit, but for those with the bad sequence."""

        def __init__(self):
            self.batches = [
                rows
                for epoch in range(3)
                for rows in np.random.default_rng([0, epoch]).permutation(40).reshape(10, 4)
                if 13 not in rows
            ]

        def batch(self, index):
            rows = self.batches[index]
            return Batch(torch.from_numpy(x[rows]), torch.from_numpy(target[rows]))

    other = ll.SequenceModel(ll.GRU(1, 4, seed=0), 1, reduce="last", seed=1)
    options |= {"epochs": None, "steps": 27, "step": "eager"}
    expected = quiet(other, WithoutIt(), **options)
    np.testing.assert_allclose(history.losses, expected.losses, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("step", ["eager", "compiled"])
def test_a_run_that_is_lost_ends_with_its_best_weights(step):
    x, target = sums(40)
    model = ll.SequenceModel(ll.GRU(1, 4, seed=0), 1, reduce="last", seed=1)
    best = ll.SequenceModel(ll.GRU(1, 4, seed=0), 1, reduce="last", seed=1)
    options = {"batch_size": 10, "step": step, "early_stopping": EarlyStopping(patience=99)}

    def spoil(record, model):
        if record.epoch == 3:
            with torch.no_grad():
                model.linear_readout.weight.fill_(math.nan)

    history = quiet(
        model, (x, target), validation=(x, target), epochs=9, callbacks=[spoil], nonfinite="skip",
        **options,
    )  # fmt: skip
    assert (history.stopped, history.skipped, len(history)) == ("not finite", 10, 12)
    quiet(best, (x, target), validation=(x, target), epochs=3, **options)
    assert history.best_step == 12
    assert same_tree(weights(model), weights(best))
    with pytest.raises(NonFiniteLossError):  # where there is nothing to go back to
        quiet(model, (x * math.nan, target), epochs=30, nonfinite="skip", batch_size=10)
    with pytest.raises(ValueError, match="nonfinite is 'go on'; expected 'error' or 'skip'"):
        quiet(model, (x, target), epochs=1, nonfinite="go on")


def test_weights_that_an_update_spoilt_give_way_to_the_best():
    settings = {"loss": steep, "batch_size": 10, "validation": sums(), "nonfinite": "skip"}
    settings |= {"early_stopping": EarlyStopping(patience=99), "epochs": 3}
    model = Net()
    history = quiet(model, sums(), optimizer=too_far(11), **settings)
    best = min(history.records[:2], key=lambda record: record.validation_loss)
    assert (history.stopped, history.best_step) == ("not finite", best.step)
    assert all(weight.isfinite().all() for weight in weights(model).values())


def test_a_history_tells_what_was_left_out_after_it_was_saved():
    history = History()
    history.skipped = 2
    assert History.from_dict(history.to_dict()) == history
    older = history.to_dict()
    del older["skipped"]
    assert History.from_dict(older).skipped == 0
