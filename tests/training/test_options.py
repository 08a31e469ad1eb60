import dataclasses
import pkgutil

import pytest
import torch
from tests.training.helpers import Net, sums, weights
from torch import nn
from torch.optim import lr_scheduler

import longlag.training
from longlag.training import Checkpoint, EarlyStopping, Record, Schedule, fit
from longlag.training.metrics import make_meters
from longlag.training.stopping import Stopper

MODULES = [each.name for each in pkgutil.iter_modules(longlag.training.__path__)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Checkpoint("f", every_steps=0), "Checkpoint: every_steps is 0; expected a number"),
        (lambda: Checkpoint("f", every_seconds=-1), "Checkpoint: every_seconds is -1"),
        (lambda: EarlyStopping(patience=0), "EarlyStopping: patience is 0"),
        (lambda: EarlyStopping(mode="best"), "EarlyStopping: mode is 'best'; expected 'min'"),
        (lambda: EarlyStopping(min_delta=float("nan")), "min_delta is nan; expected >= 0"),
        (lambda: Schedule(lr_scheduler.StepLR, every="day"), "Schedule: every is 'day'"),
    ],
)
def test_options_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("option", [Checkpoint("f"), EarlyStopping(), Schedule(print)])
def test_options_are_frozen_and_closed(option):
    with pytest.raises(dataclasses.FrozenInstanceError):
        option.monitor = "x"
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        type(option)(**dataclasses.asdict(option), color="red")


def records(values, name="loss"):
    for step, value in enumerate(values, start=1):
        yield (
            Record(1, step, 0.0, 0.1, value)
            if name == "loss"
            else Record(1, step, 0.0, 0.1, 0.0, 0.0, {name: value})
        )


@pytest.mark.parametrize(
    ("values", "options", "stops_at", "best"),
    [
        ([3, 2, 1, 1, 1], {"patience": 2}, 5, 3),
        ([3, 4, 2, 4, 4], {"patience": 2}, 5, 3),
        ([3, 2.9, 2.8, 2.7], {"patience": 3, "min_delta": 0.5}, 4, 1),
        ([1, 2, 3, 3, 2], {"patience": 2, "mode": "max"}, 5, 3),
        ([float("nan"), 3, float("nan"), float("nan")], {"patience": 2}, 4, 2),
        ([float("inf"), float("inf"), 1, 2], {"patience": 2}, None, 3),
        ([5, 4, 3, 2, 1], {"patience": 1}, None, 5),
    ],
)
def test_when_it_stops(values, options, stops_at, best):
    stopper, model = Stopper(EarlyStopping(**options), {}, validated=False), nn.Linear(1, 1)
    kept, stopped = {}, None
    for record in records(values):
        with torch.no_grad():
            model.weight.fill_(record.step)
        if stopper.update(record, model):
            stopped = record.step
            break
    assert stopped == stops_at
    assert stopper.best_step == best
    stopper.restore(model)
    kept = model.weight.item()
    assert kept == best


@pytest.mark.parametrize(("metric", "sign"), [("accuracy", -1.0), ("mse", 1.0)])
def test_the_metric_says_what_is_better(metric, sign):
    options = EarlyStopping(metric)
    assert Stopper(options, make_meters(metric), validated=True).sign == sign


def test_a_callable_does_not_say_what_is_better():
    meters = make_meters({"mine": lambda output, target: 0.0})
    with pytest.raises(ValueError, match="'mine' does not say whether more or less is better"):
        Stopper(EarlyStopping("mine"), meters, validated=True)
    assert Stopper(EarlyStopping("mine", mode="max"), meters, validated=True).sign == -1.0


def test_the_model_ends_with_its_best_weights():
    """Also where it was not early stopping that ended the run."""
    seen = {}

    def remember(record, model):
        seen[record.step] = (record.validation_loss, weights(model))

    for patience in (1, 100):
        seen.clear()
        model = Net()
        history = fit(
            model,
            sums(16),
            validation=sums(16, seed=1),
            optimizer=lambda p: torch.optim.SGD(p, 3.0),
            epochs=12,
            early_stopping=EarlyStopping(patience=patience),
            callbacks=[remember],
            progress=False,
        )
        best = min(seen, key=lambda step: seen[step][0])
        assert best < len(history)  # the last weights are not the best
        assert history.best_step == best
        assert all(torch.equal(seen[best][1][k], v) for k, v in weights(model).items())
        assert history.stopped == ("early stopping" if patience == 1 else "epochs")


def rates(scheduler, **options):
    history = fit(
        Net(),
        sums(64),
        scheduler=scheduler,
        optimizer=lambda p: torch.optim.SGD(p, 1.0),
        progress=False,
        **options,
    )
    return [each.learning_rate for each in history.records]


def test_a_scheduler_steps_by_epoch_or_by_step():
    halve = lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.5)  # noqa: E731
    assert rates(halve, epochs=3) == [1.0, 0.5, 0.25]
    assert rates(Schedule(halve, every="step"), epochs=3) == [0.25, 0.0625, 0.015625]
    assert rates(halve, steps=6, validate_every=3) == [1.0, 0.5]


def test_a_scheduler_may_come_with_its_optimizer():
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    scheduler = lr_scheduler.StepLR(optimizer, 1, 0.1)
    fit(model, sums(), optimizer=optimizer, scheduler=scheduler, epochs=2, progress=False)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)


def test_the_plateau_looks_at_the_monitored_number():
    def plateau(optimizer):
        return lr_scheduler.ReduceLROnPlateau(optimizer, "max", patience=0, factor=0.5)

    constant = {"constant": lambda output, target: 1.0}
    options = {"validation": sums(8), "metrics": constant, "epochs": 3}
    assert rates(Schedule(plateau, monitor="constant"), **options) == [1.0, 1.0, 0.5]
    with pytest.raises(ValueError, match="Schedule: monitor is 'absent'; this run has loss, val"):
        rates(Schedule(plateau, monitor="absent"), **options)
