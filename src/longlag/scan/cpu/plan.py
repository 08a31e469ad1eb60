"""What one kernel is compiled for, and how its register tile is chosen."""

import functools
from dataclasses import dataclass

from longlag.scan.cpu.target import Host

__all__ = ["Plan", "choose"]

L1, L2 = 32 << 10, 1 << 20
"""Bytes of cache that the weights of a block of units may fill; less than processors have."""


@dataclass(frozen=True)
class Plan:
    """A kernel's compile-time facts. H, N and T are not among them: they come with each call.

    Attributes:
        double: float64, else float32.
        lanes: numbers in a vector.
        rows: sequences in a tile.
        vectors: vectors of units in a tile.
        chains: accumulators per tile element, to hide the latency of fma in small tiles.
        ragged_units: whether H is no multiple of the tile's units, so the last tile is masked.
        ragged_lanes: whether H is no multiple of the lanes.
        lengths, keep, mask: whether the schedule has these.
    """

    double: bool
    lanes: int
    rows: int
    vectors: int
    chains: int
    ragged_units: bool
    ragged_lanes: bool
    lengths: bool
    keep: bool
    mask: bool

    @property
    def units(self) -> int:
        """Units in a tile."""
        return self.lanes * self.vectors


@functools.lru_cache(maxsize=4096)
def choose(
    host: Host,
    products: int,
    batch: int,
    hidden: int,
    threads: int,
    *,
    double: bool,
    lengths: bool,
    keep: bool,
    mask: bool,
) -> Plan:
    """Choose the register tile: accumulators for as many rows and units as registers hold.

    The cost of a tile is counted in cycles of a processor that does two fused multiply-adds and two
    loads a cycle. Weights that do not stay in the first cache cost more to load, and a tile of more
    rows loads them less often.

    Args:
        host: the processor.
        products: accumulators that each row and unit vector needs: the dense gates in a forward
            step, 1 for the product that sends error back.
        batch: N.
        hidden: H.
        threads: how many threads share the rows.
        double: float64.
        lengths, keep, mask: whether the schedule has these.
    """
    item = 8 if double else 4
    lanes = host.lanes(item)
    room = host.registers - (8 if host.registers > 16 else 4)  # the rest are operands
    needed = -(-hidden // lanes)
    products = max(1, products)

    def cost(rows: int, vectors: int) -> float:
        tiles = -(-batch // rows)
        row_tiles = -(-tiles // threads)
        unit_tiles = -(-needed // vectors)
        accumulators = rows * vectors * products
        weights = hidden * vectors * products * lanes * item
        per_weight = 0.5 if weights <= L1 else 1.3 if weights * unit_tiles <= L2 else 3.0
        loads = vectors * products * (0.5 if row_tiles > 1 and weights <= L1 else per_weight)
        cycles = max(0.5 * accumulators, loads + 0.5 * rows)
        cycles = max(cycles, 4.0 / _chains(accumulators, room))  # the latency of one fma
        overhead = 20.0 + 8.0 * rows * vectors  # the update, and beginning a tile
        return row_tiles * unit_tiles * (hidden * cycles + overhead)

    tiles = [
        (rows, vectors)
        for rows in range(1, min(8, max(1, batch)) + 1)
        for vectors in range(1, min(8, max(1, needed)) + 1)
        if rows * vectors * products <= max(room, products)
    ]
    rows, vectors = min(tiles, key=lambda tile: cost(*tile))
    return Plan(
        double=double,
        lanes=lanes,
        rows=rows,
        vectors=vectors,
        chains=_chains(rows * vectors * products, room),
        ragged_units=hidden % (lanes * vectors) != 0,
        ragged_lanes=hidden % lanes != 0,
        lengths=lengths,
        keep=keep,
        mask=mask,
    )


def _chains(accumulators: int, room: int) -> int:
    chains = 1
    while chains < 4 and accumulators * chains < 8 and accumulators * chains * 2 <= room:
        chains *= 2
    return chains
