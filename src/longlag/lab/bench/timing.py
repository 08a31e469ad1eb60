"""Timing in turns: A B C A B C ..., so that what else the machine does meets all alike."""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import quantiles


@dataclass(frozen=True)
class Effort:
    """How much time a measurement may take.

    Attributes:
        seconds: of one row and pass, beyond the least number of rounds.
        rounds: the least and the largest number of rounds.
        turn: a turn repeats a short call until about this many seconds have passed.
        slow: a call that takes longer is timed once, and not in turns.
        rest: seconds before each turn, in which threads of the turn before go to sleep.
    """

    seconds: float = 4.0
    rounds: tuple[int, int] = (5, 25)
    turn: float = 0.01
    slow: float = 3.0
    rest: float = 0.02


@dataclass(frozen=True)
class Quartiles:
    """A median and the quartiles beside it."""

    median: float
    low: float
    high: float


def quartiles(values: list[float]) -> Quartiles:
    """Median and quartiles; of one value, that value.

    >>> quartiles([3.0, 1.0, 2.0])
    Quartiles(median=2.0, low=1.5, high=2.5)
    """
    if len(values) == 1:
        return Quartiles(values[0], values[0], values[0])
    low, median, high = quantiles(values, n=4, method="inclusive")
    return Quartiles(median, low, high)


@dataclass
class Samples:
    """The turns of one call.

    Attributes:
        seconds: of one call, by turn.
        processor: processor seconds of this process in all turns.
        wall: seconds of all turns.
    """

    seconds: list[float] = field(default_factory=list)
    processor: float = 0.0
    wall: float = 0.0

    @property
    def cores(self) -> float:
        """Processors that were busy on the average."""
        return self.processor / self.wall if self.wall else 0.0

    def turn(self, call: Callable[[], object], number: int, rest: float = 0.0) -> None:
        """One turn: the mean of some calls.

        Where there are several, one more goes before, which is not counted: it finds the caches
        full of what the others have left.
        """
        if rest:
            time.sleep(rest)
        if number > 1:
            call()
        used, started = time.process_time(), time.perf_counter()
        for _ in range(number):
            call()
        elapsed = time.perf_counter() - started
        self.seconds.append(elapsed / number)
        self.wall += elapsed
        self.processor += time.process_time() - used


def in_turns(calls: Mapping[str, Callable[[], object]], effort: Effort) -> dict[str, Samples]:
    """Time each call in turns.

    Args:
        calls: by name; each has been called before, so that what it does once is done.
        effort: how long.

    Returns:
        The turns by name. All have the same number of turns, in the same order, except a slow call,
        which has the one turn that told so.
    """
    samples = {name: Samples() for name in calls}
    numbers: dict[str, int] = {}
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        for name, call in calls.items():
            first = Samples()
            first.turn(call, 1)
            if first.seconds[0] > effort.slow:
                samples[name] = first
                continue
            if first.seconds[0] < effort.turn:  # a short call is quicker when it is repeated
                first.turn(call, 3)
            numbers[name] = max(1, round(effort.turn / first.seconds[-1]))
        least, most = effort.rounds
        started, rounds = time.perf_counter(), 0
        while numbers and rounds < most:
            if rounds >= least and time.perf_counter() - started > effort.seconds:
                break
            for name, number in numbers.items():
                samples[name].turn(calls[name], number, effort.rest)
            gc.collect(0)  # what the turns have left; all else is old, and takes long to look at
            rounds += 1
    finally:
        if enabled:
            gc.enable()
    return samples
