"""Batches whose sequences end at steps of their own."""

import functools
import math
from collections.abc import Callable

from llvmlite import ir

from longlag.scan.cpu.builder import I64, Value
from longlag.scan.cpu.math_values import constant
from longlag.training.compiled.piece import Compiled, Piece, full_lanes


@functools.cache
def rank() -> Compiled:
    """The rows of a batch by falling length, as kernels want them; equal ones as they lie.

    ``lengths`` has that of each sequence, ``order`` N numbers of sequences for each update.
    ``ranks`` (N,) gets the rows, ``counts`` (T + 1,) how many are longer than t, ``ends`` (N,) the
    lengths of the rows; ``free`` (T + 1,) is work space.
    """
    names = "clock lengths order N T ranks counts ends free"
    code = Piece("longlag_rank", names, False, 1)
    b, zero, one, count = code.b, code.i64(0), code.i64(1), code.arg["N"]
    arrays = (code.numbers(name, I64) for name in names.split()[5:])
    ranks, counts, ends, free = arrays
    lengths, steps = code.numbers("lengths", I64), code.plus(code.arg["T"], 1)
    order = code.at(code.numbers("order", I64), code.times(code.clock(), count))
    with code.loop(zero, steps) as t:
        b.store(zero, code.at(counts, t))
    with code.loop(zero, count) as n:
        length = code.read(lengths, code.read(order, n))
        b.store(length, code.at(ends, n))
        place = code.at(counts, length)
        b.store(b.add(b.load(place), one), place)
    left = code.variable(I64)
    b.store(count, left)
    with code.loop(zero, steps) as t:
        longer = b.sub(b.load(left), code.read(counts, t))
        for place in (left, code.at(counts, t), code.at(free, t)):
            b.store(longer, place)
    with code.loop(zero, count) as n:
        place = code.at(free, code.read(ends, n))
        number = b.load(place)
        b.store(n, code.at(ranks, number))
        b.store(b.add(number, one), place)
    return code.finish()


@functools.cache
def unreset() -> Compiled:
    """target[t, n] = not source[order[n], t], of T steps and N sequences, a byte each; the rows of
    the source begin after ``stride`` bytes each."""
    code = Piece("longlag_unreset", "clock source stride target order N T", False, 1)
    b, arg, byte = code.b, code.arg, ir.IntType(8)
    source, target = code.numbers("source", byte), code.numbers("target", byte)
    order = code.at(code.numbers("order", I64), code.times(code.clock(), arg["N"]))
    with code.loop(code.i64(0), arg["N"]) as n:
        row = code.times(code.read(order, n), arg["stride"])
        with code.loop(code.i64(0), arg["T"]) as t:
            flag = b.xor(code.read(source, row, t), ir.Constant(byte, 1))
            b.store(flag, code.at(target, code.times(t, arg["N"]), n))
    return code.finish()


@functools.cache
def take_ends(double: bool) -> Compiled:
    """target[n] = path[min(ends[n], most), n], of H numbers each, from a path (T + 1, N, H)."""
    code = Piece("longlag_ends", "path target ends most N H", double, full_lanes(double))
    path, target, ends = code.numbers("path"), code.numbers("target"), code.numbers("ends", I64)

    def take(n: Value, index: Value, wide: bool) -> None:
        step = code.smaller(code.read(ends, n), code.arg["most"])
        row = code.plus(code.times(step, code.arg["N"]), n)
        there, here = (
            code.at(base, code.times(k, code.arg["H"]), index)
            for base, k in ((path, row), (target, n))
        )
        if wide:
            code.store(code.load(there), here)
        else:
            code.b.store(code.b.load(there), here)

    _each(code, take)
    return code.finish()


@functools.cache
def take_mean(double: bool, networks: int = 1) -> Compiled:
    """target[n] = the mean of path[1 + t, n] over t < ends[n], of a path (T + 1, N, H) that is zero
    in the padding; zero for no steps."""
    code = Piece(
        "longlag_mean", "path target ends N H T", double, full_lanes(double, networks), networks
    )
    arg = code.arg
    step = code.times(arg["N"], arg["H"])
    path = code.at(code.numbers("path"), step)
    target, total = code.numbers("target"), code.variable(code.vector)
    single = code.variable(code.scalar)

    def mean(n: Value, index: Value, wide: bool) -> None:
        zero = code.zero() if wide else constant(code.scalar, 0.0)
        place, load = (total, code.load) if wide else (single, code.b.load)
        code.b.store(zero, place)
        at = code.plus(code.times(n, arg["H"]), index)
        with code.loop(code.i64(0), arg["T"]) as t:
            value = load(code.at(path, code.times(t, step), at))
            code.b.store(code.b.fadd(code.b.load(place), value), place)
        value = code.b.fdiv(code.b.load(place), _length(code, n, wide))
        if wide:
            code.store(value, code.at(target, at))
        else:
            code.b.store(value, code.at(target, at))

    _each(code, mean)
    return code.finish()


