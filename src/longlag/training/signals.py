"""SIGINT and SIGTERM end a run after a whole step, and a second one at once."""

import signal
import threading
from types import FrameType
from typing import Any

from typing_extensions import Self

_CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """While it is open, the first SIGINT or SIGTERM is noted in `received`.

    A second signal of either kind stops at once: SIGINT by KeyboardInterrupt, SIGTERM by
    SystemExit(143). The handlers from before are put back on leaving. Outside the main thread,
    where Python forbids handlers, it does nothing. A signal that the process ignores (nohup) or
    that another language handles stays as it is.

    >>> with Signals() as signals:
    ...     signal.raise_signal(signal.SIGINT)
    ...     signals.received
    2
    """

    def __init__(self, one: bool = False) -> None:
        """With `one`, signals after the first do nothing: a launcher passes on what all got."""
        self.one = one
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _CAUGHT:
                if signal.getsignal(number) not in (None, signal.SIG_IGN):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = int(number)
        elif self.one:
            return
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise SystemExit(128 + number)
