"""The table of a model's parts."""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Row:
    """One part of a model: its name, type, output shape and numbers of parameters.

    A parameter that several parts share counts in the first.
    """

    name: str
    kind: str
    shape: str
    parameters: int
    trained: int

    @classmethod
    def of(
        cls, name: str, module: nn.Module, shape: tuple[object, ...], counted: set[nn.Parameter]
    ) -> "Row":
        """The row of a module whose output has ``shape``, beside parameters that have been counted.

        Its own are added to these.
        """
        text = "(" + ", ".join(str(size) for size in shape) + ")"
        own = set(module.parameters()) - counted
        counted.update(own)
        counts = [(p.numel(), p.requires_grad) for p in own]
        total = sum(count for count, _ in counts)
        trained = sum(count for count, wanted in counts if wanted)
        return cls(name, type(module).__name__, text, total, trained)


@dataclass(frozen=True)
class Summary:
    """The parts of a model; prints as a table."""

    rows: tuple[Row, ...]

    @property
    def parameters(self) -> int:
        """Number of parameters of the whole model."""
        return sum(row.parameters for row in self.rows)

    @property
    def trained(self) -> int:
        """Number of those that are trained."""
        return sum(row.trained for row in self.rows)

    def __str__(self) -> str:
        cells = [("Layer", "Output", "Parameters")]
        cells += [(f"{r.name} ({r.kind})", r.shape, f"{r.parameters:,}") for r in self.rows]
        first = max(20, *(len(cell[0]) for cell in cells)) + 2
        second = max(9, *(len(cell[1]) for cell in cells)) + 2
        lines = [f"{a:<{first}}{b:<{second}}{c:>10}" for a, b, c in cells]
        rule = "-" * len(lines[0])
        parts = " + ".join(f"{row.parameters:,}" for row in self.rows)
        total = f"{parts} = {self.parameters:,} parameters, {self.trained:,} of them trained"
        return "\n".join([lines[0], rule, *lines[1:], rule, total])

    __repr__ = __str__
