"""JAX: jax.lax.scan, jitted, with jax.vjp; jax.vmap over replicas.

As one who knows JAX would write it: the input product for all steps at once before the scan, the
weights transposed outside the loop. A ragged batch is read with its padding, where no error comes
back. Lengths that vary from call to call cost JAX nothing more so; what they could save it cannot.
"""

from collections.abc import Callable
from typing import Any

import jax  # pyright: ignore[reportMissingImports]
import jax.numpy as jnp  # pyright: ignore[reportMissingImports]
import numpy as np
import torch
from torch import Tensor

from longlag.lab.bench.own_leaky import LEAK
from longlag.lab.bench.peers.contender import Contender
from longlag.lab.bench.problem import Problem

Step = Callable[[Any, Any, Any, Any], Any]


def _elman(state: Any, drive: Any, recurrent: Any, parameters: Any) -> Any:
    return (jnp.tanh(drive + state[0] @ recurrent),)


def _leaky(state: Any, drive: Any, recurrent: Any, parameters: Any) -> Any:
    return ((1 - LEAK) * state[0] + LEAK * jnp.tanh(drive + state[0] @ recurrent),)


def _lstm(state: Any, drive: Any, recurrent: Any, parameters: Any) -> Any:
    i, f, g, o = jnp.split(drive + state[0] @ recurrent, 4, axis=-1)
    memory = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(memory), memory


def _gru(state: Any, drive: Any, recurrent: Any, parameters: Any) -> Any:
    a_r, a_z, a_n = jnp.split(drive, 3, axis=-1)
    r_r, r_z, r_n = jnp.split(state[0] @ recurrent, 3, axis=-1)
    reset, update = jax.nn.sigmoid(a_r + r_r), jax.nn.sigmoid(a_z + r_z)
    candidate = jnp.tanh(a_n + reset * (r_n + parameters["bias_hn"]))
    return ((1 - update) * candidate + update * state[0],)


_STEPS: dict[str, tuple[Step, int]] = {
    "elman": (_elman, 1),
    "leaky": (_leaky, 1),
    "own": (_leaky, 1),
    "lstm": (_lstm, 2),
    "gru": (_gru, 1),
}
"""By cell, the step and the number of states."""


def prepare(problem: Problem, pass_name: str) -> Contender:
    """The jitted function; its first call, which compiles, is not timed."""
    step, states = _STEPS[problem.row.cell]
    parameters = {
        name: jnp.asarray(parameter.detach().numpy())
        for name, parameter in problem.layer.named_parameters()
    }
    x = jnp.asarray(problem.x.numpy())

    def one(parameters: Any, x: Any) -> Any:
        """The output, time first: (T, N, H)."""
        drive = jnp.einsum("ntc,gc->tng", x, parameters["weight_ih"]) + parameters["bias"]
        recurrent = parameters["weight_hh"].T
        zero = jnp.zeros((x.shape[0], recurrent.shape[0]), x.dtype)

        def advance(state: Any, now: Any) -> Any:
            after = step(state, now, recurrent, parameters)
            return after, after[0]

        return jax.lax.scan(advance, (zero,) * states, drive)[1]

    forward = one if problem.row.replicas is None else jax.vmap(one)

    if pass_name == "forward":
        inference = jax.jit(forward)
        return Contender(
            problem,
            lambda: jax.block_until_ready(inference(parameters, x)),
            lambda output: {"output": _output(problem, output)},
        )
    # Time first, as the output is; an argument, so that it is no constant of the compiled code.
    error = jnp.asarray(problem.error.transpose(-3, -2).contiguous().numpy())

    @jax.jit
    def training(parameters: Any, x: Any, error: Any) -> Any:
        output, pull = jax.vjp(lambda parameters: forward(parameters, x), parameters)
        return output, pull(error)[0]

    def everything(results: Any) -> dict[str, Tensor]:
        output, gradients = results
        named = {name: _tensor(gradient) for name, gradient in gradients.items()}
        return {"output": _output(problem, output), **named}

    return Contender(
        problem, lambda: jax.block_until_ready(training(parameters, x, error)), everything
    )


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array))


def _output(problem: Problem, output: Any) -> Tensor:
    return problem.masked(_tensor(output).transpose(-3, -2))
