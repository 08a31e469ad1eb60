"""What one kernel is compiled for, and how its register tile is chosen."""

import functools
import math
from dataclasses import dataclass, replace
from typing import Literal

from longlag.scan.cpu.target import Host

L1, L2 = 28 << 10, 400 << 10
"""Bytes of weights that stay in the first and second cache; less than processors have."""

MOST_ROWS, MOST_VECTORS = 16, 8

SPARSE_ROWS = 4
"""Sequences in a tile of a sparse W, whose addresses have to be in registers beside the columns."""

SPARSE_VECTORS = 4
"""Vectors in such a tile of one sequence: their updates go on at the same time."""

FEW = 4
"""Sequences of a thread below which U x + b is a product over steps, before the scan; and the sums
of each drive are a tile of their own."""

KNOWN = 4
"""Vectors of units up to which a kernel is compiled for exactly H, where they are full: addresses
are then constants, of which a short step has as many as multiply-adds."""

Input = Literal["drive", "folded", "apart"]

Form = Literal["slots", "windows", "triples", "turned"]
"""Of a sparse W; see :mod:`longlag.scan.cpu.sparse`."""

FEW_ROWS: dict[Form, int] = {"slots": 2, "windows": 4, "triples": 4}
"""Forms of a sparse W, and the sequences of a thread up to which they are faster than "turned"."""


