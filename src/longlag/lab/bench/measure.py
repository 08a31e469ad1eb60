"""One row: check, then time in turns, then memory."""

import functools
from collections.abc import Callable, Mapping, Sequence

from longlag.lab.bench.check import Difference, largest_difference
from longlag.lab.bench.limits import least_seconds, scan_flops
from longlag.lab.bench.machine import peak_flops
from longlag.lab.bench.memory import peak_bytes
from longlag.lab.bench.peers import OURS, Contender, NotApplicable, Unavailable, prepare
from longlag.lab.bench.problem import Problem
from longlag.lab.bench.results import Result, Timing
from longlag.lab.bench.timing import Effort, Samples, in_turns, quartiles

Prepare = Callable[[Problem, str], Contender]

_SCAN = "longlag scan"


def contenders(peers: Sequence[str]) -> dict[str, Prepare]:
    """longlag and some peers, by name, as :func:`measure` takes them."""
    return {name: functools.partial(prepare, name) for name in (OURS, *peers)}


def measure(
    problem: Problem,
    pass_name: str,
    threads: int,
    prepared_by: Mapping[str, Prepare],
    effort: Effort,
) -> Result:
    """Measure a row, where the results are right.

    Args:
        problem: the row as tensors.
        pass_name: one of :data:`longlag.lab.bench.rows.PASSES`.
        threads: how many PyTorch is set to.
        prepared_by: by name, what makes each contender ready; longlag is the first.
        effort: how much time it may take.

    Returns:
        The times. A contender whose result differs from the reference has none; where that is
        longlag, no one has.
    """
    ready: dict[str, Contender] = {}
    skipped: dict[str, str] = {}
    differs: dict[str, Difference] = {}
    for name, prepare_one in prepared_by.items():
        try:
            contender = prepare_one(problem, pass_name)
        except NotApplicable:
            continue
        except Unavailable as reason:
            skipped[name] = str(reason)
            continue
        result = contender.result(contender.call())
        difference = largest_difference(result, contender.problem.reference)
        if difference.accepted:
            ready[name] = contender
        else:
            differs[name] = difference
    backend = problem.layer.backend_used
    if OURS not in ready:
        return Result(problem.row, pass_name, threads, backend, skipped=skipped, differs=differs)
    calls = {name: contender.call for name, contender in ready.items()}
    if pass_name == "forward" and problem.layer.recurrence.dense_gates:
        scan = prepare(OURS, problem, "scan")
        difference = largest_difference(scan.result(scan.call()), problem.reference)
        if difference.accepted:
            calls[_SCAN] = scan.call
        else:
            differs[_SCAN] = difference
    samples = in_turns(calls, effort)
    timings = {
        name: Timing.of(samples[name], samples[OURS], _memory(samples[name], ready[name], effort))
        for name in ready
    }
    return Result(
        problem.row,
        pass_name,
        threads,
        backend,
        timings,
        skipped,
        differs,
        least_seconds(problem, pass_name, threads),
        _of_peak(problem, threads, samples.get(_SCAN)),
    )


def _of_peak(problem: Problem, threads: int, scan: Samples | None) -> float | None:
    peak = peak_flops(threads)
    if scan is None or peak is None:
        return None
    return scan_flops(problem) / quartiles(scan.seconds).median / peak


def _memory(samples: Samples, contender: Contender, effort: Effort) -> int | None:
    slow = samples.seconds[0] > effort.slow
    return None if slow else peak_bytes(contender.call)
