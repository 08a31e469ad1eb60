"""Sequences read from their last steps to their first, parts side by side, and phases."""

import functools

from llvmlite import ir
from torch import Tensor

from longlag.scan.cpu.builder import I64, Value
from longlag.scan.cpu.passes import Noted
from longlag.training.compiled.piece import Compiled, Piece, full_lanes


def moved(
    source: Tensor, target: Tensor, ends: Tensor, *, flips: bool = False, adds: bool = False
) -> Noted:
    """target[t, n] = source[t, n], or that of step ends[n] - 1 - t, and zero from ends[n] on.

    Args:
        source, target: (T, N, H), views whose last axis has no gaps; the caller keeps them.
        ends: (N,), how long each sequence is.
        flips: whether steps are turned round.
        adds: whether it is added to what is there.
    """
    steps, rows, width = source.shape
    assert source.shape == target.shape
    assert source.stride(2) == target.stride(2) == 1
    return _moved(source.element_size() == 8, flips, adds).noted(
        source=source, source_step=source.stride(0), source_row=source.stride(1), target=target,
        target_step=target.stride(0), target_row=target.stride(1), ends=ends, T=steps, N=rows,
        H=width,
    )  # fmt: skip


@functools.cache
def _moved(double: bool, flips: bool, adds: bool) -> Compiled:
    names = "source source_step source_row target target_step target_row ends T N H"
    code = Piece("longlag_moved", names, double, full_lanes(double))
    b, arg, zero = code.b, code.arg, code.i64(0)
    whole = b.and_(arg["H"], code.i64(-code.lanes))
    source, target = code.numbers("source"), code.numbers("target")

    def row(base: Value, name: str, t: Value, n: Value) -> Value:
        return code.at(base, code.times(t, arg[f"{name}_step"]), code.times(n, arg[f"{name}_row"]))

    with code.loop(zero, arg["N"]) as n, code.loop(zero, arg["T"]) as t:
        there, counts = t, None
        if flips:
            end = code.read(code.numbers("ends", I64), n)
            counts = b.icmp_signed("<", t, end)
            there = b.select(counts, code.plus(b.sub(end, t), -1), zero)
        origin, place = row(source, "source", there, n), row(target, "target", t, n)
        with code.loop(zero, whole, code.lanes) as k:
            value, here = code.load(code.at(origin, k)), code.at(place, k)
            if counts is not None:
                value = b.select(counts, value, code.zero())
            code.store(b.fadd(code.load(here), value) if adds else value, here)
        with code.loop(whole, arg["H"]) as k:
            value, here = code.read(origin, k), code.at(place, k)
            if counts is not None:
                value = b.select(counts, value, ir.Constant(code.scalar, 0.0))
            b.store(b.fadd(b.load(here), value) if adds else value, here)
    return code.finish()


def in_phase(source: Tensor, target: Tensor, ends: Tensor) -> Noted:
    """target[p, n] = source[n] where the last step of n, ends[n] - 1, is p modulo d; else zero.

    Args:
        source: (N, H), a view whose last axis has no gaps; the caller keeps both.
        target: (d, N, H), without gaps.
        ends: (N,), how long each sequence is.
    """
    phases, rows, width = target.shape
    assert source.shape == target.shape[1:]
    assert source.stride(1) == 1
    assert target.is_contiguous()
    return _in_phase(source.element_size() == 8).noted(
        source=source, source_row=source.stride(0), target=target, ends=ends, d=phases, N=rows,
        H=width,
    )  # fmt: skip


@functools.cache
def _in_phase(double: bool) -> Compiled:
    code = Piece("longlag_in_phase", "source source_row target ends d N H", double, 1)
    b, arg = code.b, code.arg
    source, target, ends = code.numbers("source"), code.numbers("target"), code.numbers("ends", I64)
    nothing = ir.Constant(code.scalar, 0.0)
    with code.loop(code.i64(0), arg["N"]) as n:
        end, row = code.read(ends, n), code.times(n, arg["source_row"])
        some = b.icmp_signed(">", end, code.i64(0))
        own = b.select(some, b.srem(code.plus(end, -1), arg["d"]), code.i64(-1))
        with code.loop(code.i64(0), arg["d"]) as phase:
            place = code.plus(code.times(phase, arg["N"]), n)
            here, counts = code.times(place, arg["H"]), b.icmp_signed("==", phase, own)
            with code.loop(code.i64(0), arg["H"]) as k:
                value = b.select(counts, code.read(source, row, k), nothing)
                b.store(value, code.at(target, here, k))
    return code.finish()
