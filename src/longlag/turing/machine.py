"""Turing machines as data, and the plain simulator that every network is compared with."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from typing_extensions import Self

from longlag.arguments import check_whole
from longlag.turing.parsing import parse
from longlag.turing.rules import MOVES, MachineError, Rule
from longlag.turing.tape import Configuration, Tape, endless

Word: TypeAlias = "str | Sequence[str]"


@dataclass(frozen=True)
class TuringMachine:
    """A deterministic Turing machine with tapes that are infinite in both directions.

    Args:
        symbols: its alphabet, at least two; the first is the blank.
        start: the state that it begins in.
        rules: for each state that does not halt, and each symbol under each of its heads, what it
            does.

    Attributes:
        states: the states that have rules, in the order of the rules.
        halting: the states in which it halts.
        tapes: how many tapes it has.

    Raises:
        MachineError: a rule is missing, or names what is not in the alphabet.

    Example:
        >>> beaver = TuringMachine.parse("1RB1LB_1LA1RH")
        >>> beaver.simulate()
        Run(steps=6, halted=True, ones=4, state='H', tape='11[1]1')
    """

    symbols: tuple[str, ...]
    start: str
    rules: Mapping[tuple[str, tuple[str, ...]], Rule]

    def __post_init__(self) -> None:
        if len(set(self.symbols)) != len(self.symbols) or len(self.symbols) < 2:
            raise MachineError(
                f"symbols: got {' '.join(self.symbols)!r}, expected at least two, each once"
            )
        if self.start not in self.states:
            raise MachineError(f"start: got {self.start!r}, expected a state that has rules")
        for (state, read), rule in self.rules.items():
            for symbol in (*read, *rule.write):
                if symbol not in self.symbols:
                    raise MachineError(
                        f"the rule of {state} for {' '.join(read)}: {symbol!r} is none of the "
                        f"symbols {' '.join(self.symbols)}"
                    )
            if not len(read) == len(rule.write) == len(rule.move) == self.tapes:
                raise MachineError(
                    f"the rule of {state} for {' '.join(read)}: expected symbols and moves for "
                    f"{self.tapes} tape(s)"
                )
        for state in self.states:
            for read in self.readings():
                if (state, read) not in self.rules:
                    raise MachineError(
                        f"state {state} has no rule for {' '.join(read)}; give one, such as one "
                        "that goes to a state that halts"
                    )

    @classmethod
    def parse(cls, text: str) -> Self:
        """A machine from text.

        Args:
            text: either the one-line standard form of a machine with one tape, such as
                ``1RB1LB_1LA1RH``: for each state A, B, ... its rules for the symbols 0, 1, ...: the
                symbol to write, L or R (or S, to stay), and the next state; H (if there are less
                than 8 states) and Z halt. Or a table, one rule a line::

                    # symbols are in the order in which they are given here, the first is the blank
                    symbols: 0 1
                    start: A
                    halt: H
                    A 0 -> 1 R B
                    A 1 -> 1 L B
                    B * -> * L A

                With ``tapes: 2`` a rule has two symbols, then two symbols and two moves:
                ``A 0 1 -> 1 * R S B``. A ``*`` reads any symbol, where no rule with fewer of them
                fits; to write it is to leave the symbol.

        Raises:
            MachineError: with line and column.
        """
        return parse(cls, text)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """The machine that a text file describes; see :meth:`parse`.

        Raises:
            MachineError: with file, line and column.
            OSError: the file cannot be read.
        """
        try:
            return cls.parse(Path(path).read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise MachineError(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from error
        except MachineError as error:
            raise MachineError(f"{path}, {error}") from error

    def __str__(self) -> str:
        """The table, as :meth:`parse` reads it."""
        letters = {move: letter for letter, move in MOVES.items()}
        lines = [f"symbols: {' '.join(self.symbols)}", f"tapes: {self.tapes}"]
        lines.append(f"start: {self.start}")
        lines += [f"halt: {' '.join(self.halting)}"] if self.halting else []
        for (state, read), rule in self.rules.items():
            moves = (letters[move] for move in rule.move)
            lines.append(" ".join([state, *read, "->", *rule.write, *moves, rule.next]))
        return "\n".join(lines)

    @property
    def states(self) -> tuple[str, ...]:
        """Those that have rules."""
        return tuple(dict.fromkeys(state for state, _ in self.rules))

    @property
    def halting(self) -> tuple[str, ...]:
        """Those that rules go to and that have none."""
        going = dict.fromkeys(rule.next for rule in self.rules.values())
        return tuple(state for state in going if state not in self.states)

    @property
    def tapes(self) -> int:
        """How many there are."""
        return len(next(iter(self.rules))[1])

    @property
    def blank(self) -> str:
        """The symbol of cells that were never written."""
        return self.symbols[0]

    def readings(self) -> Iterator[tuple[str, ...]]:
        """All that its heads may see."""
        from itertools import product

        return product(self.symbols, repeat=self.tapes)

    def begin(self, *words: Word) -> Configuration:
        """The configuration that it begins in.

        Args:
            words: for each tape, the first first, what stands on it from the head to the right;
                nothing where not given. A text is one symbol a letter, or, where the symbols are
                longer, symbols with blanks between.

        Raises:
            MachineError: a symbol that is not in the alphabet, or more words than tapes.
        """
        if len(words) > self.tapes:
            raise MachineError(
                f"input: got {len(words)} words, the machine has {self.tapes} tape(s)"
            )
        tapes = [self.split(word) for word in words] + [()] * (self.tapes - len(words))
        blank = (self.blank,)
        return Configuration(self.start, tuple(Tape((), word, blank, blank) for word in tapes))

    def split(self, word: Word) -> tuple[str, ...]:
        """The symbols of a word.

        Raises:
            MachineError: one that is not in the alphabet.
        """
        single = isinstance(word, str) and all(len(symbol) == 1 for symbol in self.symbols)
        parts = tuple(word.split()) if isinstance(word, str) and not single else tuple(word)
        for place, symbol in enumerate(parts, 1):
            if symbol not in self.symbols:
                raise MachineError(
                    f"input, symbol {place}: got {symbol!r}, expected one of "
                    f"{' '.join(self.symbols)}"
                )
        return parts

    def simulate(self, start: "Word | Configuration" = "", max_steps: int | None = None) -> "Run":
        """Run it, by looking rules up in the table.

        Args:
            start: the word on the first tape, or a configuration.
            max_steps: stop after so many steps; None for no limit.

        Returns:
            The run; ``steps`` counts the last step, the one into a halting state, too.

        Cost: about a second for a million steps.
        """
        return simulate(self, start, max_steps)


@dataclass(frozen=True, repr=False)
class Run:
    """What came of a run.

    Attributes:
        steps: how many steps of the machine there were.
        configuration: what it ended in.
    """

    steps: int
    configuration: Configuration

    @property
    def halted(self) -> bool:
        """Whether the machine has halted."""
        return self.configuration.halted

    @property
    def state(self) -> str:
        """Its control state at the end."""
        return self.configuration.state

    @property
    def tape(self) -> Tape:
        """Its first tape at the end."""
        return self.configuration.tape

    @property
    def ones(self) -> int:
        """How many cells of the first tape are not blank."""
        return self.tape.count()

    def __repr__(self) -> str:
        tape = str(self.tape)
        if len(tape) > 60:
            tape = f"{tape[:28]}...{tape[-28:]}"
        return (
            f"Run(steps={self.steps}, halted={self.halted}, ones={self.ones}, "
            f"state={self.state!r}, tape={tape!r})"
        )


def begin(machine: TuringMachine, start: "Word | Configuration") -> Configuration:
    """A configuration as it is, or the one with a word on the first tape."""
    return start if isinstance(start, Configuration) else machine.begin(start)


def simulate(
    machine: TuringMachine, start: "Word | Configuration" = "", max_steps: int | None = None
) -> Run:
    """See :meth:`TuringMachine.simulate`."""
    if max_steps is not None:
        check_whole("max_steps", max_steps, 0)
    configuration = begin(machine, start)
    state, rules, halting = configuration.state, machine.rules, set(machine.halting)
    reels = [_Reel(tape) for tape in configuration.tapes]
    steps = 0
    if machine.tapes == 1:
        state, steps = _one_tape(machine, state, reels[0], max_steps)
    else:
        while state not in halting and steps != max_steps:
            rule = rules[state, tuple(reel.cell for reel in reels)]
            for reel, symbol, move in zip(reels, rule.write, rule.move, strict=True):
                reel.cell = symbol
                reel.go(move)
            state = rule.next
            steps += 1
    tapes = tuple(reel.tape() for reel in reels)
    return Run(steps, Configuration(state, tapes, state in halting))


class _Reel:
    """A tape as two stacks that grow where the head comes to the background."""

    def __init__(self, tape: Tape) -> None:
        self.sides = list(tape.left[::-1]), list(tape.right[::-1])
        self.lent = [0, 0]
        self.backgrounds = tape.left_background, tape.right_background
        self.cell = self.take(1)

    def take(self, side: int) -> str:
        if self.sides[side]:
            return self.sides[side].pop()
        background, lent = self.backgrounds[side], self.lent[side]
        self.lent[side] = lent + 1
        return background[lent % len(background)]

    def go(self, move: int) -> None:
        if move:
            self.sides[move < 0].append(self.cell)
            self.cell = self.take(move > 0)

    def tape(self) -> Tape:
        periods = [
            tuple(cell for cell, _ in zip(_from(period, lent), period, strict=False))
            for period, lent in zip(self.backgrounds, self.lent, strict=True)
        ]
        left, right = (tuple(reversed(side)) for side in self.sides)
        return Tape(left, (self.cell, *right), *periods)


def _from(period: Sequence[str], lent: int) -> Iterator[str]:
    return endless(period[lent % len(period) :], period)


def _one_tape(
    machine: TuringMachine, state: str, reel: _Reel, max_steps: int | None
) -> tuple[str, int]:
    """The same for one tape, where it is worth being quick."""
    table = {
        (state, read): (rule.write[0], rule.move[0], rule.next)
        for (state, (read,)), rule in machine.rules.items()
    }
    halting = set(machine.halting)
    (left, right), cell, take = reel.sides, reel.cell, reel.take
    steps = 0
    while state not in halting and steps != max_steps:
        cell, move, state = table[state, cell]
        if move > 0:
            left.append(cell)
            cell = right.pop() if right else take(1)
        elif move:
            right.append(cell)
            cell = left.pop() if left else take(0)
        steps += 1
    reel.cell = cell
    return state, steps
