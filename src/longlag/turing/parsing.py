"""Turing machines from text: the one-line standard form, and a table with one rule a line."""

import itertools
import re
from typing import Any, NamedTuple

from longlag.messages import near_match
from longlag.turing.rules import MOVES, MachineError, Rule

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXY"
_HEADERS = ("symbols", "tapes", "start", "halt")


class _Word(NamedTuple):
    """A word of a text, with where it stands, from 1."""

    text: str
    line: int
    column: int

    def wrong(self, problem: str) -> MachineError:
        return MachineError(f"line {self.line}, column {self.column}: {problem}")


def parse(kind: Any, text: str) -> Any:
    """A machine of this class from either form; see :meth:`TuringMachine.parse`."""
    lines = [
        [_Word(match[0], number, match.start() + 1) for match in re.finditer(r"\S+", line)]
        for number, line in enumerate(re.sub(r"#.*", "", text).splitlines(), 1)
    ]
    lines = [words for words in lines if words]
    if not lines:
        raise MachineError(
            "line 1, column 1: got nothing, expected a machine such as 1RB1LB_1LA1RH, or a table"
        )
    if len(lines) == 1 and len(lines[0]) == 1:
        return _one_line(kind, lines[0][0])
    return _Table(lines).machine(kind)


def _one_line(kind: Any, word: _Word) -> Any:
    groups = word.text.split("_")
    count = len(groups[0]) // 3
    if len(groups) > len(_LETTERS):
        raise word.wrong(f"got {len(groups)} states, expected 25 at most; write a table")
    symbols = tuple("0123456789"[: max(count, 2)])
    states = _LETTERS[: len(groups)]
    halting = "HZ" if len(groups) < 8 else "Z"
    rules = {}
    column = word.column
    for state, group in zip(states, groups, strict=True):
        if len(group) != 3 * count or not 2 <= count <= 10:
            raise word._replace(column=column).wrong(
                f"state {state} has {len(group)} letters, expected "
                + (f"{3 * count}, three for each of {count} symbols" if 2 <= count <= 10 else
                   "three for each of 2 to 10 symbols, as in 1RB1LB_1LA1RH")
            )  # fmt: skip
        for number, symbol in enumerate(symbols):
            at = word._replace(column=column + 3 * number)
            write, move, following = group[3 * number : 3 * number + 3]
            what = f"the rule of {state} for {symbol}"
            if "-" in (write, move, following):
                raise at.wrong(
                    f"{what} is missing ({write}{move}{following}); a machine has a rule for every "
                    f"state and symbol: write {halting[0]} as the next state, as in "
                    f"1R{halting[0]}, where it halts"
                )
            if write not in symbols:
                raise at.wrong(f"{what} writes {write!r}, expected one of {' '.join(symbols)}")
            if move not in MOVES:
                raise at._replace(column=at.column + 1).wrong(
                    f"{what} moves {move!r}, expected L, R or S"
                )
            if following not in states + halting:
                raise at._replace(column=at.column + 2).wrong(
                    f"{what} goes to the state {following!r}, which is never defined; there are "
                    f"{' '.join(states)}, and {' and '.join(halting)} to halt"
                )
            rules[state, (symbol,)] = Rule((write,), (MOVES[move],), following)
        column += len(group) + 1
    return kind(symbols, "A", rules)


