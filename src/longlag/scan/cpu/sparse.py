"""Sparse recurrent matrices: what each vector of units reads, in one of four forms.

"slots": a slot has for each unit of a vector one column and one number of W. A vector of units has
as many slots as the unit that reads most; where others have fewer, the number is zero.

"windows": the same, but all columns of a slot lie within as many columns as a vector has numbers,
so that a slot reads one vector, and one instruction puts its numbers where they are wanted. There
are more slots, each of a fraction of the time.

"triples": windows on as many columns as two vectors have numbers, three of them on the same, for
processors with one instruction that takes numbers from two vectors.

"turned": for a tile of many rows. Its rows are side by side for each unit, and every entry of W is
one number for a vector of rows: nothing is gathered, and no number is a zero that fills up. These
are slots for vectors of one unit.

The product with W^T has slots of its own, in which a unit has the rows that read it.
"""

import functools
import weakref
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from llvmlite import ir
from torch import Tensor

from longlag.scan.connections import Entries
from longlag.scan.cpu.builder import I64, PERMUTES, PERMUTES_OF_TWO, Code, Value
from longlag.scan.cpu.plan import Form
from longlag.scan.cpu.tile import Tile


class Slots(NamedTuple):
    """The slots of all wires, of the product with W or with W^T.

    Attributes:
        heads: (W vectors + 1,), by wire and vector of units the number of its first slot; of
            triples that of its first turn, and behind them for each turn the first columns of its
            two triples, of 32 bits each.
        columns: (slots, lanes) of int32, which number of the other side is multiplied; of windows
            (slots / CHAINS, CHAINS + lanes / 2), their first columns, then by unit the places in
            them, of four bits each, CHAINS in 16 bits; of triples (turns, lanes) of whole numbers
            as wide as those of W, by unit six places of five bits each.
        entries: (slots, lanes), by which entry of W; E for none.
        places: (E,), of each entry, where in the slots it is; of windows none.
    """

    heads: Tensor
    columns: Tensor
    entries: Tensor
    places: Tensor

    def pack(self, values: Tensor) -> Tensor:
        """From the numbers (R, E) of W to those of the slots."""
        # Not by PyTorch's threads, which would keep their cores for some ten milliseconds more.
        numbers = values.detach().resolve_neg().numpy()
        padded = np.zeros((*numbers.shape[:-1], numbers.shape[-1] + 1), numbers.dtype)
        padded[..., :-1] = numbers
        # In memory of PyTorch, which begins with a cache line: so no vector lies in two of them.
        shape = (*numbers.shape[:-1], self.entries.numel())
        packed = torch.empty(shape, dtype=values.dtype, device="cpu")
        padded.take(self.entries.numpy().ravel(), -1, out=packed.numpy(), mode="clip")
        return packed


CHAINS = 4
"""Windows that are added up side by side; a vector of units has whole turns of so many."""

TURN = 6
"""Windows of two triples, whose places are in one whole number."""

SHARE = 2.5
"""Windows are taken while there are no more than so many for each slot."""

_KEPT: "weakref.WeakKeyDictionary[Entries, dict[tuple[Form, int, bool], Slots]]"
_KEPT = weakref.WeakKeyDictionary()


def slots_of(entries: Entries, form: Form, lanes: int, back: bool) -> Slots:
    """The slots for vectors of so many units: made at their first use, and kept.

    Args:
        entries: of W.
        form: see the module.
        lanes: units in a vector; the last vector of a wire overlaps the one before it.
        back: of the product with W^T.
    """
    kept = _KEPT.setdefault(entries, {})
    key = (form, lanes, back)
    if key not in kept:
        if form == "triples":
            kept[key] = _triples(entries, lanes, back)
        elif form == "windows":
            kept[key] = _windows(entries, lanes, back)
        else:
            kept[key] = _slots(entries, 1 if form == "turned" else lanes, back)
    return kept[key]


def form_of(entries: Entries, double: bool, lanes: int) -> Form:
    """The faster form of slots for few rows."""
    numbers = (8 if double else 4, lanes)
    if numbers not in PERMUTES:
        return "slots"
    windows: Form = "windows"
    if numbers in PERMUTES_OF_TWO and entries.hidden >= 2 * lanes:
        windows = "triples"
    some, slots = (
        len(slots_of(entries, form, lanes, False).entries) for form in (windows, "slots")
    )
    return windows if some <= SHARE * slots else "slots"


