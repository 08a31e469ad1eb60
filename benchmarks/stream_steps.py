"""A step of a stream: how long it takes to be answered, beside what others do for it.

    python benchmarks/stream_steps.py            some seconds; JAX is left out where it is not there
    python benchmarks/stream_steps.py --json benchmarks/stream_steps.json

One sequence, 64 units, 8 features, one output, float32, one thread. Microseconds a step: of
`ll.Stream` from NumPy arrays and from tensors, of its `block` of 128 steps, of the model's own
`run`, of torch.nn (layer and linear readout, no gradients), and of the same step jitted in JAX. All
in turns in one process; the least of the turns' means. The outputs of all agree before anything is
timed.
"""

import argparse
import json
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import longlag as ll
from longlag.lab.bench.machine import describe

CHANNELS, HIDDEN, STEPS, BLOCK = 8, 64, 256, 128

Run = Callable[[], Any]


def seconds_of(run: Run) -> float:
    """Of one call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def with_torch(model: ll.SequenceModel, x: torch.Tensor) -> list[torch.Tensor]:
    """The same network in torch.nn, step by step."""
    layer = model.layer.to_torch()
    readout = nn.Linear(HIDDEN, 1)
    with torch.no_grad():
        readout.weight.copy_(model.readout.weight)
        readout.bias.copy_(model.readout.bias)
        state, outputs = None, []
        for step in x.view(STEPS, 1, 1, CHANNELS):
            h, state = layer(step) if state is None else layer(step, state)
            outputs.append(readout(h)[0, 0])
    return outputs


def with_run(model: ll.SequenceModel, x: torch.Tensor) -> list[torch.Tensor]:
    """`model.run`, a step a call."""
    state, outputs = None, []
    with torch.no_grad():
        for step in x.view(STEPS, 1, 1, CHANNELS):
            y, state = model.run(step, state)
            outputs.append(y[0, 0])
    return outputs


def in_jax(name: str, model: ll.SequenceModel) -> Callable[[np.ndarray], list[np.ndarray]] | None:
    """One jitted step, called from Python; None where JAX is not there."""
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        return None
    layer = model.layer.to_torch()
    weights = {key: jnp.asarray(value.detach().numpy()) for key, value in layer.named_parameters()}
    u, w, b, c = (
        weights[f"{kind}_l0"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    v, d = (jnp.asarray(part.detach().numpy()) for part in model.readout.parameters())

    @jax.jit
    def step(state, x):
        h = state[0]
        a, r = u @ x + b, w @ h + c
        if name == "Elman":
            new = (jnp.tanh(a + r),)
        elif name == "LSTM":
            i, f, g, o = jnp.split(a + r, 4)
            cell = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
            new = (jax.nn.sigmoid(o) * jnp.tanh(cell), cell)
        else:
            (ar, az, an), (rr, rz, rn) = jnp.split(a, 3), jnp.split(r, 3)
            z = jax.nn.sigmoid(az + rz)
            new = ((1 - z) * jnp.tanh(an + jax.nn.sigmoid(ar + rr) * rn) + z * h,)
        return new, v @ new[0] + d

    def run(x: np.ndarray) -> list[np.ndarray]:
        state = (jnp.zeros(HIDDEN),) * (2 if name == "LSTM" else 1)
        outputs = []
        for row in x:
            state, y = step(state, row)
            outputs.append(np.asarray(y))
        return outputs

    return run


def measure(name: str, turns: int) -> dict[str, float]:
    """Microseconds a step of one kind of layer, by contender."""
    model = ll.SequenceModel(getattr(ll, name)(CHANNELS, HIDDEN, seed=0), 1, reduce=None, seed=1)
    x = torch.randn(STEPS, CHANNELS, generator=torch.Generator().manual_seed(0))
    rows, array = list(x), list(x.numpy())
    stream = ll.Stream(model)
    runs: dict[str, Run] = {
        "stream, arrays": lambda: [stream(row) for row in array],
        "stream, tensors": lambda: [stream(row) for row in rows],
        "stream, blocks": lambda: torch.cat([stream.block(part) for part in x.split(BLOCK)]),
        "model.run": lambda: with_run(model, x),
        "torch.nn": lambda: with_torch(model, x),
    }
    jitted = in_jax(name, model)
    if jitted is not None:
        runs["JAX"] = lambda: jitted(x.numpy())
    with torch.no_grad():
        wanted = model.double()(x.double().unsqueeze(0))[0].numpy()
    model.float()
    for contender, run in runs.items():
        stream.reset()
        got = np.asarray([np.asarray(y) for y in run()])
        error = np.abs(got - wanted).max()
        if error > 1e-5:
            raise SystemExit(f"{name}, {contender}: differs by {error}; its time means nothing")
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(turns):
        for contender, run in runs.items():
            run()  # the caches are full of another's
            best[contender] = min(best[contender], seconds_of(run))
    return {contender: 1e6 * seconds / STEPS for contender, seconds in best.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--cells", nargs="+", default=["Elman", "LSTM", "GRU"])
    parser.add_argument("--json", type=Path, help="where to write the result")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for name in arguments.cells:
        found[name] = {key: round(us, 2) for key, us in measure(name, arguments.turns).items()}
        print(name, found[name], flush=True)
    result = {
        "date": date.today().isoformat(),
        "machine": describe()["processor"],
        "channels": CHANNELS, "hidden": HIDDEN, "block": BLOCK,
        "microseconds_a_step": found,
    }  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
