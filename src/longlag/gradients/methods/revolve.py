"""The optimal order in which to run steps again, with a limited number of stored states.

References:
    A. Griewank (1992), "Achieving logarithmic growth of temporal and spatial complexity in reverse
    automatic differentiation", Optimization Methods and Software 1(1).
    A. Griewank and A. Walther (2000), "Algorithm 799: revolve", ACM Transactions on Mathematical
    Software 26(1).
"""

import functools
from collections.abc import Callable, Iterator
from math import comb
from typing import TypeVar

State = TypeVar("State")


@functools.lru_cache(maxsize=4096)
def _repetitions(steps: int, stored: int) -> int:
    """r, the least with C(stored + r, stored) >= steps: how often a step is run again at most."""
    r = 0
    while comb(stored + r, stored) < steps:
        r += 1
    return r


def advances(steps: int, stored: int) -> int:
    r"""The least number of steps forward, beside the one in which each step is differentiated.

    .. math:: t(l, c) = r l - \binom{c + r}{r - 1}, \qquad
        \binom{c + r - 1}{c} < l \le \binom{c + r}{c}

    Args:
        steps: l, >= 1.
        stored: c >= 1, states that are stored at once; the one before the first step is one of
            them.

    >>> advances(10, 3), advances(10, 1), advances(10, 10)
    (15, 45, 9)
    """
    r = _repetitions(steps, stored)
    return r * steps - comb(stored + r, r - 1) if r else 0


def split(steps: int, stored: int) -> int:
    """How many steps to go forward before a state is stored; for steps >= 2 and stored >= 2.

    >>> split(10, 3)
    4
    """
    r = _repetitions(steps, stored)
    return min(comb(stored + r - 1, stored), steps - comb(stored + r - 2, stored - 1))


def starts(steps: int, stored: int) -> Iterator[int]:
    """Where the states are stored in the first pass over all steps; 0 is the first.

    >>> list(starts(10, 3))
    [0, 4, 7]
    """
    first = 0
    yield first
    while steps - first > 1 and stored > 1:
        first += split(steps - first, stored)
        stored -= 1
        yield first


def reverse(
    steps: int,
    stored: int,
    states: dict[int, State],
    advance: Callable[[State, int, int], State],
    back: Callable[[int, State], None],
    keep: Callable[[int, State], State] = lambda step, state: state,
) -> None:
    """Go through all steps backwards, the last first.

    Args:
        steps: how many there are.
        stored: how many states may be stored at once, >= 1.
        states: those stored already, by the number of the step that begins with them: at least
            that of step 0. They are taken out where they are no longer needed.
        advance: (state before step i, i, j) to the state before step j.
        back: called for each step with its number and the state before it.
        keep: (step, state) to what is stored.
    """

    def part(first: int, stop: int, stored: int) -> None:
        while stop - first > 1:
            if stored == 1:
                for step in range(stop - 1, first, -1):
                    back(step, advance(states[first], first, step))
                break
            middle = first + split(stop - first, stored)
            if middle not in states:
                states[middle] = keep(middle, advance(states[first], first, middle))
            part(middle, stop, stored - 1)
            stop = middle
        back(first, states.pop(first))

    part(0, steps, stored)
