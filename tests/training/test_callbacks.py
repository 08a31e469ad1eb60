"""Callbacks of `fit`: after each record, after each update, or both."""

import pytest
import torch
from tests.training.helpers import Net, Stream, quiet, same_tree, sums, weights

import longlag as ll
from longlag.gradients import TruncatedBPTT
from longlag.training import Checkpoint, StopTraining


class Counts:
    """Sees updates only."""

    def __init__(self, stop=None):
        self.steps, self.models, self.stop = [], [], stop

    def after_update(self, step, model):
        self.steps.append(step)
        self.models.append(model)
        if step == self.stop:
            raise StopTraining


class Both(Counts):
    """Sees records too."""

    def __call__(self, record, model):
        self.steps.append(f"record {record.step}")


def test_each_update_is_told_before_the_record_that_it_makes_due():
    both, model = Both(), Net()
    quiet(model, sums(), steps=5, batch_size=10, validate_every=2, callbacks=[both])
    assert both.steps == [1, 2, "record 2", 3, 4, "record 4", 5, "record 5"]
    assert all(each is model for each in both.models)


def test_the_update_has_been_made_and_its_gradient_is_there():
    seen = []

    class Looks:
        def after_update(self, step, model):
            seen.append((model.readout.weight.detach().clone(), model.readout.weight.grad.clone()))

    model = Net()
    first = model.readout.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    quiet(model, sums(), steps=2, clip_norm=1e-3, optimizer=optimizer, callbacks=[Looks()])
    for before, (after, gradient) in zip([first, seen[0][0]], seen, strict=True):
        torch.testing.assert_close(after, before - 0.5 * gradient, rtol=0, atol=1e-7)
        assert 0 < float(gradient.norm()) <= 1e-3
    assert not torch.equal(first, seen[0][0])


@pytest.mark.slow
def test_a_window_without_an_update_is_none():
    x, _ = sums(4, 6)
    target = x.copy()
    target[:, 2:4] = float("nan")
    counts = Counts()
    model = ll.SequenceModel(ll.Elman(1, 3, seed=0), 1, reduce=None, seed=1)
    history = quiet(model, (x, target), epochs=1, method=TruncatedBPTT(2), callbacks=[counts])
    assert counts.steps == [1, 2]
    assert len(history) == 2


def test_a_resumed_run_goes_on_counting(tmp_path):
    first, second = Counts(), Counts()
    options = {"batch_size": 10, "checkpoint": Checkpoint(tmp_path, every_steps=1)}
    quiet(Net(), sums(), steps=3, callbacks=[first], **options)
    quiet(Net(), sums(), steps=7, callbacks=[second], **options)
    assert first.steps == [1, 2, 3]
    assert second.steps == [4, 5, 6, 7]


def test_it_may_stop_the_run_and_the_others_are_still_told():
    others = Both()
    history = quiet(Net(), Stream(), steps=9, callbacks=[Counts(stop=3), others])
    assert history.stopped == "callback"
    assert len(history) == 3
    assert others.steps == [1, 2, 3, "record 3"]


def test_bits_do_not_depend_on_callbacks():
    plain, told = Net(dropout=0.4), Net(dropout=0.4)
    before = quiet(plain, sums(), epochs=2)
    after = quiet(told, sums(), epochs=2, callbacks=(Both(), lambda record, model: None))
    assert after == before
    assert same_tree(weights(told), weights(plain))


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ([print, 3], r"callbacks\[1\] is a int; expected a callable\(record, model\), or an"),
        ([Counts], r"callbacks\[0\] is the class Counts; expected an object of it: Counts\(\.\.\."),
        (Counts(), r"callbacks is a Counts; expected a sequence of callbacks, such as \[callback"),
    ],
)
def test_what_is_no_callback_is_refused_before_training(callbacks, message):
    model = Net()
    with pytest.raises(TypeError, match=message):
        quiet(model, sums(), epochs=1, callbacks=callbacks)
    assert not model.calls
