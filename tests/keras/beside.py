"""A layer of Keras and ours, with the same weights on the same data."""

import keras
import numpy as np
import torch

import longlag.keras as ours

N, T, C, H = 4, 7, 3, 5
STEPS = np.arange(T)
MASKS = {
    "none": None,
    "right": np.array([[7], [3], [1], [0]]) > STEPS,
    "left": np.array([[0], [3], [6], [7]]) <= STEPS,
    "mixed": np.array([[1, 1, 0, 1, 0, 1, 1], [0, 1, 0, 0, 1, 1, 0], [0] * 7, [1] * 7], bool),
}
"""Each with a sequence that is masked as a whole, but the first."""


def pair(name, **options):
    """The two layers, with the same random weights."""
    theirs, mine = getattr(keras.layers, name)(H, **options), getattr(ours, name)(H, **options)
    generator = np.random.default_rng(0)
    for layer in (theirs, mine):
        layer.build((N, T, C))
    for one, other in zip(theirs.trainable_weights, mine.trainable_weights, strict=True):
        one.assign(generator.normal(scale=0.5, size=one.shape))
        other.assign(one)
    return theirs, mine


def results(layer, x, mask=None, training=False, initial=()):
    """What a layer puts out, and the gradients of x, the weights and the initial states."""
    x = torch.tensor(x, dtype=torch.float32, requires_grad=True)
    initial = [torch.tensor(part, dtype=torch.float32, requires_grad=True) for part in initial]
    given = {"initial_state": initial} if initial else {}
    mask = None if mask is None else torch.tensor(mask)
    outputs = layer(x, mask=mask, training=training, **given)
    outputs = [*outputs] if isinstance(outputs, (list, tuple)) else [outputs]
    generator = np.random.default_rng(1)
    loss = sum((out * torch.tensor(generator.normal(size=out.shape))).sum() for out in outputs)
    weights = [weight.value for weight in layer.trainable_weights]
    gradients = torch.autograd.grad(loss, [x, *weights, *initial], allow_unused=True)
    return [*outputs, *gradients]


def assert_same(theirs, mine, **call):
    """Both give the same, and ours by the kernels."""
    x = np.random.default_rng(2).normal(size=(N, T, C))
    mask = call.get("mask")
    if mask is not None:  # a masked step changes nothing, whatever stands there
        x[~mask] = 7.0
    wanted, got = results(theirs, x, **call), results(mine, x, **call)
    assert mine.backend_used == "cpu"
    for one, other in zip(wanted, got, strict=True):
        if one is None:
            assert other is None or not other.any()
        else:
            torch.testing.assert_close(other, one, rtol=1e-4, atol=2e-5)
