"""A small recurrent model and small problems, shared by the tests of training."""

import numpy as np
import torch
from torch import nn

from longlag.storage import from_document, read_archive
from longlag.training import fit


def quiet(model, data, **options):
    return fit(model, data, progress=False, **options)


class Net(nn.Module):
    """A GRU with a readout; notes how it was called."""

    def __init__(self, inputs=1, hidden=4, outputs=1, *, dropout=0.0, reduce=True, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.core = nn.GRU(inputs, hidden, batch_first=True)
            self.drop = nn.Dropout(dropout)
            self.readout = nn.Linear(hidden, outputs)
        self.reduce = reduce
        self.calls = []

    def forward(self, x, **inputs):
        self.calls.append((x.shape, x.dtype, sorted(inputs), self.training))
        states, _ = self.core(x)
        if self.reduce:
            states = states[:, -1]
        return self.readout(self.drop(states))


def sums(count=40, steps=6, seed=0):
    """The mean of the inputs: (N, T, 1) and (N, 1), float32."""
    generator = np.random.default_rng(seed)
    x = generator.uniform(-1, 1, (count, steps, 1)).astype(np.float32)
    return x, x.mean(axis=1)


def signs(count=40, steps=6, seed=0):
    """Whether the sum of the inputs is positive: (N, T, 1) float32 and (N,) int64."""
    x, mean = sums(count, steps, seed)
    return x, (mean[:, 0] > 0).astype(np.int64)


class Stream:
    """Endless sums; batch i is a function of (seed, i)."""

    def __init__(self, size=8, steps=6, seed=0):
        self.size, self.steps, self.seed = size, steps, seed
        self.asked = []

    def batch(self, index):
        self.asked.append(index)
        return Held(*sums(self.size, self.steps, (self.seed, index)))


class Held:
    """x and target, and what else is given, as attributes."""

    def __init__(self, x, target, **others):
        self.x, self.target = x, target
        self.__dict__.update(others)


def weights(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same_tree(a, b):
    """Equal in every bit and type."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same_tree(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same_tree, a, b))
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and _bytes(a) == _bytes(b)
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return a == b


def _bytes(tensor):
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


def saved(folder):
    """The state of the newest checkpoint in a folder, without its times."""
    state = from_document(*read_archive(folder / "checkpoint.longlag", "checkpoint"))
    state["position"].pop("seconds")
    for record in state["history"]["records"]:
        record.pop("seconds")
    return state
