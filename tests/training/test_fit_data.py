"""What `fit` takes as data, and what it says of data that do not fit."""

import numpy as np
import pytest
import torch
from tests.training.helpers import Held, Net, Stream, quiet, sums
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from longlag.training import Batch, Endless


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

    assert isinstance(TwoBatches(), Endless)
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


@pytest.mark.parametrize("ragged", [[[0.1, 0.2], [0.3]], [np.zeros((3, 1)), np.zeros((2, 1))]])
def test_ragged_data_are_to_be_padded(ragged):
    fix = r"is ragged; expected one length T .*Pad x with zeros, .*\(x, target, lengths\)"
    with pytest.raises(ValueError, match="x of data " + fix):
        quiet(Net(), (ragged, np.zeros((2, 1))), epochs=1)
    with pytest.raises(ValueError, match="target of validation " + fix):
        quiet(Net(), sums(), validation=(np.zeros((2, 3, 1)), ragged), epochs=1)
    held = np.empty(2, object)
    held[:] = ragged
    with pytest.raises(TypeError, match=r"x of data has dtype object; .*Pad x with zeros"):
        quiet(Net(), (held, np.zeros((2, 1))), epochs=1)
