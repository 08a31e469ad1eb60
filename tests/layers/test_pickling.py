"""Layers, states, cells and models go to another process, and come back as they were.

longlag itself loads no pickle: `ll.load` reads files.
"""

import copy
import io
import pickle
from dataclasses import dataclass

import pytest
import torch
from torch import multiprocessing, nn

import longlag as ll
from longlag.recurrence import tanh


@dataclass(frozen=True)
class Own(ll.Cell):
    """A cell of one's own, at the top of its module."""

    slope: float = 0.5

    gates = ("candidate",)

    def update(self, pre, state, unit):
        return {"h": tanh(self.slope * pre.candidate) + 0.1 * state.h}


MODELS = {
    "LSTM": lambda: ll.LSTM(4, 6),
    "GRU": lambda: ll.GRU(4, 6, replicas=2),
    "Leaky": lambda: ll.Leaky(4, 6, train_leak=True),
    "Skip": lambda: ll.Skip(4, 6, delays=(1, 3)),
    "Clockwork": lambda: ll.Clockwork(4, 6, periods=(1, 2)),
    "sparse": lambda: ll.Elman(4, 6, density=0.5),
    "own": lambda: ll.Recurrent(Own(0.7), 4, 6),
    "stack": lambda: ll.Stack(ll.Elman(4, 5), ll.LSTM(5, 6)),
    "both": lambda: ll.Bidirectional(ll.GRU(4, 6)),
    "model": lambda: ll.SequenceModel(ll.LSTM(4, 6), 2),
}


def inputs(model):
    x = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    return x.expand(2, 3, 5, 4) if getattr(model, "replicas", None) else x


def leaves(result):
    return torch.utils._pytree.tree_leaves(result)


def there_and_back(thing):
    return pickle.loads(pickle.dumps(thing))  # noqa: S301 - our own bytes


def saved_and_loaded(thing):
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("way", [there_and_back, saved_and_loaded, copy.deepcopy])
@pytest.mark.parametrize("name", MODELS)
def test_a_module_comes_back_with_the_same_results(name, way):
    model = MODELS[name]()
    x = inputs(model)
    wanted = leaves(model(x))  # before, so that all that a call leaves behind goes along
    again = way(model)
    assert repr(again) == repr(model)
    for one, other in zip(leaves(again(x)), wanted, strict=True):
        assert torch.equal(one, other)
    torch.stack([part.sum() for part in leaves(again(x))]).sum().backward()
    assert all(p.grad is not None for p in again.parameters())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_a_state_comes_back_as_it_was(name):
    model = MODELS[name]()
    if name == "model":
        model = model.layer
    _, state = model(inputs(model))
    state = torch.utils._pytree.tree_map(torch.Tensor.detach, state)
    again = there_and_back(state)
    assert type(again) is type(state)
    assert repr(again) == repr(state)
    for one, other in zip(leaves(again), leaves(state), strict=True):
        assert torch.equal(one, other)
    output, _ = model(inputs(model), again)
    assert torch.equal(output, model(inputs(model), state)[0])


def test_cells_come_back_equal():
    for cell in (ll.cells.LSTM(peepholes=True), ll.cells.Elman("relu"), Own(0.3)):
        before = cell.recurrence
        again = there_and_back(cell)
        assert again == cell
        assert again.recurrence is before  # traced once in a process


def _answer(model, questions, answers):
    x = questions.get()
    output, state = model(x)
    answers.put((output.detach(), type(state)(*(part.detach() for part in state))))
    questions.get()  # until what was sent has been read


@pytest.mark.slow
def test_a_spawned_process_gets_a_model_and_sends_a_state():
    context = multiprocessing.get_context("spawn")
    questions, answers = context.Queue(), context.Queue()
    layer = ll.LSTM(4, 6, seed=0)
    process = context.Process(target=_answer, args=(layer, questions, answers), daemon=True)
    process.start()
    x = torch.ones(2, 3, 4)
    questions.put(x)
    output, state = answers.get(timeout=120)
    wanted, final = layer(x)
    assert torch.equal(output, wanted)
    assert torch.equal(state.c, final.c)
    questions.put(None)
    process.join(timeout=60)
    assert process.exitcode == 0


def test_a_module_within_another_goes_along():
    model = nn.Sequential(nn.Linear(4, 4), ll.SequenceModel(ll.GRU(4, 6), 2))
    x = torch.ones(3, 5, 4)
    assert torch.equal(there_and_back(model)(x), model(x))
