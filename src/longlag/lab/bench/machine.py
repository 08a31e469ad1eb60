"""What the processor can do at most: fused multiply-adds a second, bytes a second from a cache.

Both are measured by kernels of their own, on as many threads at once as the rows use.
"""

import ctypes
import functools
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from llvmlite import ir

from longlag.scan.cpu.builder import I64, Code
from longlag.scan.cpu.target import compile_functions, host

_CHAINS = 12
"""Independent sums: more than the latency of an addition times the additions a cycle."""
_SECONDS = 0.02
_REPEATS = 7


def describe() -> dict[str, object]:
    """The processor and the system, for the record."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if ":" in line]
        facts = {key.strip(): value.strip() for key, _, value in (s.partition(":") for s in lines)}
        name = facts.get("model name", name)
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "vector_bits": 8 * host().vector_bytes,
        "llvm_cpu": host().cpu,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def peak_flops(threads: int) -> float | None:
    """Floating-point operations a second, float32, of so many threads together.

    A fused multiply-add is two operations. It is measured at every call, and the best that this
    process has seen counts, for what else the machine does can only make it less. None where the
    processor has no such operation.
    """
    if not host().fma:
        return None
    first = threads not in _SEEN
    _SEEN[threads] = max(
        _SEEN.get(threads, 0.0), *(_peak(threads) for _ in range(4 if first else 1))
    )
    return _SEEN[threads]


_SEEN: dict[int, float] = {}
"""By number of threads, the best so far."""


def _peak(threads: int) -> float:
    kernel = _kernel(_emit_fma())
    operations = 2.0 * _CHAINS * host().lanes(4)  # of one pass of the loop
    data = [np.full(_CHAINS * host().lanes(4) + 2, 0.5, dtype=np.float32) for _ in range(threads)]
    calls = [functools.partial(kernel, block.ctypes.data, 1) for block in data]
    return operations * _best_rate(calls)


@functools.lru_cache(maxsize=256)
def bandwidth(size: int) -> float:
    """Bytes a second that one thread reads from an array of this size, over and over.

    Args:
        size: bytes; it decides which cache they come from.
    """
    kernel = _kernel(_emit_read())
    step = _CHAINS * host().lanes(4)
    count = max(1, -(-size // (4 * step)))  # passes of the inner loop
    data = np.zeros(count * step + step, dtype=np.float32)
    return 4.0 * step * count * _best_rate([functools.partial(kernel, data.ctypes.data, count)])


def _best_rate(calls: list[Callable[..., None]]) -> float:
    """Passes a second of all calls together; each takes the number of passes as its last word."""
    with ThreadPoolExecutor(len(calls)) as pool:

        def seconds(passes: int) -> float:
            started = time.perf_counter()
            list(pool.map(lambda call: call(passes), calls))
            return time.perf_counter() - started

        passes = 1
        while seconds(passes) < _SECONDS / 2:
            passes *= 2
        return len(calls) * passes / min(seconds(passes) for _ in range(_REPEATS))


def _kernel(text: str) -> Callable[..., None]:
    types = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    return compile_functions(text, {"kernel": types})["kernel"]


def _begin() -> tuple[ir.Module, Code, list[ir.AllocaInstr]]:
    """A function (data, count, passes) with its sums set to the first numbers of data."""
    module = ir.Module(name="longlag_machine")
    kind = ir.FunctionType(ir.VoidType(), [ir.FloatType().as_pointer(), I64, I64])
    code = Code(ir.Function(module, kind, "kernel"), double=False, lanes=host().lanes(4))
    sums = [code.variable(code.vector) for _ in range(_CHAINS)]
    for number, total in enumerate(sums):  # numbers that LLVM does not know, lest it find equals
        place = code.at(code.function.args[0], code.i64(number * code.lanes))
        code.b.store(code.load(place), total)
    return module, code, sums


def _finish(module: ir.Module, code: Code, sums: list[ir.AllocaInstr]) -> str:
    """Store the sums, so that they have to be computed."""
    for number, total in enumerate(sums):
        place = code.at(code.function.args[0], code.i64(number * code.lanes))
        code.store(code.b.load(total), place)
    code.b.ret_void()
    return str(module)


def _emit_fma() -> str:
    """sum = x * sum + y in chains that do not wait for each other; x = y = 0.5, so sum nears 1."""
    module, code, sums = _begin()
    data, _, passes = code.function.args
    last = code.i64(_CHAINS * code.lanes)
    x = code.splat(code.b.load(code.at(data, last)))
    y = code.splat(code.b.load(code.at(data, last, code.i64(1))))
    with code.loop(code.i64(0), passes):
        for total in sums:
            code.b.store(code.fma(code.b.load(total), x, y), total)
    return _finish(module, code, sums)


def _emit_read() -> str:
    """Add up the whole array, `passes` times."""
    module, code, sums = _begin()
    data, count, passes = code.function.args
    step = _CHAINS * code.lanes
    with code.loop(code.i64(0), passes), code.loop(code.i64(0), count) as index:
        first = code.times(index, step)
        for number, total in enumerate(sums):
            value = code.load(code.at(data, first, code.i64(number * code.lanes)))
            code.b.store(code.b.fadd(code.b.load(total), value), total)
    return _finish(module, code, sums)
