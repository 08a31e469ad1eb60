"""Run in a process of its own: torch.compile cannot read functions that beartype checks."""

import sys
import warnings

import pytest
import torch
from torch.autograd import forward_ad

import longlag as ll


class Lowered(torch.nn.Module):
    """An autocast region, in which layers read what a linear one puts out in lower precision."""

    def __init__(self):
        super().__init__()
        self.before = torch.nn.Linear(3, 3)
        self.layer = ll.Stack(ll.LSTM(3, 5), ll.Bidirectional(ll.GRU(5, 2)))

    def forward(self, x, **schedule):
        with torch.autocast("cpu", torch.bfloat16):
            return self.layer(self.before(x), **schedule)


MODULES = {
    "LSTM": lambda: ll.LSTM(3, 5),
    "GRU": lambda: ll.GRU(3, 5),
    "IndRNN": lambda: ll.IndRNN(3, 5),
    "LSTM1997": lambda: ll.LSTM1997(3, 5),
    "stack": lambda: ll.Stack(ll.Elman(3, 5), ll.Leaky(5, 4, train_leak=True)),
    "both ways": lambda: ll.Bidirectional(ll.LSTM(3, 4)),
    "derived": lambda: ll.LSTM(3, 5, backend="derived"),
    "float64": lambda: ll.GRU(3, 5, dtype=torch.float64),
    "sparse": lambda: ll.GRU(3, 5, density=0.4),
    "orthogonal": lambda: ll.Elman(3, 5, constraint="orthogonal"),
    "antisymmetric": lambda: ll.Antisymmetric(3, 5),
    "bfloat16": lambda: ll.Elman(3, 5, dtype=torch.bfloat16),
    "rounded": lambda: ll.GRU(3, 40, weights="bfloat16"),
    "autocast": Lowered,
    "dilated": lambda: ll.Stack(ll.Elman(3, 5, dilation=3), ll.GRU(5, 4, dilation=2)),
}

SOME = ("LSTM", "stack", "both ways", "sparse", "dilated")
"""What is compiled where not all are."""


def gradients(module, x, **schedule):
    output, state = module(x, **schedule)
    total = output.square().sum()
    for part in torch.utils._pytree.tree_leaves(state):
        total = total + part.sin().sum()
    return (output, *torch.autograd.grad(total, [x, *module.parameters()]))


def check(name: str, ragged: bool) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    module = MODULES[name]()
    dtype = next(module.parameters()).dtype
    x = torch.randn(2, 4, 3, dtype=dtype, requires_grad=True)
    schedule = {}
    if ragged:
        schedule = {"lengths": torch.tensor([4, 2]), "resets": torch.rand(2, 4) < 0.4}
    graph = torch.compile(module, backend="aot_eager", fullgraph=True)
    for one, other in zip(
        gradients(graph, x, **schedule), gradients(module, x, **schedule), strict=True
    ):
        torch.testing.assert_close(one, other)


def check_empty() -> None:
    """An empty sequence sends the error to the initial state."""
    torch._dynamo.reset()
    layer = ll.LSTM(3, 5)
    state = tuple(torch.randn(2, 5, requires_grad=True) for _ in range(2))
    graph = torch.compile(layer, backend="aot_eager", fullgraph=True)
    output, final = graph(torch.ones(2, 0, 3), state)
    assert output.shape == (2, 0, 5)
    (2 * final.h.sum() + 3 * final.c.sum()).backward()
    assert torch.equal(state[0].grad, torch.full((2, 5), 2.0))
    assert torch.equal(state[1].grad, torch.full((2, 5), 3.0))


def check_lengths() -> None:
    """A graph looks at lengths when it runs."""
    torch._dynamo.reset()
    layer = ll.LSTM(3, 5)
    graph = torch.compile(layer, backend="aot_eager", fullgraph=True)
    x, good = torch.randn(2, 4, 3), torch.tensor([4, 0])
    torch.testing.assert_close(graph(x, lengths=good)[0], layer(x, lengths=good)[0])
    for wrong in ([9, 2], [4, -1]):
        with pytest.raises(RuntimeError, match="lengths: expected 0 to 4"):
            graph(x, lengths=torch.tensor(wrong))


def check_transforms() -> None:
    """Inside a transform of torch.func, and with tangents, a graph has plain operations."""
    layer = ll.LSTM(3, 5)
    x, lengths = torch.randn(2, 4, 3), torch.tensor([4, 2])

    def one(x, lengths):
        return layer(x.unsqueeze(0), lengths=lengths.unsqueeze(0))[0].squeeze(0)

    def mapped(x):
        return torch.func.vmap(one)(x, lengths)

    def slope(x):
        return torch.func.grad(lambda x: layer(x, lengths=lengths)[0].sin().sum())(x)

    def tangent(x):
        return torch.func.jvp(lambda x: layer(x, lengths=lengths)[0], (x,), (x,))[1]

    for function in (mapped, slope, tangent):
        expected = function(x)
        torch._dynamo.reset()
        graph = torch.compile(function, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(graph(x), expected)
    layer.requires_grad_(False)
    torch._dynamo.reset()
    graph = torch.compile(lambda x: layer(x)[0], backend="aot_eager")
    graph(x)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, x)
        tangents = [
            forward_ad.unpack_dual(run(dual)).tangent for run in (graph, lambda x: layer(x)[0])
        ]
    torch.testing.assert_close(*tangents)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of the compiler's own parts
    for number, name in enumerate(MODULES if "all" in sys.argv else SOME):
        for ragged in (False, True) if "all" in sys.argv else (number % 2 == 0,):
            check(name, ragged)
            print(name, ragged, "agrees", flush=True)
    check_empty()
    print("empty agrees")
    check_lengths()
    print("lengths are checked")
    check_transforms()
    print("transforms give the same")
