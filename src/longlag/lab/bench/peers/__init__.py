"""The contenders: longlag, and what it is measured beside. One file each.

A peer's module has `prepare(problem, pass_name)`, which gives a :class:`Contender`, or raises
:class:`NotApplicable` where there is nothing to compare and :class:`Unavailable` where it fails. A
module is imported when it is asked for, so that what is not installed is not needed.
"""

import importlib

from longlag.lab.bench.peers.contender import Contender, NotApplicable, Unavailable
from longlag.lab.bench.problem import Problem

__all__ = ["OURS", "PEERS", "Contender", "NotApplicable", "Unavailable", "prepare"]

OURS = "longlag"
"""The name of the contender that all ratios refer to."""

PEERS = {
    "torch.nn": "torch_nn",
    "packed": "packed",
    "padded": "padded",
    "elman": "elman",
    "loop": "loop",
    "compile": "compiled",
    "jax": "jax_scan",
}
"""The peers by name, with their modules."""


def prepare(name: str, problem: Problem, pass_name: str) -> Contender:
    """Make a contender ready.

    Args:
        name: :data:`OURS`, or one of :data:`PEERS`.
        problem: what it has to do.
        pass_name: one of :data:`longlag.lab.bench.rows.PASSES`, or "scan" for longlag alone.

    Raises:
        NotApplicable: it is not for rows of this kind.
        Unavailable: it cannot be measured here; the message says why.
    """
    module = "ours" if name == OURS else PEERS[name]
    try:
        peer = importlib.import_module(f"longlag.lab.bench.peers.{module}")
    except ImportError as error:
        raise Unavailable(f"{error.name or name} is not installed") from error
    return peer.prepare(problem, pass_name)
