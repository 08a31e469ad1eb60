"""Sparse recurrent matrices: what each vector of units reads, one slot after the other.

A slot has for each unit of a vector one column and one number of W. A vector of units has as many
slots as the unit that reads most; where others have fewer, the number is zero. The product with W^T
has slots of its own, in which a unit has the rows that read it.
"""

import functools
import weakref
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from longlag.scan.connections import Entries
from longlag.scan.cpu.builder import I64, Code, Value
from longlag.scan.cpu.tile import Tile


class Slots(NamedTuple):
    """The slots of all wires, of the product with W or with W^T.

    Attributes:
        heads: (W vectors + 1,), by wire and vector of units the number of its first slot.
        columns: (slots, lanes) of int32, which number of the other side is multiplied.
        entries: (slots, lanes), by which entry of W; E for none.
        places: (E,), of each entry, where in the slots it is.
    """

    heads: Tensor
    columns: Tensor
    entries: Tensor
    places: Tensor

    def pack(self, values: Tensor) -> Tensor:
        """From the numbers (R, E) of W to those of the slots."""
        padded = torch.cat([values, values.new_zeros((*values.shape[:-1], 1))], -1)
        return padded.index_select(-1, self.entries.flatten())


_KEPT: "weakref.WeakKeyDictionary[Entries, dict[tuple[int, bool], Slots]]"
_KEPT = weakref.WeakKeyDictionary()


def slots_of(entries: Entries, lanes: int, back: bool) -> Slots:
    """The slots for vectors of so many units: made at their first use, and kept.

    Args:
        entries: of W.
        lanes: units in a vector; the last vector of a wire overlaps the one before it.
        back: of the product with W^T.
    """
    kept = _KEPT.setdefault(entries, {})
    if (lanes, back) not in kept:
        kept[lanes, back] = _slots(entries, lanes, back)
    return kept[lanes, back]


def _slots(entries: Entries, lanes: int, back: bool) -> Slots:
    hidden, count = entries.hidden, len(entries.indices)
    lines, columns = entries.rows, entries.indices
    arange = functools.partial(torch.arange, device="cpu")  # whatever the default device is
    order = arange(count)
    if back:  # a line is a column of a wire
        lines, columns = lines // hidden * hidden + columns, lines % hidden
        order = lines.argsort(stable=True)
        lines, columns = lines[order], columns[order]
    total = len(entries.indptr) - 1
    by_line = torch.bincount(lines, minlength=total)
    begins = by_line.cumsum(0) - by_line
    starts = arange(0, hidden, lanes).clamp(max=hidden - lanes)
    first = arange(0, total, hidden).unsqueeze(-1) + starts
    vectors = first.flatten().unsqueeze(-1) + arange(lanes)  # the lines of each
    lengths = by_line[vectors].amax(-1)
    heads = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    vector = arange(len(lengths)).repeat_interleave(lengths)
    number = (arange(len(vector)) - heads[vector]).unsqueeze(-1)
    of_slot = vectors[vector]
    there = number < by_line[of_slot]
    place = torch.where(there, begins[of_slot] + number, 0)
    chosen = torch.where(there, order[place], count)
    places = torch.empty_like(entries.places)
    flat = there.flatten().nonzero().squeeze(-1)
    places[chosen.flatten()[flat]] = flat
    return Slots(heads, columns[place].int().masked_fill(~there, 0), chosen, places)


def _range(code: Code, heads: Value, vector: Value) -> tuple[Value, Value]:
    """The slots of a vector of units, by its number among those of all wires."""
    return code.b.load(code.at(heads, vector)), code.b.load(code.at(heads, code.plus(vector, 1)))


def _columns(code: Code, columns: Value, at: Value) -> list[Value]:
    """The columns of a slot, which begins at a place, as whole numbers."""
    loads = [code.b.load(code.at(columns, code.plus(at, n))) for n in range(code.lanes)]
    return [code.b.sext(load, I64) for load in loads]


def _gathered(code: Code, base: Value, offsets: list[Value]) -> Value:
    """The vector of the numbers that lie at offsets from an address."""
    vector = code.zero()
    for lane, offset in enumerate(offsets):
        number = code.b.load(code.at(base, offset))
        vector = code.b.insert_element(vector, number, code.i64(lane))
    return vector


def add_slots(
    code: Code, tile: Tile, v: int, slots: tuple[Value, Value], vector: Value, weights: Value,
    bases: Sequence[Value],
) -> None:  # fmt: skip
    """Add to vector v of a tile the products of a vector of units.

    Args:
        code: where the instructions go.
        tile: the sums.
        v: which of its vectors.
        slots: the addresses of heads and columns.
        vector: the number of the vector among those of all wires.
        weights: the address of the numbers of the slots.
        bases: by row, the address of the numbers that are multiplied.
    """
    heads, columns = slots
    with code.loop(*_range(code, heads, vector)) as slot:
        at = code.times(slot, code.lanes)
        numbers, offsets = code.load(code.at(weights, at)), _columns(code, columns, at)
        for r, base in enumerate(bases):
            tile.add_product(r, v, numbers, _gathered(code, base, offsets))


def add_products(
    code: Code, slots: tuple[Value, Value], vector: Value, sums: Value,
    panels: tuple[Value, Value, Value], rows: Value, hidden: Value,
) -> None:  # fmt: skip
    """To the sums of the slots of a vector of units: errors times what the slots read.

    Args:
        code: where the instructions go.
        slots: the addresses of heads and columns.
        vector: the number of the vector among those of all wires.
        sums: the address of the sums, (slots, lanes).
        panels: the addresses of the vector's errors (rows, lanes), and of all vectors of states, of
            the same shape, with how far apart these lie.
        rows: how many.
        hidden: H.
    """
    heads, columns = slots
    errors, states, apart = panels
    total, lanes = code.variable(code.vector), code.lanes
    with code.loop(*_range(code, heads, vector)) as slot:
        at = code.times(slot, lanes)
        offsets = []
        for column in _columns(code, columns, at):
            panel = code.b.udiv(column, code.i64(lanes))
            start = code.smaller(code.times(panel, lanes), code.plus(hidden, -lanes))
            offsets.append(code.b.add(code.times(panel, apart), code.b.sub(column, start)))
        code.b.store(code.load(code.at(sums, at)), total)
        with code.loop(code.i64(0), rows) as row:
            here = code.times(row, lanes)
            read = _gathered(code, code.at(states, here), offsets)
            product = code.fma(code.load(code.at(errors, here)), read, code.b.load(total))
            code.b.store(product, total)
        code.store(code.b.load(total), code.at(sums, at))
