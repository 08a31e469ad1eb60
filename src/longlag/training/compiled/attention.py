"""Attention over the steps of each sequence: what is read, and the errors that go back.

Of states h_t over the steps of a sequence (:class:`~longlag.layers.Attention`), and dr = dE/dr:

    u_t = tanh(A h_t + c),   s_t = v . u_t,   a_t = exp(s_t - m) / sum of these, m the largest s,
    r = sum of a_t h_t
    g_t = dr . h_t,   ds_t = a_t (g_t - sum of a_s g_s),   dv = sum of ds_t u_t
    de_t = ds_t v (1 - u_t^2),   dA = de^T h,   dc = sum of de_t,   dh_t = A^T de_t + a_t dr

Row t N + n is step t of sequence n. In the padding a and ds are 0, and so is what goes back there.
"""

import functools
import math as numbers
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from llvmlite import ir
from torch import Tensor

from longlag.layers.attention import Attention
from longlag.scan.cpu import math
from longlag.scan.cpu.builder import I64, Value
from longlag.scan.cpu.math_values import Arithmetic, constant
from longlag.scan.cpu.passes import Noted
from longlag.training.compiled.piece import Compiled
from longlag.training.compiled.product import Products, Sizes


class Attended:
    """The calls of an attention for batches of one size, and their memory.

    Args:
        attention: whose parameters stay where they are.
        h: (T, N, H), the memory of the states, without gaps, zero in the padding.
        ends: (N,), how long each sequence is.
        networks: whose numbers lie side by side.

    Attributes:
        rows: (N, H), r.
        forward: what writes them.
        gradients: of the parameters, in their order, where :meth:`send_back` has them written.
    """

    def __init__(self, attention: Attention, h: Tensor, ends: Tensor, networks: int) -> None:
        steps, count, width = h.shape
        assert h.is_contiguous()
        self._sizes = Sizes(h.element_size() == 8, width, width, networks)
        self.rows = h.new_zeros((count, width))
        room = h.new_zeros(h.numel() + 16)  # u is gone over in whole vectors
        self.gradients = [torch.zeros_like(p) for p in attention.parameters()]
        self._common = {
            "P": steps * count, "H": width, "K": width, "T": steps, "N": count, "h": h,
            "weight": attention.weight, "vector": attention.vector, "seen": room[: h.numel()],
            "weights": h.new_zeros((steps, count)), "zero": torch.zeros(1, dtype=torch.int64),
            **self._sizes.functions(),
        }  # fmt: skip
        packed = h.new_zeros(self._sizes.packed * width)
        self.forward = attend(self._sizes).noted(
            bias=attention.bias, packed=packed, rows=self.rows, ends=ends, **self._common
        )

    def send_back(self, d_rows: Tensor, d_h: Tensor | None) -> Noted:
        """The gradients, and the errors of the states.

        Args:
            d_rows: (N, H), dr.
            d_h: (T, N, H), where dh is written; None where nobody reads it.
        """
        count, width = self._common["P"], self._common["H"]
        assert isinstance(count, int)
        assert isinstance(width, int)
        d_weight, d_bias, d_vector = self.gradients
        return attend_back(self._sizes).noted(
            d_rows=d_rows, d_h=0 if d_h is None else d_h, d_weight=d_weight, d_bias=d_bias,
            d_vector=d_vector, errors=d_rows.new_zeros(count),
            panels=d_rows.new_zeros((count, self._sizes.wide)),
            sums=d_rows.new_zeros((width + 1, self._sizes.wide)),
            where=torch.arange(0, count * width, width), **self._common,
        )  # fmt: skip


