"""torch.compile of the plain loop of the user's cell.

torch.compile unrolls the loop, so its compile time grows with T, to many minutes. Long sequences
are left out, and a compilation that takes too long is given up.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch

from longlag.lab.bench.peers.contender import Contender, NotApplicable, Unavailable, torch_contender
from longlag.lab.bench.peers.loop import leaky_loop
from longlag.lab.bench.problem import Problem

LONGEST = 200
"""Steps of the longest sequence that is compiled."""

SECONDS = 120
"""What a compilation may take."""


def prepare(problem: Problem, pass_name: str) -> Contender:
    """Compile the loop and call it once, within the time that it may take."""
    if problem.row.cell != "own" or problem.row.ragged or problem.row.replicas is not None:
        raise NotApplicable("it is compiled for the user's own cell")
    if problem.row.steps > LONGEST:
        raise Unavailable(f"torch.compile unrolls the loop; left out beyond T = {LONGEST}")
    compiled = torch.compile(leaky_loop, fullgraph=True, dynamic=False)
    parameters = dict(problem.layer.named_parameters())
    contender = torch_contender(problem, pass_name, lambda: compiled(problem.x, **parameters))
    try:
        with _at_most(SECONDS):
            contender.call()
    except _TooLong:
        raise Unavailable(f"compiling took more than {SECONDS} s") from None
    except Exception as error:  # no C++ compiler, or a platform that torch.compile has not
        reason = str(error).strip().splitlines()
        raise Unavailable(f"torch.compile failed: {reason[0] if reason else error!r}") from error
    return contender


class _TooLong(BaseException):
    """The time is over. Not an Exception: torch.compile would take it for a fault of the code."""


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Interrupt the block after some time; where there is no such signal, let it run."""
    here = threading.current_thread() is threading.main_thread()
    if not here or not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