@functools.cache
def take_share(double: bool, networks: int = 1, *, peaks: bool = False) -> Compiled:
    """target[n] = the share of the steps t < ends[n] at which path[1 + t, n] is above 0, of a path
    (T + 1, N, H); with ``peaks`` that of units of even number, counted from ``before`` on, and of
    those of odd number the greatest value; zero for no steps."""
    names = "path target ends before N H"
    code = Piece("longlag_share", names, double, full_lanes(double, networks), networks)
    arg, b = code.arg, code.b
    step = code.times(arg["N"], arg["H"])
    path, target = code.at(code.numbers("path"), step), code.numbers("target")
    rooms = [[code.variable(kind) for _ in range(2)] for kind in (code.scalar, code.vector)]
    ends = code.numbers("ends", I64)

    def share(n: Value, index: Value, wide: bool) -> None:
        kind, load = (code.vector, code.load) if wide else (code.scalar, b.load)
        (count, most), zero, one = rooms[wide], constant(kind, 0.0), constant(kind, 1.0)
        b.store(zero, count)
        b.store(constant(kind, -math.inf), most)
        at, end = code.plus(code.times(n, arg["H"]), index), code.read(ends, n)
        with code.loop(code.i64(0), end) as t:
            value = load(code.at(path, code.times(t, step), at))
            above = b.select(b.fcmp_ordered(">", value, zero), one, zero)
            b.store(b.fadd(b.load(count), above), count)
            if peaks:
                known = b.load(most)
                b.store(b.select(b.fcmp_ordered(">", value, known), value, known), most)
        found = b.fdiv(b.load(count), _length(code, n, wide))
        if peaks:
            number, bit = code.plus(index, arg["before"]), ir.IntType(1)
            if wide:
                number = b.add(code.splat(number), code.lane_numbers())
                bit = ir.VectorType(bit, code.lanes * networks)
            odd = b.trunc(number, bit)
            some = b.icmp_signed(">", end, code.i64(0))
            found = b.select(odd, b.select(some, b.load(most), zero), found)
        place = code.at(target, at)
        if wide:
            code.store(found, place)
        else:
            b.store(found, place)

    _each(code, share)
    return code.finish()


def _copy_if(code: Piece, there: Value, source: Value, target: Value) -> None:
    """C numbers from source to target, or as many zeros."""
    with code.loop(code.i64(0), code.arg["C"]) as c:
        value = code.b.select(there, code.read(source, c), constant(code.scalar, 0.0))
        code.b.store(value, code.at(target, c))


@functools.cache
def by_step(double: bool, networks: int = 1) -> Compiled:
    """target[t, n] = source[n, t], of C numbers each; zero for t >= ends[n]."""
    code = Piece("longlag_by_step", "source target ends N C T", double, 1, networks)
    arg, source, target = code.arg, code.numbers("source"), code.numbers("target")
    with code.loop(code.i64(0), arg["N"]) as n:
        end = code.read(code.numbers("ends", I64), n)
        with code.loop(code.i64(0), arg["T"]) as t:
            there = code.times(code.plus(code.times(n, arg["T"]), t), arg["C"])
            here = code.times(code.plus(code.times(t, arg["N"]), n), arg["C"])
            counts = code.b.icmp_signed("<", t, end)
            _copy_if(code, counts, code.at(source, there), code.at(target, here))
    return code.finish()


@functools.cache
def last_input(double: bool, networks: int = 1) -> Compiled:
    """target[n] = source[n, ends[n] - 1], of C numbers each; zero of an empty sequence."""
    code = Piece("longlag_last_input", "source target ends N C T", double, 1, networks)
    arg, source, target = code.arg, code.numbers("source"), code.numbers("target")
    with code.loop(code.i64(0), arg["N"]) as n:
        end = code.read(code.numbers("ends", I64), n)
        some = code.b.icmp_signed(">", end, code.i64(0))
        step = code.b.select(some, code.plus(end, -1), code.i64(0))
        there = code.times(code.plus(code.times(n, arg["T"]), step), arg["C"])
        place = code.at(target, code.times(n, arg["C"]))
        _copy_if(code, some, code.at(source, there), place)
    return code.finish()


@functools.cache
def spread(double: bool, networks: int = 1) -> Compiled:
    """rows[n] /= ends[n], of H numbers each: the error of a mean is that of each of its steps."""
    code = Piece("longlag_spread", "rows ends N H", double, full_lanes(double, networks), networks)
    rows = code.numbers("rows")

    def divide(n: Value, index: Value, wide: bool) -> None:
        place = code.at(rows, code.times(n, code.arg["H"]), index)
        value = code.load(place) if wide else code.b.load(place)
        value = code.b.fdiv(value, _length(code, n, wide))
        if wide:
            code.store(value, place)
        else:
            code.b.store(value, place)

    _each(code, divide)
    return code.finish()


def _length(code: Piece, n: Value, wide: bool) -> Value:
    """The length of a row, or 1 of an empty one, as a number or a vector."""
    length = code.read(code.numbers("ends", I64), n)
    length = code.b.select(code.b.icmp_signed("<", length, code.i64(1)), code.i64(1), length)
    value = code.same(code.b.sitofp(length, code.number))
    return code.splat(value) if wide else value


def _each(code: Piece, body: Callable[[Value, Value, bool], None]) -> None:
    """The loop over rows n and their numbers, as vectors and then one by one: body(n, index,
    whether it is a vector)."""
    whole = code.b.and_(code.arg["H"], code.i64(-code.lanes))
    with code.loop(code.i64(0), code.arg["N"]) as n:
        with code.loop(code.i64(0), whole, code.lanes) as index:
            body(n, index, True)
        with code.loop(whole, code.arg["H"]) as index:
            body(n, index, False)
