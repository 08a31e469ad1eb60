"""Kernels on the threads that PyTorch's own operations run on, where those are GNU OpenMP's.

After an operation on several threads OpenMP's threads look for more work for some milliseconds. A
thread of another pool that begins then shares a core with one of them. These begin at once.
"""

import ctypes
import functools
import os
import sys
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from longlag.scan.cpu.builder import I32, I64, Code
from longlag.scan.cpu.target import compile_functions
from longlag.torch_private import own_libraries

Kernel = Callable[[bytes, int, int], object]
"""A compiled function (parameters, part, parts)."""

_NAME = "longlag_region"


class _Forked:
    """Whether this process was forked: OpenMP's threads are then not there, nor can be made."""

    so = False


def _forked() -> None:
    _Forked.so = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def run(kernel: Kernel, parameters: bytes, parts: int) -> bool:
    """Call kernel(parameters, part, parts) for every part, on as many threads as OpenMP gives.

    Parts must not wait for each other. Returns whether it was done.
    """
    found = None if _Forked.so else _openmp()
    if found is None:
        return False
    parallel, region, counts = found
    given = ctypes.c_char_p(parameters)
    words = [_address(kernel), _address(given), parts, *counts]
    parallel(region, (ctypes.c_int64 * len(words))(*words), parts, 0)
    return True


def _address(pointer: Any) -> int:
    address = ctypes.cast(pointer, ctypes.c_void_p).value
    assert address is not None
    return address


@functools.cache
def _openmp() -> tuple[Any, int, tuple[int, int]] | None:
    """GOMP_parallel, the region that it runs, and the functions that number the threads."""
    if not sys.platform.startswith("linux"):
        return None
    for path in own_libraries("libgomp*.so*"):
        try:
            library = ctypes.CDLL(str(path), mode=os.RTLD_NOLOAD | os.RTLD_NOW)
            parallel = library.GOMP_parallel
            counts = _address(library.omp_get_thread_num), _address(library.omp_get_num_threads)
        except (OSError, AttributeError):  # not what PyTorch runs on
            continue
        parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        parallel.restype = None
        return parallel, _address(_region()), counts
    return None


@functools.cache
def _region() -> Callable[..., object]:
    """What each thread does: (words), in turn the parts that are its own."""
    module = ir.Module(_NAME)
    kind = ir.FunctionType(ir.VoidType(), [I64.as_pointer()])
    code = Code(ir.Function(module, kind, _NAME), False, 1)
    b, (words,) = code.b, code.function.args
    kernel, parameters, parts, *counts = (
        b.load(b.gep(words, [code.i64(place)])) for place in range(5)
    )
    counting = ir.FunctionType(I32, []).as_pointer()
    number, threads = (b.sext(b.call(b.inttoptr(each, counting), []), I64) for each in counts)
    of_kernel = ir.FunctionType(ir.VoidType(), [I64.as_pointer(), I64, I64]).as_pointer()
    with code.loop(number, parts, threads) as part:
        arguments = [b.inttoptr(parameters, I64.as_pointer()), part, parts]
        b.call(b.inttoptr(kernel, of_kernel), arguments)
    b.ret_void()
    return compile_functions(str(module), {_NAME: [ctypes.c_void_p]})[_NAME]
