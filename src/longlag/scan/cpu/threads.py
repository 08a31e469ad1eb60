"""The threads that kernels run on."""

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait


class Pool:
    """Threads that take their part of a kernel; made at the first need, and anew after a fork."""

    def __init__(self) -> None:
        self.pool: ThreadPoolExecutor | None = None
        self.size = 0

    def run(self, task: Callable[[int, int], object], parts: int) -> None:
        """Call task(part, parts) for every part, the first on the calling thread."""
        if parts == 1:
            task(0, 1)
            return
        if self.pool is None or self.size < parts:
            self.size = parts
            self.pool = ThreadPoolExecutor(parts, thread_name_prefix="longlag")
        waiting: list[Future[object]] = []
        try:
            for part in range(1, parts):
                waiting.append(self.pool.submit(task, part, parts))
            task(0, parts)
        finally:  # after an interrupt too: the memory that they write to is freed on return
            _wait_for_all(waiting)
        for future in waiting:
            future.result()

    def forget(self) -> None:
        """In a forked process the threads are not there."""
        self.pool, self.size = None, 0


def _wait_for_all(waiting: "list[Future[object]]") -> None:
    """Wait, whatever interrupts it; an interrupt is raised when all are done."""
    interrupt: KeyboardInterrupt | None = None
    while not all(future.done() for future in waiting):
        try:
            wait(waiting)
        except KeyboardInterrupt as again:
            interrupt = again
    if interrupt is not None:
        raise interrupt


POOL = Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.forget)