@dataclass(frozen=True)
class Plan:
    """A kernel's compile-time facts. N and T are not among them, nor is H but where it is small:
    they come with each call.

    Attributes:
        double: float64, else float32.
        lanes: numbers in a vector: no more than H, so that a last vector can overlap the one
            before it, and nothing is ever masked.
        rows: sequences in a tile.
        vectors: vectors of units in a tile.
        chains: accumulators per tile element, to hide the latency of fma in small tiles.
        input: "drive" where a = U x + b is given; "folded" where U x is summed up with W h; "apart"
            where it is a product over steps of its own, as fits one or few sequences, for which a
            step reads all weights for little work.
        ordered: whether sequences have lengths: the kernel then takes them in an order of its own.
        keep: whether there are resets.
        mask: whether there is a recurrent dropout mask.
        sparse: in which form a sparse W is; None for a dense one.
        dilated: whether steps read the states of several steps before, a number of the call, which
            for the first of them lie elsewhere; the last step may have fewer rows.
        arm: see :class:`~longlag.scan.cpu.target.Host`.
        fed: whether the last features of x are a linear function of the output before the step.
        rests: whether groups of units rest between the ticks of their clocks.
        remembers: whether sums of products with W are kept from step to step, by what comes from
            groups of units that may rest longer, so that a step adds up what has changed.
        gathers: whether errors are added up, backward, as long as what their drives read rests.
        rows_first: whether a step takes all units of a tile of rows before the next tile: tiles of
            units that rest, which wait for memory, then alternate with those of others.
        team: whether threads share the units of all rows, and meet after every stage; else each
            has rows of its own.
        abreast: of how many vectors the pointwise programs go on at the same time.
        even: whether all tiles of rows are full in every step.
        fused: whether the sums of all drives of a stage are in registers at once, so that what is
            read of a row serves all; else those of one drive are, in a larger tile.
        hidden: H, where it is known when the kernel is compiled; else 0.
        networks: whose numbers lie side by side (:class:`~longlag.scan.cpu.builder.Code`).
        ahead: whether the tiles of a block of units ask for the weights of the next one, as all
            weights of a step do not stay in the second cache.
        halves: whether W, rounded to bfloat16, is kept so: two numbers in a word, of units of two
            vectors; else as it is.
        placed: whether a table says where the rows of x lie; else they are equally far apart.
    """

    double: bool
    lanes: int
    rows: int
    vectors: int
    chains: int
    input: Input = "drive"
    ordered: bool = False
    keep: bool = False
    mask: bool = False
    sparse: Form | None = None
    dilated: bool = False
    arm: bool = False
    fed: bool = False
    rests: bool = False
    remembers: bool = False
    gathers: bool = False
    rows_first: bool = False
    team: bool = False
    abreast: int = 1
    even: bool = False
    fused: bool = False
    hidden: int = 0
    networks: int = 1
    ahead: bool = False
    halves: bool = False
    placed: bool = False

    @property
    def units(self) -> int:
        """Units in a tile."""
        return self.lanes * self.vectors

    @property
    def packed(self) -> int:
        """Words that a number of the state is multiplied with in a tile of a dense W."""
        return self.units // 2 if self.halves else self.units

    @property
    def indirect(self) -> bool:
        """Whether W reads a prepared copy of the state: reset and dropped out, or turned."""
        return self.keep or self.mask or self.sparse == "turned"

    def blocks(self, hidden: int) -> int:
        """How many tiles cover H units."""
        return -(-hidden // self.units)


def lanes_of(host: Host, hidden: int, double: bool, networks: int = 1) -> int:
    """Numbers in a vector of H units: what the processor has, but no more than H; one, where the
    numbers of several networks lie side by side."""
    if networks > 1:
        return 1
    return min(host.lanes(8 if double else 4), 1 << (hidden.bit_length() - 1))


@functools.lru_cache(maxsize=4096)
def choose(
    host: Host,
    batch: int,
    hidden: int,
    threads: int,
    *,
    double: bool,
    products: int = 1,
    drives: int = 1,
    together: int = 1,
    kept: int = 0,
    has_input: bool = False,
    ordered: bool = False,
    keep: bool = False,
    mask: bool = False,
    sparse: Form | None = None,
    dilated: bool = False,
    ragged: bool = False,
    turns: bool = True,
    periods: tuple[int, ...] = (),
    networks: int = 1,
    bfloat16: bool = False,
    placed: bool = False,
) -> Plan:
    """Choose the register tile: accumulators for as many rows and units as registers hold.

    The cost of a tile is counted in cycles of a processor that does two fused multiply-adds and two
    loads a cycle. Weights that do not stay in the first cache cost more to load, and are then there
    for all tiles of rows of that step.

    Args:
        host: the processor.
        batch: N.
        hidden: H, at least 1.
        threads: how many threads share the rows.
        double: float64.
        products: how many matrices (H, H) a step reads.
        drives: how many sums of products a stage has.
        together: to how many of them a number is added at the same time.
        kept: how many sums of a tile are there already while its last one is added up.
        has_input: whether there is an input matrix U.
        ordered, keep, mask, dilated, placed: see :class:`Plan`.
        ragged: whether the last step has fewer rows than the others.
        sparse: the form for few rows of a sparse W; for more it is "turned".
        turns: whether it may be.
        periods: of equal groups of units that rest between the multiples of them. A tile is then of
            one group, where a vector is; and inputs are multiplied in the steps that take them.
        networks: see :class:`Plan`.
        bfloat16: whether W is rounded to that type. It is kept so for few rows, where reading it is
            what takes the time, and no unit rests.
    """
    item = (8 if double else 4) * networks
    lanes = lanes_of(host, hidden, double, networks)
    needed = -(-hidden // lanes)
    size = hidden * hidden * item * max(1, products)
    few = batch < FEW * threads
    fused = 1 < drives < host.registers and not sparse and not few
    halves = bfloat16 and few and needed > 1 and not periods
    sums, at_once = (drives, together) if fused else (1, 1)
    size = size // 2 if halves else size
    far = 0.0 if size <= L1 else 0.7 if size <= L2 else 2.0

    def fits(accumulators: int, rows: int, vectors: int) -> bool:
        # Beside the accumulators, a vector of weights each and a number; weights that are used
        # once are read from memory by the multiply-add itself.
        if halves:  # those of two vectors come of one word, and LLVM keeps the sums before
            needs = accumulators + kept * rows * vectors + vectors + 2
            return accumulators == 2 or needs <= host.registers
        operands = 1 + (vectors * at_once if rows > 1 else 0)
        return accumulators * sums + operands <= host.registers

    def within(vectors: int) -> bool:
        return vectors == 1 or not periods or hidden // len(periods) % (vectors * lanes) == 0

    def abreast(rows: int) -> bool:
        return not fused or rows < 4 or rows % 4 == 0 or rows % 3 == 0

    def chains_of(rows: int, vectors: int) -> int:
        chains = 1
        while chains < 4 and rows * vectors * sums * chains < 8:
            if not fits(rows * vectors * chains * 2, rows, vectors):
                break
            chains *= 2
        return chains

    def cost(rows: int, vectors: int) -> float:
        row_tiles = math.ceil(math.ceil(batch / rows) / threads)
        unit_tiles = -(-needed // vectors)
        accumulators = rows * vectors * sums
        read = hidden * vectors * sums * lanes * item
        # Of all gates at once, from the second cache, they take longer than their multiply-adds.
        near = 0.0 if read <= L1 else 1.5 if fused and read > 2 * L1 else 0.3
        loads = vectors * sums * (0.5 + near + far / max(1, row_tiles)) + 0.5 * rows
        cycles = max(0.5 * accumulators, loads, 4.0 / chains_of(rows, vectors))
        overhead = 30.0 + 8.0 * accumulators  # beginning a tile, and the update
        return row_tiles * unit_tiles * (hidden * (cycles + 0.2) + overhead)

    tiles = [
        (rows, vectors)
        for rows in range(1, min(SPARSE_ROWS if sparse else MOST_ROWS, max(1, batch)) + 1)
        for vectors in range(1, min(1 if sparse or fused else MOST_VECTORS, needed) + 1)
        if fits(rows * vectors, rows, vectors) and within(vectors) and abreast(rows)
        if not halves or vectors % 2 == 0
    ]

    # Of equals the squarest; but of several matrices few weights stay in the first cache from one
    # tile of rows to the next.
    several = products > 1 and not (fused or sparse) and not few

    def shape(rows: int, vectors: int) -> int:
        return vectors if several else abs(rows - vectors)

    rows, vectors = min(tiles, key=lambda tile: (cost(*tile), shape(*tile)))
    source: Input = "drive"
    moving = sum(1 / period for period in periods) / len(periods) if periods else 1.0
    if has_input:
        apart = networks == 1 and not (ordered or ragged) and few
        source = "apart" if apart and moving > 0.5 else "folded"
    chains = chains_of(rows, vectors)
    if sparse:
        vectors = min(needed, max(1, SPARSE_VECTORS // rows))
    if sparse and turns and math.ceil(batch / threads) > FEW_ROWS[sparse]:
        # Two vectors of rows take half as long again as one.
        one, two = (math.ceil(math.ceil(batch / (lanes * n)) / threads) for n in (1, 2))
        rows, chains, sparse = lanes if 2 * one <= 3 * two else 2 * lanes, 1, "turned"
        vectors = 1
    facts = (ordered, keep, mask, sparse, dilated, host.arm)
    small = lanes == host.lanes(item) and hidden % lanes == 0 and needed <= KNOWN
    plan = Plan(
        double, lanes, rows, vectors, chains, source, *facts,
        abreast=4 if host.registers >= 32 else 2,
        even=not (ordered or ragged) and batch % rows == 0,
        fused=fused,
        hidden=hidden if small or networks > 1 else 0,
        networks=networks,
        ahead=size > L2 and not sparse and batch >= 4 * rows * threads,
        halves=halves,
        placed=placed,
    )  # fmt: skip
    return replace(plan, rests=True, rows_first=moving * size <= L2) if periods else plan
