"""The end of a step: the norm of the gradient, a look at both numbers, clipping, the update."""

import functools

from llvmlite import ir

from longlag.scan.cpu.builder import I64, Value
from longlag.training.compiled.optimizers import STATES
from longlag.training.compiled.piece import DOUBLE, Compiled, Piece, full_lanes

ENTRY = 5 + STATES
"""Whole numbers of an entry of ``updates``: the address of the function, those of parameter,
gradient and states, the count, and where its coefficients begin."""


@functools.cache
def update(double: bool) -> Compiled:
    """The norm of all gradients; where it and the loss are finite, the updates.

    ``gradients`` has ``gradient_count`` pairs, address and count; ``updates`` ``update_count``
    entries of :data:`ENTRY` numbers. ``losses`` and ``norms`` have a double for each update,
    ``coefficients`` ``row`` of them. ``clip`` is the address of two doubles: the largest norm, and
    room for what gradients are multiplied by.
    """
    names = (
        "clock stop loss losses norms gradients gradient_count updates update_count coefficients "
        "row clip"
    )
    code = Piece("longlag_update", names, double, full_lanes(double))
    b, arg, zero = code.b, code.arg, code.i64(0)
    number = code.clock()
    norm = _norm(code)
    loss = b.load(code.numbers("loss", DOUBLE))
    b.store(loss, code.at(code.numbers("losses", DOUBLE), number))
    b.store(norm, code.at(code.numbers("norms", DOUBLE), number))
    both = b.fadd(b.fsub(loss, loss), b.fsub(norm, norm))
    finite = b.fcmp_ordered("==", both, ir.Constant(DOUBLE, 0.0))
    with b.if_else(finite) as (goes_on, stops):
        with stops:
            b.store(code.i64(1), code.numbers("stop", I64))
        with goes_on:
            clip = code.numbers("clip", DOUBLE)
            most, scale = b.load(clip), code.at(clip, code.i64(1))
            clipped = b.fcmp_ordered(">", norm, most)
            value = b.select(clipped, b.fdiv(most, norm), ir.Constant(DOUBLE, 1.0))
            b.store(value, scale)
            row = code.times(number, arg["row"])
            numbers = code.at(code.numbers("coefficients", DOUBLE), row)
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
    b, kind = code.b, ir.VectorType(DOUBLE, code.lanes)
    wide, rest = code.variable(kind), code.variable(DOUBLE)
    b.store(ir.Constant(kind, [0.0] * code.lanes), wide)
    b.store(ir.Constant(DOUBLE, 0.0), rest)
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
    root = ir.Function(code.function.module, ir.FunctionType(DOUBLE, [DOUBLE]), "llvm.sqrt.f64")
    return code.widened(code.narrowed(b.call(root, [total])))
