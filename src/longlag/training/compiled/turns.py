"""A program for several networks, one after the other, without Python in between.

The numbers of each network are a row of a matrix. Its turn: the row is copied to where the program
reads and writes, the program makes updates, and the row is copied back.
"""

import ctypes
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from torch import Tensor

from longlag.scan.cpu.builder import I64, Code, Value
from longlag.scan.cpu.target import compile_functions
from longlag.training.compiled.outputs import Cells
from longlag.training.compiled.piece import DOUBLE
from longlag.training.compiled.program import Program, driver_address

LANES = 8
"""Words of 64 bits that are copied at once: rows are so many, or a multiple."""

_NAME = "longlag_turns"
_WORDS = "home rows width back clips clip numbers made stop clock program driver"


class Turns:
    """Turns of networks at a program.

    Args:
        program: of one thread.
        cells: of its pieces.
        home: (M,), the numbers that it reads and writes, so that they fill `LANES` words or a
            multiple.
        back: whether they are copied back.
    """

    def __init__(self, program: Program, cells: Cells, home: Tensor, *, back: bool) -> None:
        assert program.parts == 1
        self._width = home.numel() * home.element_size() // 8
        assert self._width % LANES == 0
        self._back, self._held = back, (program, cells, home)

    def run(
        self,
        rows: Tensor,
        numbers: "np.ndarray[Any, Any]",
        updates: int,
        clips: "np.ndarray[Any, Any] | None" = None,
    ) -> "np.ndarray[Any, Any]":
        """Let networks take their turns: that at place n has the updates n U .. (n + 1) U - 1.

        Args:
            rows: (R, M).
            numbers: which of them, int64.
            updates: U, of each.
            clips: the largest norm of the gradient of each, float64; None: the program clips
                nothing.

        Returns:
            How many updates each has made.
        """
        program, cells, home = self._held
        made = np.zeros(len(numbers), dtype=np.int64)
        clips = np.full(len(numbers), np.inf) if clips is None else clips
        words = (
            home.data_ptr(), rows.data_ptr(), self._width, self._back, clips.ctypes.data,
            cells.clip.data_ptr(), numbers.ctypes.data, made.ctypes.data, cells.stop.data_ptr(),
            cells.clock.data_ptr(), program.address, driver_address(),
        )  # fmt: skip
        _turns()((ctypes.c_int64 * len(words))(*words), len(numbers), updates)
        return made


@functools.cache
def _turns() -> Callable[..., None]:
    """The function (words, count, updates)."""
    module = ir.Module(_NAME)
    kind = ir.FunctionType(ir.VoidType(), [I64.as_pointer(), I64, I64])
    code = Code(ir.Function(module, kind, _NAME), False, LANES)
    b = code.b
    words, count, updates = code.function.args
    arg = {
        name: b.load(b.gep(words, [code.i64(number)])) for number, name in enumerate(_WORDS.split())
    }
    vector = ir.VectorType(I64, LANES).as_pointer()
    home, rows, made, numbers = (
        b.inttoptr(arg[name], I64.as_pointer()) for name in ("home", "rows", "made", "numbers")
    )
    stop, clock = (b.inttoptr(arg[name], I64.as_pointer()) for name in ("stop", "clock"))
    clips, clip = (b.inttoptr(arg[name], DOUBLE.as_pointer()) for name in ("clips", "clip"))

    def copied(source: Value, target: Value) -> None:
        with code.loop(code.i64(0), arg["width"], LANES) as n:
            value = b.load(b.bitcast(b.gep(source, [n]), vector), align=8)
            b.store(value, b.bitcast(b.gep(target, [n]), vector), align=8)

    of_driver = ir.FunctionType(ir.VoidType(), [I64] * 5).as_pointer()
    run = b.inttoptr(arg["driver"], of_driver)
    with code.loop(code.i64(0), count) as place:
        number = b.load(b.gep(numbers, [place]))
        row = b.gep(rows, [code.times(number, arg["width"])])
        copied(row, home)
        b.store(b.load(b.gep(clips, [place])), clip)
        b.store(code.i64(0), stop)
        first = code.times(place, updates)
        last = code.plus(first, updates)
        b.call(run, [arg["program"], first, last, code.i64(0), code.i64(1)])
        stopped = b.icmp_signed("!=", b.load(stop), code.i64(0))
        ended = b.select(stopped, b.load(clock), last)
        b.store(b.sub(ended, first), b.gep(made, [place]))
        with b.if_then(b.icmp_signed("!=", arg["back"], code.i64(0))):
            copied(home, row)
    b.ret_void()
    types: list[Any] = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    return compile_functions(str(module), {_NAME: types})[_NAME]
