"""Data that can be read once lose nothing to the look at their first batch."""

import pytest
import torch
from tests.training.helpers import Net, quiet, same_tree, sums, weights
from torch.utils.data import DataLoader, IterableDataset

from longlag.training import Checkpoint


class Once(IterableDataset):
    """Gives the same iterator each time; counts what was taken from it."""

    def __init__(self, count=12):
        self.taken = 0
        x, target = map(torch.from_numpy, sums(count))
        self.items = self._items(x, target)

    def _items(self, x, target):
        for pair in zip(x, target, strict=True):
            self.taken += 1
            yield pair

    def __iter__(self):
        return self.items


class Itself(Once):
    """Is its own iterator."""

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.items)


class Again(Once):
    """Begins anew each time."""

    def __init__(self, count=12):
        self.pairs = list(zip(*map(torch.from_numpy, sums(count)), strict=True))

    def __iter__(self):
        return iter(self.pairs)


@pytest.mark.parametrize("kind", [Once, Itself])
@pytest.mark.parametrize("count", [4, 10, 12])
def test_the_first_batch_is_trained_on(kind, count):
    model, other, data = Net(), Net(), kind(count)
    history = quiet(model, DataLoader(data, batch_size=4), epochs=1)
    assert data.taken == count
    assert len(history) == -(-count // 4)
    assert history == quiet(other, DataLoader(Again(count), batch_size=4), epochs=1)
    assert same_tree(weights(model), weights(other))


def test_one_batch_is_held_out_of_none():
    loader = DataLoader(Once(0), batch_size=4)
    with pytest.raises(ValueError, match="data gave no batch in a whole epoch"):
        quiet(Net(), loader, epochs=1)


def test_a_second_epoch_of_data_read_once_is_an_error():
    with pytest.raises(ValueError, match="data gave no batch in a whole epoch"):
        quiet(Net(), DataLoader(Once(), batch_size=4), epochs=2)


def test_a_run_goes_on_where_it_stopped(tmp_path):
    whole, model = Net(), Net()
    options = {"checkpoint": Checkpoint(tmp_path / "parts", every_steps=1)}
    wanted = quiet(whole, DataLoader(Again(), batch_size=4), steps=3)
    quiet(model, DataLoader(Once(), batch_size=4), steps=1, **options)
    history = quiet(model, DataLoader(Once(), batch_size=4), steps=3, **options)
    assert (history.losses == wanted.losses).all()
    assert same_tree(weights(model), weights(whole))
