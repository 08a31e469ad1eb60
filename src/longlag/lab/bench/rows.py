"""What is measured: one row is one network on one size of data."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

CELLS = ("elman", "lstm", "gru", "leaky", "own")
"""The cells by name; `own` is the leaky unit as a user declares it."""

PASSES = ("forward", "forward+backward")
"""Forward alone without gradients, and forward with the gradients of all parameters."""


@dataclass(frozen=True)
class Row:
    """One network on one size of data.

    Attributes:
        cell: one of :data:`CELLS`.
        batch, steps, features, hidden: N, T, C, H.
        ragged: lengths drawn uniformly from 1..T, instead of T for all.
        replicas: R independent networks, or None.
    """

    cell: str
    batch: int
    steps: int
    features: int
    hidden: int
    ragged: bool = False
    replicas: int | None = None

    @property
    def name(self) -> str:
        """The name by which a row is chosen.

        >>> Row("gru", 32, 784, 1, 128, ragged=True).name
        'gru-32x784x1x128-ragged'
        """
        sizes = "x".join(map(str, (self.batch, self.steps, self.features, self.hidden)))
        ragged = "-ragged" if self.ragged else ""
        replicas = "" if self.replicas is None else f"-replicas{self.replicas}"
        return f"{self.cell}-{sizes}{ragged}{replicas}"

    @property
    def sizes(self) -> str:
        """N, T, C, H and what else there is to say.

        >>> Row("elman", 1, 100, 2, 12, replicas=64).sizes
        '1, 100, 2, 12 (64 replicas)'
        """
        sizes = ", ".join(map(str, (self.batch, self.steps, self.features, self.hidden)))
        ragged = " (lengths 1..T)" if self.ragged else ""
        return sizes + (ragged if self.replicas is None else f" ({self.replicas} replicas)")


_SIZES = (
    (1, 1000, 16, 16),
    (32, 64, 15, 16),
    (32, 100, 64, 64),
    (32, 784, 1, 128),
    (64, 256, 128, 256),
    (32, 100, 101, 512),
)

ROWS = (
    *(Row(cell, *sizes) for cell in CELLS for sizes in _SIZES),
    *(Row(cell, 32, 784, 1, 128, ragged=True) for cell in ("elman", "lstm", "gru")),
    Row("elman", 1, 100, 2, 12, replicas=64),
    Row("elman", 1, 100_000, 1, 64),
)
"""All rows, in the order in which they are measured."""


def select(
    rows: Sequence[Row], cells: Sequence[str] | None = None, names: Sequence[str] | None = None
) -> tuple[Row, ...]:
    """The rows of some cells whose name contains one of some texts.

    Args:
        rows: to choose from.
        cells: names of cells; None: all.
        names: parts of names; None: all.

    >>> [row.name for row in select(ROWS, cells=["gru"], names=["32x64x", "ragged"])]
    ['gru-32x64x15x16', 'gru-32x784x1x128-ragged']
    """
    return tuple(
        row
        for row in rows
        if (cells is None or row.cell in cells)
        and (names is None or any(part in row.name for part in names))
    )


def quick(row: Row) -> Row:
    """The same network on so little data that a measurement takes a moment."""
    return replace(
        row,
        batch=min(row.batch, 4),
        steps=min(row.steps, 12),
        features=min(row.features, 8),
        hidden=min(row.hidden, 24),
        replicas=None if row.replicas is None else min(row.replicas, 3),
    )
