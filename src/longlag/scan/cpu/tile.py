"""Register tiles of matrix products: sums in registers, from vectors times single numbers."""

from collections.abc import Callable, Sequence

from longlag.scan.cpu.builder import Code, Value

LONG = 8
"""Multiply-adds of a step that is not unrolled."""


class Tile:
    """rows x vectors sums of vectors, each in as many chains as hide the latency of fma.

    Args:
        code: where the instructions go.
        rows, vectors, chains: its size.
    """

    def __init__(self, code: Code, rows: int, vectors: int, chains: int = 1) -> None:
        self.code, self.chains = code, chains
        self.places = [
            [[code.variable(code.vector) for _ in range(chains)] for _ in range(vectors)]
            for _ in range(rows)
        ]

    def begin(self, start: Callable[[int, int], Value]) -> None:
        """Set the sums: (row, vector) to what is added to."""
        for r, by_vector in enumerate(self.places):
            for v, chains in enumerate(by_vector):
                for c, chain in enumerate(chains):
                    self.code.b.store(start(r, v) if c == 0 else self.code.zero(), chain)

    def add(
        self,
        vectors: Sequence[Value],
        numbers: Sequence[Value],
        chain: int = 0,
        places: Sequence[int] | None = None,
    ) -> None:
        """Add every number times every vector.

        Args:
            vectors: the vectors.
            numbers: their addresses, by row.
            chain: the one that is added to.
            places: to which of a row's sums each vector belongs; None for all in order.
        """
        code = self.code
        for by_vector, address in zip(self.places, numbers, strict=True):
            number = code.splat(code.b.load(address))
            wanted = by_vector if places is None else [by_vector[place] for place in places]
            for chains, vector in zip(wanted, vectors, strict=True):
                place = chains[chain]
                code.b.store(code.fma(vector, number, code.b.load(place)), place)

    def add_product(self, row: int, v: int, x: Value, y: Value, chain: int = 0) -> None:
        """Add the product of two vectors to one of the sums."""
        place = self.places[row][v][chain]
        self.code.b.store(self.code.fma(x, y, self.code.b.load(place)), place)

    def add_sum(self, row: int, v: int, value: Value) -> None:
        """Add a vector to one of the sums."""
        place = self.places[row][v][0]
        self.code.b.store(self.code.b.fadd(value, self.code.b.load(place)), place)

    def stretch(
        self, first: Value, stop: Value, step: Callable[[Value, int], None], long: int = LONG
    ) -> None:
        """The loop over k from first to stop: step(k, chain) adds the terms of k.

        It is unrolled where a step has fewer than ``long`` multiply-adds. Of a long one the
        counting is hidden, and each copy would have to be compiled.
        """
        code, unroll = self.code, self.chains
        if unroll == 1 and len(self.places) * len(self.places[0]) < long:
            unroll = 2
        whole = stop
        if unroll > 1:
            whole = code.b.sub(stop, code.b.and_(code.b.sub(stop, first), code.i64(unroll - 1)))
        with code.loop(first, whole, unroll) as k:
            for offset in range(unroll):
                step(code.plus(k, offset), offset % self.chains)
        if unroll > 1:
            with code.loop(whole, stop) as k:
                step(k, 0)

    def totals(self) -> list[list[Value]]:
        """The sums, by row and vector."""
        return [[self._total(chains) for chains in by_vector] for by_vector in self.places]

    def _total(self, chains: list[Value]) -> Value:
        parts: list[Value] = [self.code.b.load(chain) for chain in chains]
        while len(parts) > 1:
            parts = [self.code.b.fadd(*parts[i : i + 2]) for i in range(0, len(parts), 2)]
        return parts[0]
