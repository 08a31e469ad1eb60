"""`fit_replicas` makes of each network what `fit` makes of it alone."""

import math
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.training.helpers import Stream
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau

import longlag as ll
from longlag.training import (
    CheckpointMismatchError,
    EarlyStopping,
    NonFiniteLossError,
    Schedule,
    StopTraining,
    TrainingInterrupted,
    fit,
    fit_replicas,
)
from longlag.training.compiled import networks

COUNT, STEPS, INPUTS = 23, 6, 3
RATES = [0.001, 0.03, 0.3]


def data(*, each_step=False, ragged=False):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(COUNT, STEPS, INPUTS, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 2, (COUNT, STEPS) if each_step else (COUNT,), generator=generator)
    target[0] = -100
    return (x, target, torch.arange(COUNT) % (STEPS + 1)) if ragged else (x, target)


def network(seed, *, each_step=False, layer=ll.GRU, **options):
    made = layer(INPUTS, 5, seed=seed, dtype=torch.float64, **options)
    return ll.SequenceModel(made, 2, reduce=None if each_step else "last", seed=seed)


def check_equal(models, histories, alone):
    for model, history, (other, expected) in zip(models, histories, alone, strict=True):
        assert history.stopped == expected.stopped
        assert history.best_step == expected.best_step
        np.testing.assert_allclose(history.losses, expected.losses, rtol=1e-10)
        np.testing.assert_allclose(history.gradient_norms, expected.gradient_norms, rtol=1e-10)
        for one, two in zip(history.records, expected.records, strict=True):
            assert (one.epoch, one.step) == (two.epoch, two.step)
            assert one.learning_rate == pytest.approx(two.learning_rate, rel=1e-12)
            assert one.loss == pytest.approx(two.loss, rel=1e-10)
            assert one.validation_loss == pytest.approx(two.validation_loss, rel=1e-10)
            assert one.metrics == two.metrics
        for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "shape", [{}, {"each_step": True, "ragged": True}, {"recurrent_dropout": 0.3}]
)
def test_each_is_what_fit_makes_of_it(shape, threads):
    each_step = {n: value for n, value in shape.items() if n != "ragged"}
    given = data(**{n: value for n, value in shape.items() if n != "recurrent_dropout"})
    options = {
        "validation": given, "metrics": "accuracy", "epochs": 7, "batch_size": 5,
        "early_stopping": EarlyStopping(patience=2),
    }  # fmt: skip
    clips, decays = [None, 0.1, 1.0], [0.0, 0.1, 0.01]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        models, histories = fit_replicas(
            lambda seed: network(seed, **each_step), given, seeds=[3, 4, 5], optimizer=AdamW,
            learning_rates=RATES, weight_decays=decays, clip_norm=clips, **options,
        )  # fmt: skip
    finally:
        torch.set_num_threads(before)
    alone = []
    for seed, rate, decay, clip_norm in zip([3, 4, 5], RATES, decays, clips, strict=True):
        model = network(seed, **each_step)
        history = fit(
            model, given, seed=seed, clip_norm=clip_norm, progress=False, **options,
            optimizer=lambda p, rate=rate, decay=decay: AdamW(p, rate, weight_decay=decay),
        )  # fmt: skip
        alone.append((model, history))
    assert [history.step for history in histories] == ["compiled"] * 3
    check_equal(models, histories, alone)


def test_lengths_of_whole_sequences_are_none(monkeypatch):
    asked, ask = [], networks.networks_at_once
    monkeypatch.setattr(
        networks, "networks_at_once", lambda *given: asked.append(given[1]) or ask(*given)
    )
    x, target = data()
    for lengths in ((), (torch.full((COUNT,), STEPS),), (torch.arange(COUNT) % STEPS,)):
        fit_replicas(network, (x, target, *lengths), seeds=[1], epochs=1, progress=False)
    assert [given.lengths is None for given in asked] == [True, True, False]


def test_schedules_are_each_networks_own():
    given = data()
    plans = [
        Schedule(lambda o: OneCycleLR(o, 0.2, total_steps=20), every="step"),
        None,
        Schedule(lambda o: ReduceLROnPlateau(o, patience=0, threshold=0.9)),
    ]
    options = {"validation": given, "epochs": 4, "batch_size": 5}

    def sgd(parameters):
        return SGD(parameters, 0.1, momentum=0.9)

    models, histories = fit_replicas(
        network, given, seeds=range(3), optimizer=sgd, scheduler=plans, **options
    )
    alone = []
    for seed, plan in enumerate(plans):
        model = network(seed)
        history = fit(
            model, given, seed=seed, scheduler=plan, optimizer=sgd, progress=False, **options
        )
        alone.append((model, history))
    check_equal(models, histories, alone)
    assert len({record.learning_rate for record in histories[2].records}) > 1


