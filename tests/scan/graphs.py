"""Run in a process of its own: torch.compile cannot read functions that beartype checks."""

import sys
import warnings

import pytest
import torch

import longlag as ll

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
}


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


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of the compiler's own parts
    for number, name in enumerate(MODULES):
        for ragged in (False, True) if "all" in sys.argv else (number % 2 == 0,):
            check(name, ragged)
            print(name, ragged, "agrees", flush=True)
    check_empty()
    print("empty agrees")
    check_lengths()
    print("lengths are checked")
