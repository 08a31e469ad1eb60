"""Stacks of symbols as numbers in [0, 1): a digit a symbol, the top first."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Digits:
    r"""How a stack becomes a number, and back.

    The stack a_1 a_2 ... is :math:`\sum_i 2 a_i B^{-i}`, where the blank is 0 and B is the smallest
    power of two that is at least twice the number of symbols. So blanks without end are 0, every
    number has gaps around its first digit, and pushing and popping are multiplications by powers
    of two.

    Args:
        symbols: the alphabet, the blank first.

    Example:
        >>> digits = Digits(("0", "1"))
        >>> digits.base, digits.number(("1", "0", "1"), ("0",))
        (4, Fraction(17, 32))
        >>> digits.stack(Fraction(17, 32))
        (('1', '0', '1'), ('0',))
    """

    symbols: tuple[str, ...]

    @property
    def bits(self) -> int:
        """The logarithm of the base to base 2."""
        return (2 * len(self.symbols) - 1).bit_length()

    @property
    def base(self) -> int:
        """B."""
        return 1 << self.bits

    def index(self, symbol: str) -> int:
        """The place of a symbol in the alphabet, 0 for the blank."""
        return self.symbols.index(symbol)

    def number(self, cells: Sequence[str], background: Sequence[str]) -> Fraction:
        """The number of a stack that ends in a background without end."""
        values = {symbol: 2 * place for place, symbol in enumerate(self.symbols)}
        period = 0
        for symbol in background:
            period = (period << self.bits) + values[symbol]
        tail = Fraction(period, (1 << self.bits * len(background)) - 1)
        # One text of binary digits and one conversion: shifting in symbol by symbol is quadratic.
        text = "".join(format(values[symbol], f"0{self.bits}b") for symbol in cells)
        return (int(text or "0", 2) + tail) / (1 << self.bits * len(cells))

    def stack(self, number: Fraction) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The cells and the background of a number.

        Raises:
            ValueError: it is no number of a stack.
        """
        below = number.denominator
        power = (below & -below).bit_length() - 1
        odd = below >> power
        count = -(-power // self.bits)
        whole, rest = divmod(number.numerator << (count * self.bits - power), odd)
        text = format(whole, f"0{count * self.bits}b") if count else ""
        cells = [text[start : start + self.bits] for start in range(0, len(text), self.bits)]
        written = [self._symbol(int(cell, 2), number) for cell in cells]
        background, left = [], rest
        while not background or left != rest:
            digit, left = divmod(left << self.bits, odd)
            background.append(self._symbol(digit, number))
        return tuple(written), tuple(background)

    def _symbol(self, digit: int, number: Fraction) -> str:
        if digit % 2 or not 0 <= digit < 2 * len(self.symbols):
            size = number.denominator.bit_length()
            raise ValueError(
                f"state: a number with a denominator of {size} bits has the digit {digit} in base "
                f"{self.base}, which is no symbol; the network has left the states of a machine"
            )
        return self.symbols[digit // 2]
