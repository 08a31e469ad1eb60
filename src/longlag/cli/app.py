"""The entry point: parse, run the command, and end with one message and an exit status."""

import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from longlag.cli.failures import BUG, describe
from longlag.cli.parser import parse


def main(argv: Sequence[str] | None = None) -> int:
    """Run `longlag`.

    Args:
        argv: the words after `longlag`; by default those of the process.

    Returns:
        The exit status: 0; 1 for a fault of longlag, whose traceback is printed; 2 for what the
        user can mend; 3 for a loss that became infinite or NaN; 130 and 143 for SIGINT and SIGTERM.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words or os.environ.get("LONGLAG_DEBUG", "") not in ("", "0")
    try:
        with _plain_warnings(), _terminable():
            command, options, wanted = parse(words)
            debug = debug or wanted
            command.run(options)
            sys.stdout.flush()
        return 0
    except BrokenPipeError:
        # The reader of a pipe is gone (`longlag ... | head`): stop, and let Python flush nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        if isinstance(error, SystemExit) and type(error) is SystemExit:
            return error.code if isinstance(error.code, int) else 0
        status, message = describe(error, words)
        if status is None:
            traceback.print_exception(error)
            print(BUG, file=sys.stderr)
            return 1
        if debug and not isinstance(error, KeyboardInterrupt | SystemExit):
            traceback.print_exception(error)
        print(message, file=sys.stderr)
        return status


class _Terminated(KeyboardInterrupt):
    """SIGTERM came."""

    status = 128 + signal.SIGTERM


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM unwinds like SIGINT, so that nothing half-written stays."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise _Terminated

    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Warnings as a sentence, without the line of code that gave them."""

    def show(message: Any, *rest: Any, **named: Any) -> None:
        print(f"warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