def _lines(entries: Entries, lanes: int, back: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """By line its number of entries, by vector its lines, and column and number of each entry."""
    hidden = entries.hidden
    lines, columns = entries.rows, entries.indices
    order = torch.arange(len(columns), device="cpu")  # whatever the default device is
    if back:  # a line is a column of a wire
        lines, columns = lines // hidden * hidden + columns, lines % hidden
        order = lines.argsort(stable=True)
        lines, columns = lines[order], columns[order]
    total = len(entries.indptr) - 1
    starts = torch.arange(0, hidden, lanes, device="cpu").clamp(max=hidden - lanes)
    first = torch.arange(0, total, hidden, device="cpu").unsqueeze(-1) + starts
    vectors = first.flatten().unsqueeze(-1) + torch.arange(lanes, device="cpu")
    return torch.bincount(lines, minlength=total), vectors, columns, order


def _slots(entries: Entries, lanes: int, back: bool) -> Slots:
    by_line, vectors, columns, order = _lines(entries, lanes, back)
    count = len(order)
    begins = by_line.cumsum(0) - by_line
    lengths = by_line[vectors].amax(-1)
    heads = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    arange = functools.partial(torch.arange, device="cpu")
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


def _places(
    entries: Entries, lanes: int, back: bool, width: int, together: int, turn: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Windows from left to right: each begins at the first column that a unit of the vector still
    wants, and gives every unit the next of its columns that lies in it.

    Args:
        entries, lanes, back: as of :func:`slots_of`.
        width: columns of a window.
        together: how many begin at the same column.
        turn: of how many a vector of units has a multiple.

    Returns:
        By window of all vectors of units its first column, and by unit places in it and entries;
        and the number of the first of each vector.
    """
    by_line, vectors, columns, order = _lines(entries, lanes, back)
    count, beyond = len(order), entries.hidden
    columns = torch.cat([columns, columns.new_full((1,), beyond)])
    order = torch.cat([order, order.new_full((1,), count)])
    next_, stop = (by_line.cumsum(0) - by_line)[vectors], by_line.cumsum(0)[vectors]
    rounds: list[tuple[Tensor, ...]] = []
    while True:
        at = torch.where(next_ < stop, next_, count)
        wanted = columns[at]
        first = wanted.amin(-1)
        more = first < beyond
        if not more.any() and rounds and len(rounds) % turn == 0:
            break
        first = first.clamp(max=beyond - width)
        for _ in range(together):
            at = torch.where(next_ < stop, next_, count)
            place = columns[at] - first.unsqueeze(-1)
            inside = (place < width) & (at < count)
            rounds.append((more, first, place.where(inside, 0), order[at.where(inside, count)]))
            next_ = next_ + inside
    more, first, place, chosen = (torch.stack(part, 1) for part in zip(*rounds, strict=True))
    turns = more.unflatten(-1, (-1, turn)).any(-1)
    more = turns.repeat_interleave(turn, -1)
    heads = torch.cat([first.new_zeros(1), more.sum(-1).cumsum(0)])
    return first[more], place[more], chosen[more], heads


def _words(place: Tensor, turn: int, bits: int) -> Tensor:
    """By turn and unit, the places of all its windows in one whole number."""
    shifts = bits * torch.arange(turn, device="cpu").unsqueeze(-1)
    return (place.unflatten(0, (-1, turn)) << shifts).sum(1)


def _windows(entries: Entries, lanes: int, back: bool) -> Slots:
    first, place, chosen, heads = _places(entries, lanes, back, lanes, 1, CHAINS)
    words = _words(place, CHAINS, 4)
    pairs = words.where(words < 1 << 15, words - (1 << 16)).short().view(torch.int32)
    columns = torch.cat([first.int().unflatten(0, (-1, CHAINS)), pairs], -1)
    return Slots(heads, columns, chosen, entries.places[:0])


def _triples(entries: Entries, lanes: int, back: bool) -> Slots:
    first, place, chosen, heads = _places(entries, lanes, back, 2 * lanes, TURN // 2, TURN)
    firsts = first.unflatten(0, (-1, 2, TURN // 2))[..., 0]
    words = _words(place, TURN, 5)
    columns = words.int() if lanes == 16 else words  # as wide as the numbers of 64 bytes
    heads = torch.cat([heads // TURN, firsts[:, 0] | firsts[:, 1] << 32])
    return Slots(heads, columns, chosen, entries.places[:0])


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
    code: Code, tile: Tile, slots: tuple[Value, Value], vector: Value, weights: Value,
    bases: Sequence[Value],
) -> None:  # fmt: skip
    """Add to the sums of a tile of one vector the products of a vector of units.

    Args:
        code: where the instructions go.
        tile: the sums.
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
            tile.add_product(r, 0, numbers, _gathered(code, base, offsets))


def add_windows(
    code: Code, tile: Tile, slots: tuple[Value, Value], vector: Value, weights: Value,
    bases: Sequence[Value],
) -> None:  # fmt: skip
    """As :func:`add_slots`, of windows."""
    heads, columns = slots
    kind = ir.VectorType(ir.IntType(16), code.lanes).as_pointer()
    with code.loop(*_range(code, heads, vector), CHAINS) as slot:
        turn = code.b.lshr(slot, code.i64(CHAINS.bit_length() - 1))
        here = code.at(columns, code.times(turn, CHAINS + code.lanes // 2))
        words = code.b.load(code.b.bitcast(code.at(here, code.i64(CHAINS)), kind), align=4)
        places = code.b.zext(words, code.places)
        for n in range(CHAINS):
            first = code.b.sext(code.b.load(code.at(here, code.i64(n))), I64)
            numbers = code.load(code.at(weights, code.times(code.plus(slot, n), code.lanes)))
            for r, base in enumerate(bases):
                read = code.permuted(code.load(code.at(base, first)), places, 4 * n)
                tile.add_product(r, 0, numbers, read, n % tile.chains)


def add_triples(
    code: Code, tile: Tile, slots: tuple[Value, Value], vector: Value, weights: Value,
    bases: Sequence[Value], vectors: Value,
) -> None:  # fmt: skip
    """As :func:`add_slots`, of triples; ``vectors`` is how many all wires have."""
    heads, columns = slots
    words = code.b.bitcast(columns, code.places.as_pointer())
    firsts = code.at(heads, code.plus(vectors, 1))
    with code.loop(*_range(code, heads, vector)) as turn:
        places = code.b.load(code.b.gep(words, [turn]), align=4)
        both = code.b.load(code.at(firsts, turn))
        at = code.times(turn, TURN * code.lanes)
        for triple in range(2):
            first = code.b.and_(both, code.i64((1 << 32) - 1))
            if triple:
                first = code.b.lshr(both, code.i64(32))
            for r, base in enumerate(bases):
                here = code.at(base, first)
                pair = code.load(here), code.load(code.at(here, code.i64(code.lanes)))
                for n in range(3 * triple, 3 * triple + 3):
                    numbers = code.load(code.at(weights, code.plus(at, n * code.lanes)))
                    read = code.permuted_pair(*pair, places, 5 * n)
                    tile.add_product(r, 0, numbers, read, n % tile.chains)


def add_turned(
    code: Code, tile: Tile, slots: tuple[Value, Value], line: Value, weights: Value, base: Value,
    rows: int,
) -> None:  # fmt: skip
    """As :func:`add_slots`, of a tile whose rows stand side by side for each unit.

    Args:
        code, tile, slots, weights: as there.
        line: the number of the first unit among those of all wires.
        base: the address of the numbers that are multiplied, (H, rows).
        rows: of the tile, a multiple of the lanes.
    """
    heads, columns = slots
    lanes, parts = code.lanes, rows // code.lanes
    sums = code.entry_builder.alloca(code.vector, lanes * parts)
    with code.loop(code.i64(0), code.i64(lanes)) as unit:
        line_sums = Tile(code, 1, parts, 4)
        line_sums.begin(lambda r, v: code.zero())

        def step(entry: Value, chain: int) -> None:
            column = code.b.sext(code.b.load(code.at(columns, entry)), I64)
            read = code.at(base, code.times(column, rows))
            places = [code.at(read, code.i64(part * lanes)) for part in range(parts)]
            vectors = [code.load(place) for place in places]
            line_sums.add(vectors, [code.at(weights, entry)], chain)

        line_sums.stretch(*_range(code, heads, code.plus(line, unit)), step)
        for part, total in enumerate(line_sums.totals()[0]):
            code.b.store(total, code.b.gep(sums, [code.plus(unit, part * lanes)]))
    for part in range(parts):
        place = part * lanes
        by_unit = [code.b.load(code.b.gep(sums, [code.i64(place + n)])) for n in range(lanes)]
        for lane, total in enumerate(code.turned(by_unit)):
            tile.add_sum(place + lane, 0, total)


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