def test_copies_of_a_network_get_initial_weights_of_their_own():
    given, pattern = data(), network(0)
    first = {name: p.clone() for name, p in pattern.named_parameters()}
    models, histories = fit_replicas(pattern, given, seeds=[1, 2, 1], epochs=2)
    for name, parameter in pattern.named_parameters():
        torch.testing.assert_close(parameter, first[name], rtol=0, atol=0)
    np.testing.assert_array_equal(histories[0].losses, histories[2].losses)
    assert not np.array_equal(histories[0].losses, histories[1].losses)
    assert all(
        torch.equal(one, two)
        for one, two in zip(models[0].parameters(), models[2].parameters(), strict=True)
    )


def test_one_that_diverges_leaves_the_others_alone():
    x, target = data()
    y = target.double().unsqueeze(1)
    y[0] = math.nan

    def one(seed):
        layer = ll.Elman(INPUTS, 5, activation="identity", seed=seed, dtype=torch.float64)
        return ll.SequenceModel(layer, 1, seed=seed)

    rates = [1e-3, 1e60, 1e-2]
    models, histories = fit_replicas(
        one, (x, y), seeds=[0, 0, 0], learning_rates=rates, optimizer=SGD, epochs=5
    )
    assert [history.stopped for history in histories] == ["epochs", "not finite", "epochs"]
    model = one(0)
    with pytest.raises(NonFiniteLossError) as caught:
        fit(model, (x, y), optimizer=lambda p: SGD(p, 1e60), epochs=5, progress=False)
    assert len(histories[1]) == caught.value.step - 1
    assert all(p.isfinite().all() for p in models[0].parameters())


def test_many_updates_and_outputs_go_through_small_tables(monkeypatch):
    given = data()
    results = []
    for most, kept in ((1024, 1 << 22), (2, 1)):
        monkeypatch.setattr(networks, "MOST", most)
        monkeypatch.setattr(networks, "KEPT", kept)
        results.append(
            fit_replicas(network, given, seeds=range(5), validation=given, epochs=3, batch_size=4)
        )
    (models, histories), (others, again) = results
    for one, two in zip(histories, again, strict=True):
        np.testing.assert_array_equal(one.losses, two.losses)
        for a, b in zip(one.records, two.records, strict=True):
            assert a.validation_loss == pytest.approx(b.validation_loss, rel=1e-12)
    for one, two in zip(models, others, strict=True):
        assert all(map(torch.equal, one.parameters(), two.parameters()))


@pytest.mark.parametrize("steps", [1, 4, 5, 7, 15])
@pytest.mark.parametrize("loss", [None, ll.training.WeightedCrossEntropy((1, 3))])
def test_a_limit_of_updates_ends_it_as_it_ends_fit(steps, loss):
    given, alone = data(), []
    options = {"validation": given, "steps": steps, "batch_size": 5, "loss": loss}
    for seed in range(2):
        model = network(seed)
        alone.append((model, fit(model, given, seed=seed, progress=False, **options)))
    models, histories = fit_replicas(network, given, seeds=range(2), progress=False, **options)
    assert [(history.step, history.stopped) for history in histories] == [("compiled", "steps")] * 2
    check_equal(models, histories, alone)


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_callbacks_see_each_networks_records_and_may_stop_it(backend, capsys):
    seen, given = [], data()

    def look(number, record, model):
        seen.append((number, record, model.readout.weight.detach().clone()))
        if number == 1 and record.epoch == 2:
            raise StopTraining

    def make(seed):
        return network(seed, layer=ll.Elman, backend=backend)

    models, histories = fit_replicas(make, given, seeds=[0, 1], epochs=3, callbacks=[look])
    assert [history.stopped for history in histories] == ["epochs", "callback"]
    for number, (model, history) in enumerate(zip(models, histories, strict=True)):
        own = [(record, weight) for n, record, weight in seen if n == number]
        assert [record for record, _ in own] == history.records
        assert torch.equal(own[-1][1], model.readout.weight)
        assert not torch.equal(own[0][1], own[1][1])
    assert "epoch 1/3" in capsys.readouterr().err


def test_what_cannot_be_compiled_is_trained_by_fit():
    def dropped(seed):
        return network(seed, layer=ll.Elman, backend="reference")

    models, histories = fit_replicas(dropped, data(), seeds=[1, 2], epochs=2, batch_size=5)
    assert [history.step for history in histories] == ["eager"] * 2
    assert "backend" in histories[0].reason
    model = dropped(2)
    fit(model, data(), seed=2, epochs=2, batch_size=5, progress=False)
    assert all(map(torch.equal, model.parameters(), models[1].parameters()))
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data()), batch_size=5)
    _, histories = fit_replicas(network, loader, seeds=[1], epochs=2)
    assert (histories[0].step, histories[0].reason) == ("compiled", "")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"seeds": []}, ValueError, "seeds is empty"),
        ({"seeds": [1, 2], "learning_rates": [0.1]}, ValueError, "learning_rates has 1"),
        ({"seeds": [1, 2], "clip_norm": [0.1]}, ValueError, "clip_norm has 1"),
        ({"seeds": [1], "epochs": 0}, ValueError, "epochs"),
        ({"seeds": [1], "clip_norm": -1.0}, ValueError, "clip_norm"),
    ],
)
def test_arguments_that_do_not_fit_are_named(options, error, words):
    with pytest.raises(error, match=words):
        fit_replicas(network, data(), **{"epochs": 1, **options})


