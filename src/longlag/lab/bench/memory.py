"""How much memory one call takes, beyond what the process holds before it.

The kernel notes the largest resident size of a process (VmHWM of /proc/self/status), and forgets it
on request (5 into /proc/self/clear_refs). Before the call, free memory is handed back to the kernel
(malloc_trim), so that the call cannot use again what a call before it has left. What the call's
result holds counts, inputs and parameters do not. Elsewhere than on Linux with glibc nothing is
measured.
"""

import ctypes
import gc
import re
from collections.abc import Callable
from pathlib import Path

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_bytes(call: Callable[[], object]) -> int | None:
    """Bytes by which resident memory rises during a call; None where that cannot be known.

    Args:
        call: has been called before, so that what it allocates once is there.

    The figure is good to about a megabyte: the kernel counts in batches of pages.
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        _RESET.write_text("5")
        before = _kilobytes("VmRSS")
        call()
        return max(0, _kilobytes("VmHWM") - before) * 1024
    except (OSError, AttributeError, TypeError, ValueError):
        return None


def _kilobytes(name: str) -> int:
    match = re.search(rf"^{name}:\s*(\d+) kB", _STATUS.read_text(), re.MULTILINE)
    if match is None:
        raise ValueError(f"{_STATUS} has no {name}")
    return int(match[1])
