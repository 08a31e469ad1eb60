"""Where trials run: side by side in this process, in several processes, or on a Ray cluster."""

import importlib
import multiprocessing
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from longlag.lab.sweep.side_by_side import key, together
from longlag.lab.sweep.trial import Result, alone
from longlag.messages import GuidedError
from longlag.pipeline.dataset import Parts
from longlag.pipeline.settings import Settings

_parts: Parts  # of a process of the pool
_ENDED = (
    "a process of the sweep has ended, perhaps for want of memory; the trials that are done are "
    "kept, and the same command goes on with the others"
)


def side_by_side(
    parts: Parts, trials: Sequence[Settings], workers: int, address: str | None
) -> Iterator[tuple[int, Result]]:
    """Those whose shapes agree in one run, on so many threads; the others one after the other."""
    del address
    groups: dict[Any, list[int]] = defaultdict(list)
    for number, settings in enumerate(trials):
        shapes = key(settings)
        groups[("alone", number) if shapes is None else shapes].append(number)
    for shapes, numbers in groups.items():
        if shapes[0] == "alone":
            yield numbers[0], alone(parts, trials[numbers[0]])
        else:
            results = together(parts, [trials[number] for number in numbers], workers)
            yield from zip(numbers, results, strict=True)


def processes(
    parts: Parts, trials: Sequence[Settings], workers: int, address: str | None
) -> Iterator[tuple[int, Result]]:
    """Each in one of several processes of this machine."""
    del address
    pool = ProcessPoolExecutor(
        min(workers, len(trials)), multiprocessing.get_context("spawn"), _begin, (parts,)
    )
    try:
        jobs = {pool.submit(_alone, settings): number for number, settings in enumerate(trials)}
        for job in as_completed(jobs):
            yield jobs[job], job.result()
    except BrokenProcessPool as error:
        raise GuidedError(_ENDED) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _begin(parts: Parts) -> None:
    global _parts
    _parts = parts


def _alone(settings: Settings) -> Result:
    return alone(_parts, settings)


def ray(
    parts: Parts, trials: Sequence[Settings], workers: int, address: str | None
) -> Iterator[tuple[int, Result]]:
    """Each as a task of a Ray cluster; without an address of one on this machine."""
    try:
        cluster: Any = importlib.import_module("ray")
    except ImportError as error:
        raise GuidedError('the runner "ray" needs ray: pip install "longlag[ray]"') from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    started = not cluster.is_initialized()
    if started:
        own: dict[str, Any] = {"num_cpus": workers, "include_dashboard": False}
        cluster.init(
            address=address or "local", log_to_driver=False, logging_level="ERROR",
            **({} if address else own),
        )  # fmt: skip
    try:
        data, task = cluster.put(parts), cluster.remote(num_cpus=1)(alone)
        jobs = {task.remote(data, settings): number for number, settings in enumerate(trials)}
        while jobs:
            (done,), _ = cluster.wait([*jobs], num_returns=1)
            yield jobs.pop(done), cluster.get(done)
    except (
        cluster.exceptions.WorkerCrashedError,
        cluster.exceptions.OutOfMemoryError,
    ) as error:
        raise GuidedError(_ENDED) from error
    finally:
        if started:
            cluster.shutdown()
