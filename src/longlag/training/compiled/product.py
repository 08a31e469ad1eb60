"""Products of rows with a matrix, as parts of a piece, and how errors go back through them.

For P rows h of H numbers and K outputs:

    a = A h + b,   dA = da^T h,   db = sum of da,   dh = A^T da

The products are those of the kernels, which see A as an input matrix: its outputs are the units, h
the input. The errors da lie in panels, as there: (vectors of outputs, rows, lanes).
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from longlag.scan.cpu.builder import Value
from longlag.scan.cpu.matrix import Matrix, matrix, send
from longlag.scan.cpu.plan import lanes_of
from longlag.scan.cpu.target import host
from longlag.training.compiled.piece import Piece

_UNROLLED = 4
"""Vectors of outputs up to which the loops over them are unrolled."""


@dataclass(frozen=True)
class Sizes:
    """What a product is compiled for.

    Attributes:
        double: float64, else float32.
        inputs: H.
        outputs: K.
        networks: whose numbers lie side by side.
    """

    double: bool
    inputs: int
    outputs: int
    networks: int = 1

    @property
    def lanes(self) -> int:
        """Outputs in a vector."""
        return lanes_of(host(), self.outputs, self.double, self.networks)

    @property
    def vectors(self) -> int:
        """Vectors that cover the outputs."""
        return -(-self.outputs // self.lanes)

    @property
    def wide(self) -> int:
        """Numbers of a row of sums, and of an output's row of panels."""
        return self.vectors * self.lanes

    @property
    def packed(self) -> int:
        """Numbers of the packed weights, for each input."""
        return self.vectors * self._matrix.units

    @property
    def blocks(self) -> int:
        """Blocks of outputs, of the packed weights."""
        return -(-self.outputs // self._matrix.units)

    @property
    def _matrix(self) -> Matrix:
        vectors, registers = min(2, self.vectors), host().registers
        return Matrix(self.double, self.lanes, vectors, registers, networks=self.networks)

    def functions(self) -> dict[str, int]:
        """The addresses of the products, as parameters of a piece."""
        names = ("pack", "drive", "outer_input", "unpack_input")
        wide = lanes_of(host(), self.inputs, self.double, self.networks)
        compiled = matrix(self._matrix)
        return {
            **{name: compiled[name] for name in names},
            "send": send(self.double, self.lanes, wide, self.networks),
        }


class Products(Piece):
    """A piece under construction with such products.

    Args:
        name, names: of the function and its parameters, which have the names of the module's
            docstring; ``zero`` is the list (0,), ``where`` has the places of the rows in ``d_h``.
        sizes: of its main product.

    Attributes:
        panels: where da lies, in a piece in which errors go back.
    """

    def __init__(self, name: str, names: str, sizes: Sizes) -> None:
        super().__init__(name, names, sizes.double, sizes.lanes, sizes.networks)
        self.sizes = sizes
        if "panels" in self.arg:
            self.panels = self.numbers("panels")
            self._panel = self.times(self.arg["P"], sizes.lanes)

    def product(
        self, weight: str, packed: str, rows: str, width: str, bias: str, target: str
    ) -> None:
        """The product of rows with a matrix, and the bias; arguments are names of parameters."""
        arg, one, blocks = self.arg, self.i64(1), (self.i64(0), self.i64(self.sizes.blocks))
        self.call(
            "pack", arg[weight], arg[packed], arg["K"], arg[width], one, arg["zero"], *blocks
        )  # fmt: skip
        self.call(
            "drive", arg[rows], arg[width], arg["P"], arg[packed], arg[width], arg[bias],
            arg[target], arg["K"], arg["K"], one, *blocks,
        )  # fmt: skip

    def outer(self, sums: str, rows: str, width: str, target: str) -> None:
        """The gradient of a matrix; and of the bias, which is the last row of the sums."""
        arg, wide, place = self.arg, self.i64(self.sizes.wide), self.numbers(sums)
        with self.loop(self.i64(0), self.times(arg[width], wide), self.lanes) as index:
            self.store(self.zero(), self.at(place, index))
        self.call(
            "outer_input", arg[sums], wide, arg[rows], arg[width], arg[width], arg["panels"],
            self._panel, arg["P"], arg["K"],
        )  # fmt: skip
        self.call(
            "unpack_input", arg[sums], wide, arg[target], arg["d_bias"], arg["K"], arg[width]
        )  # fmt: skip

    def wanted(self) -> AbstractContextManager[object]:
        """What is done where dh has memory."""
        return self.b.if_then(self.b.icmp_signed("!=", self.arg["d_h"], self.i64(0)))

    def send(self) -> None:
        """dh = A^T da."""
        arg = self.arg
        self.call(
            "send", arg["panels"], self._panel, arg["P"], arg["where"], arg["d_h"],
            arg["weight"], arg["K"], arg["H"], self.i64(1), arg["zero"],
        )  # fmt: skip

    # Rows

    def each_vector(self, body: Callable[[Value, Value], None]) -> None:
        """The loop over vectors of outputs: body(number, first output)."""

        def one(v: Value) -> None:
            last = self.plus(self.arg["K"], -self.lanes)
            body(v, self.smaller(self.times(v, self.lanes), last))

        if self.sizes.vectors <= _UNROLLED:
            for v in range(self.sizes.vectors):
                one(self.i64(v))
            return
        with self.loop(self.i64(0), self.i64(self.sizes.vectors)) as v:
            one(v)

    def place(self, v: Value, p: Value) -> Value:
        """Where in the panels a vector of the outputs of row p lies."""
        return self.at(self.panels, self.times(v, self._panel), self.times(p, self.lanes))

    def fresh(self, v: Value, start: Value) -> Value:
        """Which outputs of a vector no vector before it has."""
        passed = self.b.sub(self.times(v, self.lanes), start)
        return self.b.icmp_signed(">=", self.lane_numbers(), self.splat(passed))
