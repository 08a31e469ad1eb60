"""A program for several networks, one or some at a time, without Python in between.

The numbers of each network are a row of a matrix. Its turn: the row is copied to where the program
reads and writes, the program makes updates, and the row is copied back. Where networks go side by
side, their rows are turned: a vector of the first number of each, then of the second.
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
from longlag.training.compiled.cells import Cells
from longlag.training.compiled.lanes import Lanes
from longlag.training.compiled.piece import DOUBLE
from longlag.training.compiled.program import Program, driver_address

LANES = 8
"""Words of 64 bits that are copied at once: rows are so many, or a multiple."""

_NAME = "longlag_turns"
_WORDS = "home rows width back clips clip numbers stopped stop program driver"


class Turns:
    """Turns of networks at a program.

    Args:
        program: of one thread.
        cells: of its pieces.
        home: (M,), the numbers that it reads and writes, so that they fill `LANES` words or a
            multiple.
        lanes: the memory of the networks that have a turn together.
        back: whether they are copied back.
    """

    def __init__(
        self, program: Program, cells: Cells, home: Tensor, lanes: Lanes, *, back: bool
    ) -> None:
        assert program.parts == 1
        assert home.numel() * home.element_size() % (8 * LANES) == 0
        self._networks = lanes.networks
        self._home, self._clip, self._stopped = map(
            lanes.of, (home, cells.clip, cells.stopped)
        )  # fmt: skip
        self._width, self._double = home.numel(), home.element_size() == 8
        self._back, self._held = back, (program, cells)

    def run(
        self,
        rows: Tensor,
        numbers: "np.ndarray[Any, Any]",
        updates: int,
        clips: "np.ndarray[Any, Any] | None" = None,
    ) -> None:
        """Let networks take their turns: turn n has the updates n U .. (n + 1) U - 1.

        Args:
            rows: (R, M).
            numbers: which of them, int64; of L side by side the first L have the first turn.
            updates: U, of each.
            clips: the largest norm of the gradient of each, float64; None: the program clips
                nothing.
        """
        program, cells = self._held
        clips = np.full(len(numbers), np.inf) if clips is None else clips
        words = (
            self._home.data_ptr(), rows.data_ptr(), self._width, self._back, clips.ctypes.data,
            self._clip.data_ptr(), numbers.ctypes.data, self._stopped.data_ptr(),
            cells.stop.data_ptr(), program.address, driver_address(),
        )  # fmt: skip
        turns = len(numbers) // self._networks
        function = _turns(self._double, self._networks)
        function((ctypes.c_int64 * len(words))(*words), turns, updates)


@functools.cache
def _turns(double: bool, networks: int) -> Callable[..., None]:
    """The function (words, count, updates)."""
    module = ir.Module(_NAME)
    kind = ir.FunctionType(ir.VoidType(), [I64.as_pointer(), I64, I64])
    lanes = 8 * LANES // (8 if double else 4) if networks == 1 else networks
    code = Code(ir.Function(module, kind, _NAME), double, lanes)
    b, zero = code.b, code.i64(0)
    words, count, updates = code.function.args
    arg = {
        name: b.load(b.gep(words, [code.i64(number)])) for number, name in enumerate(_WORDS.split())
    }
    home, all_rows = (b.inttoptr(arg[name], code.pointer) for name in ("home", "rows"))
    numbers, stopped, stop = (
        b.inttoptr(arg[name], I64.as_pointer()) for name in ("numbers", "stopped", "stop")
    )
    clips, clip = (b.inttoptr(arg[name], DOUBLE.as_pointer()) for name in ("clips", "clip"))

    def copied(rows: list[Value], *, back: bool) -> None:
        with code.loop(zero, arg["width"], lanes) as k:
            here = [
                code.at(home, code.times(code.plus(k, n), networks)) for n in range(lanes)
            ][: len(rows)]  # fmt: skip
            there = [code.at(row, k) for row in rows]
            source, target = (here, there) if back else (there, here)
            numbers = [code.load(place) for place in source]
            turned = code.turned(numbers) if networks > 1 else numbers
            for number, place in zip(turned, target, strict=True):
                code.store(number, place)

    of_driver = ir.FunctionType(ir.VoidType(), [I64] * 5).as_pointer()
    run = b.inttoptr(arg["driver"], of_driver)
    with code.loop(zero, count) as turn:
        rows = []
        for n in range(networks):
            place, lane = code.plus(code.times(turn, networks), n), code.i64(n)
            number = b.load(b.gep(numbers, [place]))
            rows.append(code.at(all_rows, code.times(number, arg["width"])))
            b.store(b.load(b.gep(clips, [place])), b.gep(clip, [lane]))
            b.store(zero, b.gep(stopped, [lane]))
        b.store(zero, stop)
        copied(rows, back=False)
        first = code.times(turn, updates)
        last = code.plus(first, updates)
        b.call(run, [arg["program"], first, last, zero, code.i64(1)])
        with b.if_then(b.icmp_signed("!=", arg["back"], zero)):
            copied(rows, back=True)
    b.ret_void()
    types: list[Any] = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
    return compile_functions(str(module), {_NAME: types})[_NAME]
