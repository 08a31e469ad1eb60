"""Small models and problems that the tests of all gradient methods share."""

import torch
from tests.conformance.test_own_cells import Clipped
from tests.scan.cases import hidden_of

import longlag as ll

CELLS = {name: getattr(ll, name) for name in ll.cells.__all__}

MODELS = (*CELLS, "own", "stack", "replicas")


def make(kind, reduce=None, direct=False, inputs=3, hidden=4, outputs=2):
    """A SequenceModel in float64, drawn from fixed seeds."""
    options = {"dtype": torch.float64}
    if kind == "own":
        layer = ll.Recurrent(Clipped(), inputs, hidden, seed=1, **options)
    elif kind == "stack":
        layer = ll.Stack(
            ll.LSTM(inputs, hidden, seed=1, **options), ll.Elman(hidden, 3, seed=2, **options)
        )
    elif kind == "replicas":
        layer = ll.GRU(inputs, hidden, seed=1, replicas=2, **options)
    else:
        hidden = hidden_of(getattr(ll.cells, kind)(), hidden)
        layer = CELLS[kind](inputs, hidden, seed=1, **options)
    return ll.SequenceModel(layer, outputs, reduce=reduce, direct=direct, seed=3)


def problem(model, steps, batch=3, seed=0):
    """x, target, lengths and resets for a model; of different lengths, with a reset inside."""
    generator = torch.Generator().manual_seed(seed)
    replicas = model.layer.replicas
    front = (batch,) if replicas is None else (replicas, batch)

    def random(*shape):
        return torch.randn(*front, *shape, generator=generator, dtype=torch.float64)

    x = random(steps, model.input_size)
    target = random(*(() if model.reduce else (steps,)), model.output_size)
    lengths = torch.randint(0, steps + 1, front, generator=generator)
    lengths[..., 0] = steps
    resets = torch.rand(*front, steps, generator=generator) < 0.15
    return x, target, lengths, resets