@functools.cache
def attend(sizes: Sizes) -> Compiled:
    """From h to u, to a in ``weights`` (T, N), to r in ``rows`` (N, H)."""
    names = "P H K T N h weight bias packed seen zero pack drive vector weights rows ends"
    code = _Writing("longlag_attend", names, sizes)
    b, arg, zero = code.b, code.arg, code.i64(0)
    code.product("weight", "packed", "h", "H", "bias", "seen")
    h, seen, vector, weights, rows = map(code.numbers, ("h", "seen", "vector", "weights", "rows"))
    with code.loop(zero, code.times(arg["P"], arg["K"]), code.lanes) as k:
        place = code.at(seen, k)
        code.store(math.emit(b, "tanh", code.load(place)), place)
    with code.loop(zero, arg["P"]) as p:
        score = code.dot(vector, code.at(seen, code.times(p, arg["H"])))
        b.store(score, code.at(weights, p))
    code.each_sequence(functools.partial(_softmax, code))

    def gather(v: Value, start: Value) -> None:
        # What a vector shares with the one before it is begun, and added up, once more.
        target = code.at(rows, start)
        with code.loop(zero, arg["N"]) as n:
            code.store(code.zero(), code.at(target, code.times(n, arg["H"])))
        with code.rows() as (n, p):
            place = code.at(target, code.times(n, arg["H"]))
            own = code.load(code.at(h, code.times(p, arg["H"]), start))
            weight = code.splat(code.read(weights, p))
            code.store(code.fma(weight, own, code.load(place)), place)

    code.each_vector(gather)
    return code.finish()


@functools.cache
def attend_back(sizes: Sizes) -> Compiled:
    """From dr in ``d_rows`` (N, H) to ds in ``errors`` (T, N), to the gradients and dh."""
    names = (
        "P H K T N h weight seen zero vector weights d_rows errors panels sums d_weight d_bias "
        "d_vector where d_h outer_input unpack_input send"
    )
    code = _Writing("longlag_attend_back", names, sizes)
    b, arg, zero, width = code.b, code.arg, code.i64(0), code.arg["H"]
    h, seen, vector, weights = map(code.numbers, ("h", "seen", "vector", "weights"))
    d_rows, errors, sums, d_vector, d_h = map(
        code.numbers, ("d_rows", "errors", "sums", "d_vector", "d_h")
    )
    v_ = Arithmetic(b, code.vector)

    def d_row(n: Value) -> Value:
        return code.at(d_rows, code.times(n, width))

    with code.rows() as (n, p):
        b.store(code.dot(d_row(n), code.at(h, code.times(p, width))), code.at(errors, p))
    code.each_sequence(functools.partial(_softmax_back, code))
    totals = [code.variable(code.vector) for _ in range(2)]

    def drives(v: Value, start: Value) -> None:
        for total in totals:
            b.store(code.zero(), total)
        own = code.load(code.at(vector, start))
        with code.loop(zero, arg["P"]) as p:
            error = code.splat(code.read(errors, p))
            u = code.load(code.at(seen, code.times(p, width), start))
            drive = v_.mul(v_.mul(error, own), v_.sub(1.0, v_.mul(u, u)))
            code.store(drive, code.place(v, p))
            for total, value in zip(totals, (v_.mul(error, u), drive), strict=True):
                b.store(b.fadd(b.load(total), value), total)
        last = code.times(width, sizes.wide)
        code.store(b.load(totals[0]), code.at(d_vector, start))
        code.store(b.load(totals[1]), code.at(sums, last, code.times(v, code.lanes)))

    code.each_vector(drives)
    code.outer("sums", "h", "H", "d_weight")
    with code.wanted():
        code.send()
        with code.rows() as (n, p):
            weight, row = code.splat(code.read(weights, p)), d_row(n)
            here = code.at(d_h, code.times(p, width))

            def add(v: Value, start: Value) -> None:
                value = b.fmul(weight, code.load(code.at(row, start)))
                value = b.select(code.fresh(v, start), value, code.zero())
                place = code.at(here, start)
                code.store(b.fadd(code.load(place), value), place)

            code.each_vector(add)
    return code.finish()


