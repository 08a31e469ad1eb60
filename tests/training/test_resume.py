"""A run that stops and goes on equals one that never stopped, in every bit but the times."""

import random

import numpy as np
import pytest
import torch
from tests.training.helpers import Net, Stream, same_tree, saved, signs, sums, weights
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Dataset, TensorDataset

from longlag.storage import ArchiveError
from longlag.training import (
    Checkpoint,
    CheckpointMismatchError,
    CheckpointWarning,
    EarlyStopping,
    Schedule,
    fit,
)


class Halt(Exception):
    """The process ends here."""


class HaltAfter:
    """A loss that ends the process at evaluation number `count` of the training loss."""

    def __init__(self, count):
        self.left = count

    def __call__(self, output, target):
        if output.requires_grad:
            if self.left == 0:
                raise Halt
            self.left -= 1
        return nn.functional.mse_loss(output, target)


def run(folder, make_data, *, halt_at=None, **options):
    """A run that dies in step `halt_at` + 1, with a checkpoint of every step before it."""
    model = Net(dropout=0.4)
    history = fit(
        model,
        make_data(),
        loss=HaltAfter(10**9 if halt_at is None else halt_at),
        progress=False,
        checkpoint=Checkpoint(folder, every_steps=1, every_seconds=None),
        **{name: value() if name in MADE else value for name, value in options.items()},
    )
    return model, history


MADE = ("optimizer", "scheduler", "validation")
"""Options that are made anew for each process."""


def check(tmp_path, make_data, *, halts=None, **options):
    """Stop after each step in turn, go on, and compare model, history and checkpoint."""
    model, history = run(tmp_path / "whole", make_data, **options)
    whole = saved(tmp_path / "whole")
    for halt in halts or range(1, len(history)):
        folder = tmp_path / f"halt {halt}"
        with pytest.raises(Halt):
            run(folder, make_data, halt_at=halt, **options)
        torch.rand(halt)  # another process has drawn other numbers
        random.random()
        again, same = run(folder, make_data, resume="always", **options)
        assert same == history, halt
        assert same_tree(weights(again), weights(model)), halt
        assert same_tree(saved(folder), whole), halt
    return history


def momentum():
    return lambda parameters: torch.optim.SGD(parameters, 0.05, momentum=0.9, nesterov=True)


@pytest.mark.slow
def test_arrays_at_every_step(tmp_path):
    """Dropout, shuffling, momentum, clipping, validation, in the middle and at ends of epochs."""
    history = check(
        tmp_path,
        lambda: sums(20),
        epochs=3,
        batch_size=6,
        optimizer=momentum,
        scheduler=lambda: lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.8),
        validation=lambda: sums(7, seed=1),
        metrics=["mae"],
        clip_norm=0.1,
        early_stopping=EarlyStopping(patience=2),
    )
    assert len(history) == 12
    assert history.gradient_norms.max() > 0.1


@pytest.mark.slow
def test_a_stream_at_every_step(tmp_path):
    check(
        tmp_path,
        Stream,
        steps=9,
        validate_every=4,
        scheduler=lambda: Schedule(
            lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=9), every="step"
        ),
    )


class Noisy(Dataset):
    """Draws from all global generators when an item is asked for."""

    def __init__(self):
        self.x, self.target = (torch.from_numpy(each) for each in sums(15))

    def __len__(self):
        return 15

    def __getitem__(self, index):
        noise = torch.rand(()) + random.random() + float(np.random.rand())  # noqa: NPY002
        return self.x[index] + 0.01 * noise, self.target[index]


def loader():
    return DataLoader(Noisy(), batch_size=4, shuffle=True)


def loader_with_generator():
    generator = torch.Generator().manual_seed(3)
    return DataLoader(
        TensorDataset(*map(torch.from_numpy, sums(15))),
        batch_size=4,
        shuffle=True,
        generator=generator,
    )


def loader_without_length():
    class Items(torch.utils.data.IterableDataset):
        def __iter__(self):
            return (Noisy()[index] for index in torch.randperm(15).tolist())

    return DataLoader(Items(), batch_size=4)


@pytest.mark.slow
@pytest.mark.parametrize("make", [loader, loader_with_generator, loader_without_length])
def test_a_loader_at_every_step(tmp_path, make):
    history = check(tmp_path, make, epochs=2, validation=make)
    assert len(history) == 8
    assert history.losses[0] != history.losses[4]


@pytest.mark.slow
def test_a_loader_with_workers(tmp_path):
    def make():
        data = TensorDataset(*map(torch.from_numpy, sums(15)))
        workers = {"num_workers": 1, "multiprocessing_context": "fork"}
        return DataLoader(data, batch_size=4, shuffle=True, **workers)

    check(tmp_path, make, epochs=2, halts=[3, 5])


OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, 0.01, amsgrad=True),
    "AdamW": torch.optim.AdamW,
    "NAdam": torch.optim.NAdam,
    "RAdam": torch.optim.RAdam,
    "Adamax": torch.optim.Adamax,
    "Adagrad": torch.optim.Adagrad,
    "Adadelta": torch.optim.Adadelta,
    "RMSprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.5, centered=True),
    "Rprop": torch.optim.Rprop,
    "ASGD": torch.optim.ASGD,
    "Adafactor": getattr(torch.optim, "Adafactor", torch.optim.Adam),
    "tensor learning rate": lambda p: torch.optim.Adam(p, torch.tensor(0.01)),
    "groups": lambda p: torch.optim.SGD(
        [{"params": p[:2], "lr": 0.1, "momentum": 0.9}, {"params": p[2:]}], 0.01
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(tmp_path, name):
    check(tmp_path, sums, epochs=3, halts=[3, 4], optimizer=lambda: OPTIMIZERS[name])


SCHEDULERS = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [1, 3, 3]),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 5),
    "warm restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 2, cycle_momentum=False),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=20),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda n: 1 / (n + 1)),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 5),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1), lr_scheduler.ExponentialLR(o, 0.9)], [2]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.LinearLR(o), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0, threshold=0.5),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "every"),
    [(name, "epoch") for name in SCHEDULERS]
    + [(name, "step") for name in SCHEDULERS if name != "ReduceLROnPlateau"],
)
def test_every_scheduler(tmp_path, name, every):
    history = check(
        tmp_path,
        sums,
        epochs=5,
        halts=[1, 2, 5],
        scheduler=lambda: Schedule(SCHEDULERS[name], every=every),
        validation=lambda: sums(8, seed=2),
    )
    assert len({each.learning_rate for each in history.records}) > 1


@pytest.mark.slow
def test_early_stopping_with_resume_at_every_step(tmp_path):
    def too_fast():
        return lambda parameters: torch.optim.SGD(parameters, 3.0)

    history = check(
        tmp_path,
        lambda: sums(16),
        epochs=50,
        batch_size=8,
        optimizer=too_fast,
        validation=lambda: sums(8, seed=1),
        early_stopping=EarlyStopping(patience=3),
    )
    assert history.stopped == "early stopping"
    assert 3 < len(history.records) < 50


def test_a_finished_run_is_not_run_again(tmp_path):
    first, history = run(tmp_path, sums, epochs=2, early_stopping=EarlyStopping(patience=5))
    again, same = run(tmp_path, sums, epochs=2, early_stopping=EarlyStopping(patience=5))
    assert again.calls == []
    assert same == history
    assert same_tree(weights(again), weights(first))


@pytest.mark.parametrize(
    ("short", "long"), [({"epochs": 2}, {"epochs": 4}), ({"steps": 3}, {"steps": 8})]
)
def test_a_finished_run_can_be_made_longer(tmp_path, short, long):
    """Even where the shorter run ended, and made a record, in the middle of an epoch."""
    options = {"validation": lambda: sums(8, seed=1), "early_stopping": EarlyStopping(patience=9)}
    _, history = run(tmp_path / "whole", sums, **long, **options)
    _, first = run(tmp_path / "parts", sums, **short, **options)
    _, both = run(tmp_path / "parts", sums, **long, **options)
    assert first.stopped == next(iter(short))
    assert both == history
    assert same_tree(saved(tmp_path / "parts"), saved(tmp_path / "whole"))


def halted(folder, **options):
    with pytest.raises(Halt):
        run(folder, sums, halt_at=5, epochs=4, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 16}, "data batch_size: saved 32, now 16"),
        ({"seed": 1}, "seed: saved 0, now 1"),
        ({"clip_norm": 1.0}, r"clip_norm: saved None, now 1\.0"),
        ({"shuffle": False}, "data shuffle: saved True, now False"),
        ({"validation": sums}, "validation kind: saved None, now 'arrays'"),
        ({"validate_every": 3}, "validate_every: saved None, now 3"),
        ({"early_stopping": EarlyStopping()}, "early_stopping: saved 'None', now 'EarlyStopping"),
        ({"optimizer": lambda: torch.optim.AdamW}, "optimizer class: saved 'Adam', now 'AdamW'"),
        (
            {"optimizer": lambda: lambda p: torch.optim.Adam(p, lr=0.1)},
            r"optimizer lr: saved '0\.001', now '0\.1'",
        ),
        (
            {"scheduler": lambda: lambda o: lr_scheduler.StepLR(o, 1)},
            "scheduler: saved None, now 'StepLR every epoch'",
        ),
    ],
)
def test_other_settings_are_named(tmp_path, change, message):
    halted(tmp_path)
    before = (tmp_path / "checkpoint.longlag").read_bytes()
    with pytest.raises(CheckpointMismatchError, match=message):
        run(tmp_path, sums, epochs=4, **change)
    assert (tmp_path / "checkpoint.longlag").read_bytes() == before


