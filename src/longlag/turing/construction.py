"""What a construction is: from a machine to equations, and how their states are read."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from fractions import Fraction

from longlag.turing.digits import Digits
from longlag.turing.equations import Equations, Form
from longlag.turing.machine import Rule, TuringMachine
from longlag.turing.tape import Configuration, Tape

State = Mapping[str, Fraction]
"""The units that are not 0, by name."""


class Construction(ABC):
    """A way to write a machine as a network; an instance is that of one machine.

    Attributes:
        name: as ``compile`` is told it.
        updates: how many updates of the network are one step of the machine.
    """

    name: str
    updates: int

    def __init__(self, machine: TuringMachine) -> None:
        self.machine = machine
        self.digits = Digits(machine.symbols)
        self.count = len(machine.symbols)
        self.equations = Equations()
        self.build()

    @abstractmethod
    def build(self) -> None:
        """Fill the equations."""

    @abstractmethod
    def encode(self, configuration: Configuration) -> dict[str, Fraction]:
        """The state of the network that stands for a configuration."""

    @abstractmethod
    def decode(self, state: State) -> Configuration:
        """The configuration that a state stands for, after a whole step."""

    @property
    @abstractmethod
    def halting(self) -> tuple[str, ...]:
        """The units of which one is 1 from the step on in which the machine halts."""

    def configuration(self, state: State, tapes: tuple[Tape, ...]) -> Configuration:
        """With the control state that the units ``state q`` and ``halt q`` tell.

        Raises:
            ValueError: they do not tell one.
        """
        names = [(f"{kind} {name}", name, kind == "halt")
                 for kind, names in (("state", self.machine.states), ("halt", self.machine.halting))
                 for name in names]  # fmt: skip
        here = [(name, halted) for unit, name, halted in names if state.get(unit) == 1]
        if len(here) != 1:
            raise ValueError(
                f"state: {len(here)} units of the control states are 1, expected one; the network "
                "has left the states of a machine"
            )
        ((name, halted),) = here
        return Configuration(name, tapes, halted)

    def sides(self, tape: Tape, skip: int) -> tuple[Fraction, Fraction]:
        """The numbers of both sides of the head, the right one without so many cells."""
        right, background = [*tape.right], tape.right_background
        if skip and not right:
            background = (*background[1:], background[0])
        left = self.digits.number(tape.left, tape.left_background)
        return left, self.digits.number(right[skip:], background)

    def tape(self, left: Fraction, right: Fraction, scanned: str | None = None) -> Tape:
        """The tape of two numbers; with the symbol under the head where ``right`` is without it."""
        cells, left_background = self.digits.stack(left)
        others, right_background = self.digits.stack(right)
        under = () if scanned is None else (scanned,)
        return Tape(cells, (*under, *others), left_background, right_background)


def top(name: str, symbols: Sequence[str]) -> list[str]:
    """Units that tell a symbol: number a - 1 is 1 where it is symbol a or a later one."""
    return [f"{name} {'>=' if symbol != symbols[-1] else ''}{symbol}" for symbol in symbols[1:]]


def weighted(rules: list[tuple[Form, Rule]], digits: Digits, tape: int = 0) -> Form:
    """The place in the alphabet of the symbol that the rule at work writes."""
    return Form.sum(form * digits.index(rule.write[tape]) for form, rule in rules)