class _Writing(Products):
    """One of the two under construction."""

    @contextmanager
    def rows(self) -> Iterator[tuple[Value, Value]]:
        """The loop over steps of sequences: the number of the sequence, and of the row."""
        zero = self.i64(0)
        with self.loop(zero, self.arg["T"]) as t, self.loop(zero, self.arg["N"]) as n:
            yield n, self.plus(self.times(t, self.arg["N"]), n)

    def dot(self, one: Value, other: Value) -> Value:
        """The product of two rows of H numbers."""
        b, total = self.b, self.variable(self.vector)
        b.store(self.zero(), total)

        def add(v: Value, start: Value) -> None:
            value = b.fmul(*(self.load(self.at(row, start)) for row in (one, other)))
            value = b.select(self.fresh(v, start), value, self.zero())
            b.store(b.fadd(b.load(total), value), total)

        self.each_vector(add)
        return self.total_over(b.load(total))

    def each_sequence(self, body: Callable[["_Steps"], None]) -> None:
        """Sequences as vectors, and then one by one."""
        count = self.arg["N"]
        whole = self.b.and_(count, self.i64(-self.lanes))
        for first, stop, wide in ((self.i64(0), whole, True), (whole, count, False)):
            with self.loop(first, stop, self.lanes if wide else 1) as n:
                body(_Steps(self, n, wide))


class _Steps:
    """A number of each step of one sequence, or of a vector of sequences.

    Attributes:
        v: arithmetic on them.
    """

    def __init__(self, code: _Writing, n: Value, wide: bool) -> None:
        self._code, self._n, self._wide = code, n, wide
        self.v = Arithmetic(code.b, code.vector if wide else code.scalar)

    def sum_over(self, body: Callable[[Value], Value]) -> Value:
        """The sum of body(t) over the steps."""
        return self.fold(self.v.value(0.0), lambda total, t: self.v.add(total, body(t)))

    def fold(self, first: Value, body: Callable[[Value, Value], Value]) -> Value:
        """What body(value before, t) makes of a value, step after step."""
        b, place = self._code.b, self._code.variable(self.v.type)
        b.store(first, place)
        with self._code.loop(self._code.i64(0), self._code.arg["T"]) as t:
            b.store(body(b.load(place), t), place)
        return b.load(place)

    def read(self, base: Value, t: Value) -> Value:
        """The number of a step, of (T, N)."""
        place = self._place(base, t)
        return self._code.load(place) if self._wide else self._code.b.load(place)

    def write(self, value: Value, base: Value, t: Value) -> None:
        """Put one there."""
        place = self._place(base, t)
        if self._wide:
            self._code.store(value, place)
        else:
            self._code.b.store(value, place)

    def counts(self, t: Value) -> Value:
        """Whether a step is before the end."""
        code, place = self._code, self._code.at(self._code.numbers("ends", I64), self._n)
        if not self._wide or code.networks > 1:  # networks have the same lengths
            return code.b.icmp_signed("<", t, code.b.load(place))
        vector = ir.VectorType(I64, code.lanes).as_pointer()
        ends = code.b.load(code.b.bitcast(place, vector), align=8)
        return code.b.icmp_signed("<", code.splat(t), ends)

    def _place(self, base: Value, t: Value) -> Value:
        return self._code.at(base, self._code.times(t, self._code.arg["N"]), self._n)


def _softmax(code: _Writing, steps: _Steps) -> None:
    """From s to a, in the same memory; all 0 of a sequence without a step."""
    v, weights = steps.v, code.numbers("weights")
    least = constant(v.type, -numbers.inf)

    def larger(known: Value, t: Value) -> Value:
        score = v.select(steps.counts(t), steps.read(weights, t), least)
        return v.select(v.less(known, score), score, known)

    largest = steps.fold(least, larger)

    def power(t: Value) -> Value:
        value = math.emit(code.b, "exp", v.sub(steps.read(weights, t), largest))
        value = v.select(steps.counts(t), value, 0.0)
        steps.write(value, weights, t)
        return value

    inverse = v.div(1.0, v.at_least(1.0, steps.sum_over(power)))  # 1 is the largest of them
    with code.loop(code.i64(0), code.arg["T"]) as t:
        steps.write(v.mul(steps.read(weights, t), inverse), weights, t)


def _softmax_back(code: _Writing, steps: _Steps) -> None:
    """From g to ds, in the same memory."""
    v, weights, errors = steps.v, code.numbers("weights"), code.numbers("errors")

    def share(t: Value) -> Value:
        return v.mul(steps.read(weights, t), steps.read(errors, t))

    mean = steps.sum_over(share)
    with code.loop(code.i64(0), code.arg["T"]) as t:
        beyond = v.sub(steps.read(errors, t), mean)
        steps.write(v.mul(steps.read(weights, t), beyond), errors, t)
