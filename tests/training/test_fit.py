import math
import random
from itertools import chain

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from tests.training.helpers import Held, Net, Stream, signs, sums, weights
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from longlag.gradients import BPTT
from longlag.training import (
    Batch,
    Checkpoint,
    EarlyStopping,
    History,
    NonFiniteLossError,
    Schedule,
    StopTraining,
    fit,
)
from longlag.training import (
    Stream as StreamProtocol,
)


def quiet(model, data, **options):
    return fit(model, data, progress=False, **options)


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


@pytest.mark.parametrize("given", [[], ["lengths"], ["resets"], ["lengths", "resets"]])
def test_the_model_gets_what_the_data_have(given):
    x, target = sums(8)
    others = {"lengths": np.full(8, 6), "resets": np.zeros((8, 6), bool)}
    model = Net()
    data = Held(x, target, **{name: others[name] for name in given})
    quiet(model, data, validation=data, epochs=1)
    assert [call[2] for call in model.calls] == [given, given]


def test_all_kinds_of_data_train_alike():
    """The same batches from arrays, tensors, an object, named tuples, a stream, and loaders."""
    x, target = sums(16)
    tensors = torch.from_numpy(x), torch.from_numpy(target)

    class TwoBatches:
        def batch(self, index):
            rows = slice(8 * (index % 2), 8 * (index % 2) + 8)
            return Batch(tensors[0][rows], tensors[1][rows])

    class Items(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(zip(*tensors, strict=True))

    assert isinstance(TwoBatches(), StreamProtocol)
    found = []
    for data in (
        (x, target),
        [x.tolist(), target.tolist()],
        (x.astype(np.float64), target.astype(np.float64)),
        (x.astype(">f4"), target[::-1][::-1]),
        tensors,
        Held(x, target),
        Batch(*tensors),
        TwoBatches(),
        DataLoader(TensorDataset(*tensors), batch_size=8),
        DataLoader(Items(), batch_size=8),
        DataLoader(TensorDataset(*tensors), batch_size=8, collate_fn=_as_held),
    ):
        history = quiet(Net(), data, steps=6, batch_size=8, shuffle=False)
        found.append(history.losses.tolist())
    assert len(found[0]) == 6
    assert all(losses == found[0] for losses in found[1:])


def _as_held(items):
    x, target = (torch.stack(each) for each in zip(*items, strict=True))
    return Held(x, target)


def test_integers_become_classes_and_indices():
    tokens = np.array([[0, 1, 2], [2, 1, 0]], dtype=np.uint16)
    seen = []

    class Embedded(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(3, 4)

        def forward(self, x):
            seen.append(x.dtype)
            return self.table(x)

    history = quiet(Embedded(), (tokens, tokens.astype(np.int32)), epochs=1)
    assert seen == [torch.int64]
    assert history.losses[0] > 0.5  # cross entropy, in nats
    history = quiet(Net(outputs=2), (sums(4)[0], np.array([True, False, True, True])), epochs=1)
    assert len(history) == 1


def test_float_arrays_take_the_dtype_of_the_model():
    model = Net().double()
    quiet(model, sums(), epochs=1)
    assert {call[1] for call in model.calls} == {torch.float64}


@pytest.mark.parametrize("kind", ["classes", "floats"])
def test_padding_is_marked_so_that_it_does_not_count(kind):
    """Rubbish in the targets beyond the lengths changes nothing."""
    lengths = np.array([6, 2, 4, 1])
    x = sums(4)[0]
    target = (x[..., 0] > 0).astype(np.int64) if kind == "classes" else x.copy()
    beyond = np.arange(6) >= lengths[:, None]
    dirty = target.copy()
    dirty[beyond] = 1 if kind == "classes" else 1e6
    assert not np.array_equal(dirty, target)
    outputs = 2 if kind == "classes" else 1
    found = [
        quiet(Net(outputs=outputs, reduce=False), (x, each, lengths), epochs=3).losses.tolist()
        for each in (target, dirty)
    ]
    assert found[0] == found[1]


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


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, ValueError, "expected exactly one"),
        ({"epochs": 1, "steps": 1}, ValueError, "epochs is 1 and steps is 1; expected exactly one"),
        ({"epochs": 0}, ValueError, "epochs is 0; expected an integer >= 1"),
        ({"steps": 1.5}, ValueError, r"steps is 1\.5; expected an integer"),
        ({"epochs": 1, "batch_size": 0}, ValueError, "batch_size is 0"),
        ({"epochs": 1, "clip_norm": -1.0}, ValueError, r"clip_norm is -1\.0; expected a finite"),
        ({"epochs": 1, "clip_norm": math.nan}, ValueError, "clip_norm is nan"),
        ({"epochs": 1, "seed": -1}, ValueError, "seed is -1; expected an integer, 0 <= seed"),
        ({"epochs": 1, "validate_every": 0}, ValueError, "validate_every is 0"),
        ({"epochs": 1, "resume": "maybe"}, ValueError, "resume is 'maybe'; expected 'auto'"),
        (
            {"epochs": 1, "resume": "always"},
            ValueError,
            "resume is 'always', and checkpoint is None",
        ),
        ({"epochs": 1, "method": BPTT}, TypeError, r"method is <class .*BPTT\(\)"),
        ({"epochs": 1, "metrics": "mse"}, ValueError, "metrics need validation data"),
        ({"epochs": 1, "validation": Stream()}, ValueError, "validation is a stream without end"),
        ({"epochs": 1, "optimizer": 3}, TypeError, "optimizer is a int"),
        ({"epochs": 1, "optimizer": lambda p: None}, TypeError, "gave a NoneType"),
        ({"epochs": 1, "optimizer": torch.optim.LBFGS}, ValueError, "optimizer is LBFGS"),
        (
            {"epochs": 1, "optimizer": torch.optim.SGD(Net().parameters(), 0.1)},
            ValueError,
            "optimizer holds none of the model's parameters",
        ),
        ({"epochs": 1, "scheduler": 3}, TypeError, "scheduler is a int"),
        ({"epochs": 1, "scheduler": lambda o: None}, TypeError, "gave a NoneType"),
        (
            {
                "epochs": 1,
                "scheduler": torch.optim.lr_scheduler.StepLR(
                    torch.optim.SGD(Net().parameters(), 0.1), 1
                ),
            },
            ValueError,
            "scheduler belongs to another optimizer",
        ),
        (
            {
                "epochs": 1,
                "scheduler": Schedule(torch.optim.lr_scheduler.ReduceLROnPlateau, every="step"),
            },
            ValueError,
            "ReduceLROnPlateau looks at records",
        ),
        (
            {"epochs": 1, "early_stopping": EarlyStopping("accuracy")},
            ValueError,
            "EarlyStopping: monitor is 'accuracy'; this run has loss; pass validation=data",
        ),
        (
            {"epochs": 1, "fabric": Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn")},
            ValueError,
            "fabric has 2 processes",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_named(options, error, message):
    with pytest.raises(error, match=message):
        quiet(Net(), sums(), **options)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (3, TypeError, "data is a int; expected"),
        ((np.zeros((2, 3, 1)),), ValueError, "data has 1 entries; expected"),
        ((np.zeros((2, 3, 1)), np.zeros((3, 1))), ValueError, r"target of data has shape \(3, 1\)"),
        ((np.zeros(2), np.zeros(2)), ValueError, r"x of data has shape \(2,\); expected"),
        ((np.zeros((0, 3, 1)), np.zeros((0, 1))), ValueError, "expected at least one sequence"),
        ((np.zeros((2, 3, 1)), np.array(["a", "b"])), TypeError, "target of data has dtype <U1"),
        ((np.zeros((2, 3, 1)), None), ValueError, "target of data is None"),
        (
            (np.zeros((2, 3, 1)), np.zeros((2, 1)), [4, 1]),
            ValueError,
            r"lie in 1..4; expected 0..3",
        ),
        (
            (np.zeros((2, 3, 1)), np.zeros((2, 1)), [1]),
            ValueError,
            r"lengths of data has shape \(1,",
        ),
        ((np.zeros((2, 3, 1)), np.zeros((2, 1)), [1.5, 1]), ValueError, "and integers"),
        (
            Held(np.zeros((2, 3, 1)), np.zeros((2, 1)), resets=np.zeros((2, 3))),
            ValueError,
            r"resets of data has .*; expected \(2, 3\) and bool",
        ),
        (
            (np.zeros((2, 3, 1)), np.zeros(2)),
            ValueError,
            r"output has shape \(2, 1\) and target \(2",
        ),
        ((np.zeros((2, 3, 1)), np.array([0, 5])), ValueError, r"target has classes .*K = 1"),
        (DataLoader([1, 2]), TypeError, "a batch of data is a Tensor; expected"),
        (DataLoader([], batch_size=2), ValueError, "data gave no batch"),
    ],
)
def test_data_that_do_not_fit_are_named(data, error, message):
    with pytest.raises(error, match=message):
        quiet(Net(), data, epochs=1)


def test_a_stream_has_no_epochs_and_takes_one_index():
    with pytest.raises(ValueError, match="data is a stream without end; expected steps"):
        quiet(Net(), Stream(), epochs=1)

    class Task:
        def batch(self, batch_size, seed, index):
            raise AssertionError

    with pytest.raises(TypeError, match=r"data\.batch of Task does not take one index; .*stream"):
        quiet(Net(), Task(), steps=1)


def test_models_that_do_not_fit_are_named():
    with pytest.raises(TypeError, match="model is a int"):
        quiet(3, sums(), epochs=1)
    with pytest.raises(ValueError, match="Net has no parameter that requires a gradient"):
        quiet(Net().requires_grad_(False), sums(), epochs=1)

    class Tells(Net):
        def forward(self, x):
            return {"output": super().forward(x)}

    with pytest.raises(TypeError, match="model Tells returned a dict; expected a tensor"):
        quiet(Tells(), sums(), epochs=1)


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
