"""The threads that kernels run on."""

import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from longlag.scan.cpu import openmp

Task = Callable[[int, int], object]


class Pool:
    """Threads that take their part of a kernel; made at the first need, and anew after a fork."""

    def __init__(self) -> None:
        self.forget()

    def run(self, task: Task, parts: int) -> None:
        """Call task(part, parts) for every part, the first on the calling thread."""
        if parts == 1:
            task(0, 1)
        else:
            self._run(task, parts, lambda: None)

    def run_kernel(self, kernel: openmp.Kernel, parameters: bytes, parts: int) -> None:
        """Call kernel(parameters, part, parts) for every part; none waits for another."""
        if parts == 1:
            kernel(parameters, 0, 1)
        elif not openmp.run(kernel, parameters, parts):
            self.run(functools.partial(kernel, parameters), parts)

    def run_team(self, task: Task, parts: int, let_go: Callable[[], object]) -> None:
        """The same for parts that wait for one another; or task(0, 1) where they cannot all be sure
        to run at the same time: one team at a time has threads of the pool, and as many as there
        are cores.

        Args:
            task, parts: as in :meth:`run`; any smaller number of parts does the same.
            let_go: after this none waits for another.
        """
        parts, team = min(parts, _cores()), self.team
        if parts == 1 or not team.acquire(blocking=False):
            task(0, 1)
            return
        try:
            self._run(task, parts, let_go)
        except _NoThreads:
            task(0, 1)
        finally:
            team.release()

    def _run(self, task: Task, parts: int, let_go: Callable[[], object]) -> None:
        if self.pool is None or self.pool[1] < parts:
            self.pool = ThreadPoolExecutor(parts, thread_name_prefix="longlag"), parts
        pool, _ = self.pool
        waiting: list[Future[object]] = []
        try:
            for part in range(1, parts):
                try:
                    waiting.append(pool.submit(task, part, parts))
                except RuntimeError as error:
                    self.pool = None
                    pool.shutdown(wait=False, cancel_futures=True)  # a part may be in its queue
                    raise _NoThreads(str(error)) from error
            task(0, parts)
        finally:  # after an interrupt too: the memory that they write to is freed on return
            _wait_for_all(waiting, let_go)
        for future in waiting:
            future.result()

    def forget(self) -> None:
        """In a forked process the threads are not there."""
        self.pool: tuple[ThreadPoolExecutor, int] | None = None
        self.team = threading.Lock()


class _NoThreads(RuntimeError):
    """There are no more threads: at the end of the process, or past a limit."""


def _cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _wait_for_all(waiting: "list[Future[object]]", let_go: Callable[[], object]) -> None:
    """Wait, whatever interrupts it; an interrupt is raised when all are done."""
    interrupt: KeyboardInterrupt | None = None
    while not all(future.done() for future in waiting):
        try:
            let_go()
            wait(waiting)
        except KeyboardInterrupt as again:
            interrupt = again
    if interrupt is not None:
        raise interrupt


POOL = Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.forget)