def test_other_models_and_data_are_refused_or_said():
    with pytest.raises(TypeError, match=r"expected a longlag\.SequenceModel"):
        fit_replicas(torch.nn.Linear(1, 1), data(), seeds=[1], epochs=1)
    made = ll.SequenceModel(ll.Elman(1, 4), 1)
    with pytest.raises(ValueError, match="stream without end"):
        fit_replicas(made, Stream(), seeds=[1], epochs=1)


GOING_ON = {
    "plain": {},
    "dropout": {"recurrent_dropout": 0.3},
    "schedules": {"scheduler": Schedule(lambda o: OneCycleLR(o, 0.5, total_steps=60), "step")},
}


def resumable(folder, epochs, *, callbacks=(), steps=None, layer_options=None, **options):
    given = data()
    return fit_replicas(
        lambda seed: network(seed, **(layer_options or {})), given, seeds=[3, 4, 5],
        optimizer=AdamW, learning_rates=[0.001, 0.03, 1e30], epochs=epochs, steps=steps,
        batch_size=5, validation=given, metrics="accuracy", progress=False, checkpoint=folder,
        early_stopping=[None, EarlyStopping(patience=2, min_delta=1.0), None], callbacks=callbacks,
        **options,
    )  # fmt: skip


def check_same_bits(one, other):
    for model, again, history, later in zip(one[0], other[0], one[1], other[1], strict=True):
        assert history == later
        for ours, theirs in zip(model.parameters(), again.parameters(), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("case", GOING_ON)
def test_a_run_that_is_ended_between_epochs_goes_on_with_the_same_bits(case, tmp_path):
    options = dict(GOING_ON[case])
    if case == "dropout":
        options = {"layer_options": options}
    if "scheduler" in options:
        options["scheduler"] = [options["scheduler"], None, None]
    whole = resumable(tmp_path / "whole", 8, **options)
    assert [history.stopped for history in whole.histories] == [
        "epochs", "early stopping", "not finite"
    ]  # fmt: skip

    def interrupt(number, record, model):
        if number == 0 and record.epoch == 3:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(TrainingInterrupted) as caught:
        resumable(tmp_path / "parts", 8, callbacks=[interrupt], **options)
    assert caught.value.code == 143
    assert caught.value.checkpoint.is_file()
    check_same_bits(whole, resumable(tmp_path / "parts", 8, resume="always", **options))
    check_same_bits(whole, resumable(tmp_path / "parts", 8, **options))  # there is nothing to do


KILLED = """
import os, sys
sys.path.insert(0, sys.argv[2])
from longlag.training import Checkpoint
from tests.training.test_replicas import resumable

def kill(number, record, model):
    if record.epoch == 5:
        os.kill(os.getpid(), 9)

resumable(Checkpoint(sys.argv[1], every_steps=10, every_seconds=None), 8, callbacks=[kill])
"""


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_from_its_last_save_with_the_same_bits(tmp_path):
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(root)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    first = []
    again = resumable(
        tmp_path, 8, resume="always",
        callbacks=[lambda number, record, model: first.append(record.epoch)],
    )  # fmt: skip
    assert first[0] == 5  # saved after 10 and 20 updates of each, which are two and four epochs
    check_same_bits(resumable(None, 8), again)


def test_a_limit_within_an_epoch_is_not_seen_in_a_run_that_goes_on(tmp_path):
    resumable(tmp_path, None, steps=7)
    models, histories = resumable(tmp_path, None, steps=13)
    check_same_bits(resumable(None, None, steps=13), (models, histories))


def test_another_runs_checkpoint_is_refused(tmp_path):
    resumable(tmp_path, 2)
    with pytest.raises(CheckpointMismatchError, match="clip_norms"):
        resumable(tmp_path, 2, clip_norm=1.0)
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        resumable(tmp_path / "none", 2, resume="always")
    with pytest.raises(ValueError, match="resume is 'always', and checkpoint is None"):
        resumable(None, 2, resume="always")
    resumable(tmp_path, 2, clip_norm=1.0, resume="never")


def test_what_fit_trains_is_saved_network_by_network(tmp_path):
    stream = Stream()

    def run(folder, steps):
        return fit_replicas(
            lambda seed: ll.SequenceModel(
                ll.Elman(1, 3, seed=seed, dtype=torch.float64), 1, seed=seed
            ),
            stream, seeds=[1, 2], steps=steps, progress=False, checkpoint=folder,
        )  # fmt: skip

    run(tmp_path / "parts", 3)
    assert (tmp_path / "parts" / "1" / "checkpoint.longlag").is_file()
    check_same_bits(run(None, 6), run(tmp_path / "parts", 6))