def test_another_model_and_other_data_are_named(tmp_path):
    options = {"loss": HaltAfter(9), "epochs": 4, "checkpoint": tmp_path, "progress": False}
    fit(Net(), sums(), **options)
    with pytest.raises(CheckpointMismatchError, match="parameters: saved"):
        fit(Net(hidden=5), sums(), **options)
    with pytest.raises(
        CheckpointMismatchError, match=r"data x: saved \[40, 6, 1\], now \[41, 6, 1\]"
    ):
        fit(Net(), sums(41), **options)
    with pytest.raises(CheckpointMismatchError, match="data contents: saved"):
        fit(Net(), sums(seed=1), **options)
    with pytest.raises(CheckpointMismatchError, match="data kind: saved 'arrays', now 'stream'"):
        fit(Net(), Stream(), **{**options, "epochs": None, "steps": 5})


def test_never_starts_anew_and_forgets_the_other_run(tmp_path):
    halted(tmp_path)
    assert (tmp_path / "checkpoint.longlag.previous").exists()
    options = {"checkpoint": Checkpoint(tmp_path, every_seconds=None), "progress": False}
    history = fit(Net(outputs=2), signs(), epochs=1, resume="never", **options)
    assert len(history) == 2
    assert sorted(each.name for each in tmp_path.iterdir()) == ["checkpoint.longlag"]


def test_always_needs_a_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match="resume='always', and there is no checkpoint"):
        fit(Net(), sums(), epochs=1, checkpoint=tmp_path / "new", resume="always", progress=False)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("damage", ["cut", "flipped", "missing", "empty"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, damage):
    _, history = run(tmp_path / "whole", sums, epochs=4)
    folder = tmp_path / "parts"
    halted(folder)
    path, previous = folder / "checkpoint.longlag", folder / "checkpoint.longlag.previous"
    data = bytearray(path.read_bytes())
    kept = previous.read_bytes()
    data[len(data) // 2] ^= 1
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"cut": data[:-9], "flipped": data, "empty": b""}[damage])
    message = r"newest checkpoint .*checkpoint\.longlag cannot be used \(.*going on from the one"
    with pytest.warns(CheckpointWarning, match=message), pytest.raises(Halt):
        # The first save must not push the damaged file over the good one.
        run(folder, sums, halt_at=1, epochs=4)
    assert previous.read_bytes() == kept
    _, again = run(folder, sums, epochs=4)
    assert again == history
    assert same_tree(saved(folder), saved(tmp_path / "whole"))


def test_two_damaged_checkpoints_are_an_error(tmp_path):
    halted(tmp_path)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArchiveError, match=r"checkpoint\.longlag\.previous: it"):
        run(tmp_path, sums, epochs=4)


def test_a_model_archive_is_no_checkpoint(tmp_path):
    from longlag.storage import write_archive

    write_archive(tmp_path / "checkpoint.longlag", "model", {}, {})
    with pytest.raises(ArchiveError, match="it holds a 'model', and a 'checkpoint' was expected"):
        run(tmp_path, sums, epochs=1)


@pytest.mark.parametrize(
    "document", [{"$tensor": "absent"}, {"$dict": [[1]]}, {"$float": "\ud800"}, [1], "state", None]
)
def test_a_checkpoint_whose_content_is_no_state_is_refused_and_left_as_it_is(tmp_path, document):
    from longlag.storage import write_archive

    halted(tmp_path)
    path = tmp_path / "checkpoint.longlag"
    write_archive(path, "checkpoint", document, {})
    before = path.read_bytes()
    with pytest.raises(ArchiveError, match=r"checkpoint\.longlag: its state cannot be taken up"):
        run(tmp_path, sums, epochs=4)
    assert path.read_bytes() == before


def test_state_that_is_no_data_is_named(tmp_path):
    class Odd(Net):
        def get_extra_state(self):
            return {"when": {1, 2}}

    with pytest.raises(TypeError, match=r"state at model/_extra_state/when: a builtins\.set"):
        fit(Odd(), sums(), epochs=1, checkpoint=tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_saving_by_time_changes_no_number(tmp_path):
    plain, timed = Net(), Net()
    history = fit(plain, sums(), epochs=3, progress=False)
    checkpoint = Checkpoint(tmp_path, every_seconds=1e-9)
    again = fit(timed, sums(), epochs=3, progress=False, checkpoint=checkpoint)
    assert again == history
    assert same_tree(weights(plain), weights(timed))
    assert (tmp_path / "checkpoint.longlag.previous").exists()
