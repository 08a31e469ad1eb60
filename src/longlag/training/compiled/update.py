"""The end of a step: the norm of the gradient, a look at both numbers, clipping, the update."""

import functools
import math

from llvmlite import ir

from longlag.scan.cpu.builder import I64, Value
from longlag.scan.cpu.math_values import Arithmetic, constant
from longlag.training.compiled.optimizers import STATES
from longlag.training.compiled.piece import Compiled, Piece, full_lanes

ENTRY = 5 + STATES
"""Whole numbers of an entry of ``updates``: the address of the function, those of parameter,
gradient and states, the count, and where its coefficients begin."""


@functools.cache
def update(double: bool, networks: int = 1) -> Compiled:
    """The norm of all gradients; where it and the loss are finite, the updates.

    ``gradients`` has ``gradient_count`` pairs, address and count; ``updates`` ``update_count``
    entries of :data:`ENTRY` numbers. ``losses`` and ``norms`` have a double for each update,
    ``coefficients`` ``row`` of them. ``clip`` is the address of two doubles: the largest norm, and
    room for what gradients are multiplied by: NaN tells the optimizer that a network has stopped.
    ``stopped`` has a whole number for each network, 1 from then on; ``stop`` is 1 once all have.
    """
    names = (
        "clock stop stopped loss losses norms gradients gradient_count updates update_count "
        "coefficients row clip"
    )
    code = Piece("longlag_update", names, double, full_lanes(double, networks), networks)
    b, arg, zero = code.b, code.arg, code.i64(0)
    number = code.clock()
    norm = _norm(code)
    loss = b.load(code.numbers("loss", code.wide))
    b.store(loss, code.at(code.numbers("losses", code.wide), number))
    b.store(norm, code.at(code.numbers("norms", code.wide), number))
    both = b.fadd(b.fsub(loss, loss), b.fsub(norm, norm))
    broken = b.fcmp_unordered("!=", both, constant(code.wide, 0.0))
    place = code.numbers("stopped", code.whole)
    stopped = b.or_(b.load(place), b.zext(broken, code.whole))
    b.store(stopped, place)
    with b.if_else(b.icmp_signed("==", code.all_of(stopped), zero)) as (goes_on, stops):
        with stops:
            b.store(code.i64(1), code.numbers("stop", I64))
        with goes_on:
            clip = code.numbers("clip", code.wide)
            most, scale = b.load(clip), code.at(clip, code.i64(1))
            clipped = b.fcmp_ordered(">", norm, most)
            value = b.select(clipped, b.fdiv(most, norm), constant(code.wide, 1.0))
            goes_on = b.icmp_signed("==", stopped, code.same(zero))
            b.store(b.select(goes_on, value, constant(code.wide, math.nan)), scale)
            row = code.times(number, arg["row"])
            numbers = code.at(code.numbers("coefficients", code.wide), row)
            updates = code.numbers("updates", I64)
            with code.loop(zero, arg["update_count"]) as index:
                words = [
                    code.read(updates, code.plus(code.times(index, ENTRY), n)) for n in range(ENTRY)
                ]
                function, *arguments, first = words
                kind = ir.FunctionType(ir.VoidType(), [I64] * (ENTRY))
                ends = [b.ptrtoint(a, I64) for a in (code.at(numbers, first), scale)]
                b.call(b.inttoptr(function, kind.as_pointer()), [*arguments, *ends])
    return code.finish()


def _norm(code: Piece) -> Value:
    """The Euclidean norm of all gradients, a double that the floating type holds."""
    b = code.b
    wide, rest = code.variable(code.wide_vector), code.variable(code.wide)
    b.store(constant(code.wide_vector, 0.0), wide)
    b.store(constant(code.wide, 0.0), rest)
    table = code.numbers("gradients", I64)
    with code.loop(code.i64(0), code.arg["gradient_count"]) as number:
        entry = code.times(number, 2)
        gradient = b.inttoptr(code.read(table, entry), code.pointer)
        count = code.read(table, code.plus(entry, 1))
        whole = b.and_(count, code.i64(-code.lanes))
        with code.loop(code.i64(0), whole, code.lanes) as index:
            value = code.widened(code.load(code.at(gradient, index)))
            b.store(b.fadd(b.load(wide), b.fmul(value, value)), wide)
        with code.loop(whole, count) as index:
            value = code.widened(code.read(gradient, index))
            b.store(b.fadd(b.load(rest), b.fmul(value, value)), rest)
    total = b.fadd(code.total_over(b.load(wide)), b.load(rest))
    return code.widened(code.narrowed(Arithmetic(b, code.wide).sqrt(total)))