class _Table:
    """The lines of a table: headers, then rules."""

    def __init__(self, lines: list[list[_Word]]) -> None:
        self.headers: dict[str, list[_Word]] = {}
        rules = []
        for words in lines:
            first = words[0]
            if not first.text.endswith(":"):
                rules.append(words)
                continue
            name = first.text[:-1]
            if name not in _HEADERS:
                raise first.wrong(
                    f"got {first.text!r}, expected a rule such as `A 0 -> 1 R B`, or one of "
                    f"{': '.join(_HEADERS)}:{near_match(name, _HEADERS, str)}"
                )
            if name in self.headers or len(words) == 1:
                raise first.wrong(f"{first.text} is given twice, or without a value")
            self.headers[name] = words[1:]
        self.last = lines[-1][-1]
        self.tapes = self.count()
        self.rules = [self.rule(words) for words in rules]
        if not self.rules:
            raise self.last.wrong("there is no rule; expected one such as `A 0 -> 1 R B`")

    def count(self) -> int:
        (word, *more) = self.headers.get("tapes", [_Word("1", 1, 1)])
        if more or not word.text.isdecimal() or not 1 <= int(word.text) <= 8:
            raise word.wrong(f"tapes: got {word.text!r}, expected a whole number from 1 to 8")
        return int(word.text)

    def rule(self, words: list[_Word]) -> tuple[_Word, list[_Word], list[_Word], Any, _Word]:
        """The state of a rule, what it reads and writes, its moves and the next state."""
        tapes = self.tapes
        pattern = " ".join(
            ["STATE", *["READ"] * tapes, "->", *["WRITE"] * tapes, *["L|R|S"] * tapes, "NEXT"]
        )
        arrow = words[tapes + 1] if len(words) > tapes + 1 else words[-1]
        if arrow.text != "->" or len(words) != 3 * tapes + 3:
            wrong = arrow if arrow.text != "->" else words[-1]
            raise wrong.wrong(f"got {' '.join(w.text for w in words)!r}, expected {pattern}")
        state, read, rest = words[0], words[1 : tapes + 1], words[tapes + 2 :]
        for word in rest[tapes : 2 * tapes]:
            if word.text not in MOVES:
                raise word.wrong(f"the move is {word.text!r}, expected L, R or S")
        moves = tuple(MOVES[word.text] for word in rest[tapes : 2 * tapes])
        return state, read, rest[:tapes], moves, rest[-1]

    def machine(self, kind: Any) -> Any:
        symbols = self.symbols()
        states = {state.text for state, *_ in self.rules}
        halting = self.halting(states)
        rules: dict[Any, Rule] = {}
        origins: dict[Any, tuple[_Word, int]] = {}
        for state, read, write, moves, following in self.rules:
            if following.text not in states | halting:
                raise following.wrong(
                    f"the state {following.text!r} is never defined; give it rules, or name it "
                    "after `halt:`"
                )
            wild = sum(word.text == "*" for word in read)
            choices = [symbols if word.text == "*" else (word.text,) for word in read]
            for seen in itertools.product(*choices):
                key = state.text, seen
                if key in origins and origins[key][1] == wild:
                    raise state.wrong(
                        f"a second rule of {state.text} for {' '.join(seen)}; the first is in line "
                        f"{origins[key][0].line}"
                    )
                if key in origins and origins[key][1] < wild:
                    continue  # the one with fewer * holds
                origins[key] = state, wild
                written = tuple(
                    old if word.text == "*" else word.text
                    for word, old in zip(write, seen, strict=True)
                )
                rules[key] = Rule(written, moves, following.text)
        for state, *_ in reversed(self.rules):
            for seen in itertools.product(symbols, repeat=self.tapes):
                if (state.text, seen) not in rules:
                    raise state.wrong(
                        f"the machine is not total: the state {state.text} has no rule for "
                        f"{' '.join(seen)}; give one, or one that reads *"
                    )
        names = dict.fromkeys(state.text for state, *_ in self.rules)
        keys = [
            (name, seen) for name in names for seen in itertools.product(symbols, repeat=self.tapes)
        ]
        return kind(symbols, self.start(states), {key: rules[key] for key in keys})

    def symbols(self) -> tuple[str, ...]:
        words = [word for _, read, write, *_ in self.rules for word in (*read, *write)]
        declared = self.headers.get("symbols")
        if declared is None:
            symbols = tuple(dict.fromkeys(word.text for word in words if word.text != "*"))
            if len(symbols) < 2:
                raise words[0].wrong("expected at least two symbols; name them after `symbols:`")
            return symbols
        symbols = tuple(word.text for word in declared)
        for number, word in enumerate(declared):
            if word.text == "*" or word.text in symbols[:number]:
                raise word.wrong(f"symbols: got {word.text!r} twice, or *, expected each once")
        if len(symbols) < 2:
            raise declared[0].wrong("symbols: got one, expected at least two, the blank first")
        for word in words:
            if word.text not in (*symbols, "*"):
                raise word.wrong(
                    f"unknown symbol {word.text!r}; after `symbols:` there are {' '.join(symbols)}"
                )
        return symbols

    def halting(self, states: set[str]) -> set[str]:
        declared = self.headers.get("halt", [])
        for word in declared:
            if word.text in states:
                raise word.wrong(f"halt: the state {word.text!r} has rules, so it does not halt")
        return {word.text for word in declared}

    def start(self, states: set[str]) -> str:
        if "start" not in self.headers:
            return self.rules[0][0].text
        word, *more = self.headers["start"]
        if more or word.text not in states:
            raise word.wrong(
                f"start: got {' '.join(w.text for w in (word, *more))!r}, expected one state that "
                f"has rules{near_match(word.text, states, str)}"
            )
        return word.text
