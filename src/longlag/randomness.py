"""The random state of the process: taken, put back, kept apart."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def capture(device: torch.device) -> dict[str, Any]:
    """The state of every global generator that a model or a data set may draw from.

    Args:
        device: the generator of this device is included if it is a GPU.
    """
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        # Data sets of others still draw from NumPy's global generator.
        "numpy": np.random.get_state(),  # noqa: NPY002
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore(state: dict[str, Any], device: torch.device) -> None:
    """Put back what `capture` took."""
    torch.set_rng_state(state["torch"])
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])  # noqa: NPY002
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def seed_everything(seed: int) -> None:
    """Start every global generator from one seed, 0 <= seed < 2**64."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(np.random.SeedSequence(seed).generate_state(4))  # noqa: NPY002


@contextmanager
def isolated(device: torch.device) -> Iterator[None]:
    """Whatever is drawn inside, the generators go on afterwards as if nothing had been.

    >>> before = torch.get_rng_state()
    >>> with isolated(torch.device("cpu")):
    ...     _ = torch.rand(3)
    >>> torch.equal(torch.get_rng_state(), before)
    True
    """
    state = capture(device)
    try:
        yield
    finally:
        restore(state, device)
