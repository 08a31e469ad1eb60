"""Run in a process of its own: torch.compile cannot read functions that beartype checks."""

import sys
import warnings

import torch
from torch import nn

import longlag as ll

X = torch.randn(6, 4, 6, generator=torch.Generator().manual_seed(0))


class Tagger(nn.Module):
    """A recurrent module with a head."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.read = getattr(ll.nn, kind)(6, 3, 2, bidirectional=True)
        self.head = nn.Linear(6, 1)

    def forward(self, x):
        output, _ = self.read(x)
        return self.head(output)


def gradients(model, x):
    model.zero_grad()
    model(x).sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


def compiled(kind: str) -> None:
    """The graph breaks at it, as at those of torch.nn, unless dynamo is told to take it in."""
    model = Tagger(kind)
    wanted = gradients(model, X)
    broken = torch.compile(model, backend="aot_eager")
    torch.testing.assert_close(gradients(broken, X), wanted)
    assert model.read.backend_used in ("cpu", "auto")  # "auto": inside of a graph
    torch._dynamo.reset()
    with torch._dynamo.config.patch(allow_rnn=True):
        inside = torch.compile(model, fullgraph=True, backend="aot_eager")
        for x in (X, torch.cat([X, X])):
            torch.testing.assert_close(inside(x), model(x))
        torch.testing.assert_close(gradients(inside, X), wanted)


def exported(kind: str) -> None:
    """An exported program reads any number of steps, by the operator of the scan."""
    model = Tagger(kind)
    steps = torch.export.Dim("steps", min=2, max=1000)
    for strict in (False, True):
        program = torch.export.export(model, (X,), dynamic_shapes=({0: steps},), strict=strict)
        assert any("longlag.scan" in str(node.target) for node in program.graph.nodes)
        for x in (X, X[:2], torch.cat([X, X])):
            torch.testing.assert_close(program.module()(x), model(x))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    globals()[sys.argv[1]](sys.argv[2])
