"""Numbers from one place in memory to another: the rows of a batch, unit parameters, zeros."""

import functools

from longlag.scan.cpu.builder import I64
from longlag.scan.cpu.math_values import constant
from longlag.training.compiled.piece import Compiled, Piece, full_lanes


@functools.cache
def gather(double: bool, networks: int = 1) -> Compiled:
    """Rows of ``width`` numbers: target[n] = source[order[update, n]] for n < N, of one source for
    all networks, whose rows begin after ``stride`` numbers each.

    Of whole numbers of 64 bits take float64: the bits are kept.
    """
    code = Piece(
        "longlag_gather",
        "clock source target order N width stride",
        double,
        full_lanes(double, networks),
        networks,
    )
    arg, b = code.arg, code.b
    source, target = code.table("source"), code.numbers("target")
    order = code.at(code.order(), code.times(code.clock(), arg["N"]))
    size = code.lanes * networks  # numbers of a vector, of one network
    whole = b.and_(arg["width"], code.i64(-size))
    with code.loop(code.i64(0), arg["N"]) as n:
        there = b.mul(code.read(order, n), code.same(arg["stride"]))
        here = code.at(target, code.times(n, arg["width"]))
        with code.loop(code.i64(0), whole, size) as k:
            rows = [code.load(code.at(source, first, k)) for first in code.each(there)]
            for number, row in enumerate(code.turned(rows)):
                code.store(row, code.at(here, k, code.i64(number)))
        with code.loop(whole, arg["width"]) as k:
            b.store(code.look_up(source, b.add(there, code.same(k))), code.at(here, k))
    return code.finish()


@functools.cache
def find() -> Compiled:
    """target[n] = stride order[update, n] for n < N: where the rows of a batch begin."""
    code = Piece("longlag_find", "clock target order N stride", True, 1)
    arg = code.arg
    order = code.at(code.order(), code.times(code.clock(), arg["N"]))
    with code.loop(code.i64(0), arg["N"]) as n:
        place = code.b.mul(code.read(order, n), arg["stride"])
        code.b.store(place, code.at(code.numbers("target", I64), n))
    return code.finish()


@functools.cache
def fetch(double: bool) -> Compiled:
    """target = source[update], rows of ``count`` numbers."""
    code = Piece("longlag_fetch", "clock source target count", double, 1)
    count = code.arg["count"]
    source = code.at(code.numbers("source"), code.times(code.clock(), count))
    with code.loop(code.i64(0), count) as k:
        code.b.store(code.read(source, k), code.at(code.numbers("target"), k))
    return code.finish()


@functools.cache
def mask(double: bool) -> Compiled:
    """target[n, t] = source[n, t] * masks[update, n], of C numbers each."""
    code = Piece("longlag_mask", "clock source target masks N C T", double, 1)
    arg, b = code.arg, code.b
    row = code.times(code.clock(), code.times(arg["N"], arg["C"]))
    masks = code.at(code.numbers("masks"), row)
    source, target = code.numbers("source"), code.numbers("target")
    with code.loop(code.i64(0), arg["N"]) as n, code.loop(code.i64(0), arg["T"]) as t:
        at = code.times(code.plus(code.times(n, arg["T"]), t), arg["C"])
        with code.loop(code.i64(0), arg["C"]) as c:
            kept = code.read(masks, code.times(n, arg["C"]), c)
            b.store(b.fmul(code.read(source, at, c), kept), code.at(target, at, c))
    return code.finish()


@functools.cache
def leave_out(double: bool) -> Compiled:
    """target = source * masks[update], ``count`` numbers; both may be the same."""
    names = "clock source target masks count"
    code = Piece("longlag_leave_out", names, double, full_lanes(double))
    b, count = code.b, code.arg["count"]
    masks = code.at(code.numbers("masks"), code.times(code.clock(), count))
    source, target = code.numbers("source"), code.numbers("target")
    whole = b.and_(count, code.i64(-code.lanes))
    with code.loop(code.i64(0), whole, code.lanes) as k:
        value = b.fmul(code.load(code.at(source, k)), code.load(code.at(masks, k)))
        code.store(value, code.at(target, k))
    with code.loop(whole, count) as k:
        value = b.fmul(code.read(source, k), code.read(masks, k))
        b.store(value, code.at(target, k))
    return code.finish()


@functools.cache
def begin(double: bool) -> Compiled:
    """target = source, ``count`` numbers, or zeros where begins[update] is not 0."""
    code = Piece("longlag_begin", "clock begins source target count", double, 1)
    b, nothing = code.b, constant(code.scalar, 0.0)
    first = code.read(code.numbers("begins", I64), code.clock())
    goes_on = b.icmp_signed("==", first, code.i64(0))
    with code.loop(code.i64(0), code.arg["count"]) as k:
        value = b.select(goes_on, code.read(code.numbers("source"), k), nothing)
        b.store(value, code.at(code.numbers("target"), k))
    return code.finish()


@functools.cache
def copy(double: bool, networks: int = 1) -> Compiled:
    """target = source, ``count`` numbers."""
    code = Piece("longlag_copy", "source target count", double, 1, networks)
    with code.loop(code.i64(0), code.arg["count"]) as k:
        value = code.read(code.numbers("source"), k)
        code.b.store(value, code.at(code.numbers("target"), k))
    return code.finish()


@functools.cache
def keep(double: bool) -> Compiled:
    """target[update] = source, rows of ``count`` numbers."""
    code = Piece("longlag_keep", "clock source target count", double, 1)
    count = code.arg["count"]
    target = code.at(code.numbers("target"), code.times(code.clock(), count))
    with code.loop(code.i64(0), count) as k:
        code.b.store(code.read(code.numbers("source"), k), code.at(target, k))
    return code.finish()


@functools.cache
def clear(double: bool, networks: int = 1) -> Compiled:
    """target = 0, ``count`` numbers."""
    code = Piece("longlag_clear", "target count", double, full_lanes(double, networks), networks)
    target, count = code.numbers("target"), code.arg["count"]
    whole = code.b.and_(count, code.i64(-code.lanes))
    with code.loop(code.i64(0), whole, code.lanes) as k:
        code.store(code.zero(), code.at(target, k))
    with code.loop(whole, count) as k:
        code.b.store(constant(code.scalar, 0.0), code.at(target, k))
    return code.finish()


@functools.cache
def add(double: bool, networks: int = 1) -> Compiled:
    """target += source, ``count`` numbers."""
    code = Piece(
        "longlag_add", "source target count", double, full_lanes(double, networks), networks
    )
    b, source, target = code.b, code.numbers("source"), code.numbers("target")
    count = code.arg["count"]
    whole = b.and_(count, code.i64(-code.lanes))
    with code.loop(code.i64(0), whole, code.lanes) as k:
        value = b.fadd(code.load(code.at(target, k)), code.load(code.at(source, k)))
        code.store(value, code.at(target, k))
    with code.loop(whole, count) as k:
        b.store(b.fadd(code.read(target, k), code.read(source, k)), code.at(target, k))
    return code.finish()
