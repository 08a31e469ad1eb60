import os
import signal
import threading

import pytest
from tests.training.helpers import Net, saved, sums

from longlag.training import Checkpoint, TrainingInterrupted, fit
from longlag.training.signals import Signals

CAUGHT = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers():
    """Whatever a test does, the handlers of pytest come back."""
    before = {number: signal.getsignal(number) for number in CAUGHT}
    yield before
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", CAUGHT)
def test_the_first_is_noted_and_the_handlers_come_back(handlers, number):
    with Signals() as signals:
        assert signals.received is None
        os.kill(os.getpid(), number)
        assert signals.received == number
    assert {each: signal.getsignal(each) for each in CAUGHT} == handlers


@pytest.mark.parametrize("first", CAUGHT)
@pytest.mark.parametrize(
    ("second", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_the_second_stops_at_once(handlers, first, second, error):
    def both():
        with Signals():
            signal.raise_signal(first)
            signal.raise_signal(second)

    with pytest.raises(error) as caught:
        both()
    assert error is KeyboardInterrupt or caught.value.code == 143
    assert {each: signal.getsignal(each) for each in CAUGHT} == handlers


def test_an_ignored_signal_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Signals() as signals:
        signal.raise_signal(signal.SIGINT)
        assert signals.received is None
        signal.raise_signal(signal.SIGTERM)
        assert signals.received == signal.SIGTERM
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_other_threads_train_without_handlers(handlers):
    seen, errors = [], []

    def look(record, model):
        seen.append({each: signal.getsignal(each) for each in CAUGHT})

    def work():
        try:
            fit(Net(), sums(), epochs=1, callbacks=[look], progress=False)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert errors == []
    assert seen == [handlers]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_fit_finishes_the_step_saves_and_says_so(tmp_path, capsys, handlers, number, code):
    calls = []

    def loss(output, target):
        calls.append(0)
        if len(calls) == 5:
            signal.raise_signal(number)
        return (output - target).square().mean()

    checkpoint = Checkpoint(tmp_path, every_seconds=None)
    with pytest.raises(TrainingInterrupted) as caught:
        fit(Net(), sums(), loss=loss, epochs=9, checkpoint=checkpoint)
    error = caught.value
    assert (error.code, error.step, error.checkpoint) == (code, 5, checkpoint.path)
    state = saved(tmp_path)
    assert state["position"]["step"] == len(state["history"]["losses"]) == 5
    assert state["position"]["batch"] == 1
    message = f"interrupted after step 5, saved in {checkpoint.path}; the same call goes on from"
    assert message in capsys.readouterr().err
    assert {each: signal.getsignal(each) for each in CAUGHT} == handlers


def test_without_a_checkpoint_it_says_that_nothing_was_saved():
    def interrupt(record, model):
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(SystemExit, match="interrupted after step 2, not saved; pass checkpoint="):
        fit(Net(), sums(), epochs=9, callbacks=[interrupt], progress=False)


def test_a_signal_in_the_last_save_is_not_swallowed(tmp_path, monkeypatch):
    from longlag.training.checkpoints import CheckpointFile

    save = CheckpointFile.save

    def interrupted(self, state):
        save(self, state)
        signal.raise_signal(signal.SIGTERM)

    options = {"epochs": 2, "checkpoint": tmp_path, "progress": False}
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFile, "save", interrupted)
        with pytest.raises(TrainingInterrupted) as caught:
            fit(Net(), sums(), **options)
    assert (caught.value.code, caught.value.step) == (143, 4)
    assert len(fit(Net(), sums(), **options)) == 4
