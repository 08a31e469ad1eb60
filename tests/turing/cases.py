"""Machines to compare networks with."""

import itertools
import random

from longlag.turing import Configuration, Rule, Tape, TuringMachine

BEAVERS = {
    "1RB1LB_1LA1RH": (6, 4),
    "1RB1RH_1LB0RC_1LC1LA": (21, 5),
    "1RB1RH_0RC1RB_1LC1LA": (14, 6),
    "1RB1LB_1LA0LC_1RH1LD_1RD0RA": (107, 13),
}
"""By busy beaver, its steps and ones."""

BB5 = "1RB1LC_1RC1RB_1RD0LE_1LA1LD_1RH0LA"


def random_machine(rng: random.Random, tapes: int = 1) -> TuringMachine:
    """Up to 8 states and 4 symbols; on two tapes 4 and 2. It may stay, and halt."""
    most = (8, 4) if tapes == 1 else (4, 2)
    states = [f"q{k}" for k in range(rng.randint(1, most[0]))]
    symbols = tuple("0123"[: rng.randint(2, most[1])])
    moves = rng.choice([(-1, 1), (-1, 0, 1)])
    rules = {
        (state, read): Rule(
            tuple(rng.choice(symbols) for _ in range(tapes)),
            tuple(rng.choice(moves) for _ in range(tapes)),
            "H" if rng.random() < 0.05 else rng.choice(states),
        )
        for state in states
        for read in itertools.product(symbols, repeat=tapes)
    }
    return TuringMachine(symbols, states[0], rules)


def random_start(rng: random.Random, machine: TuringMachine, periodic: bool) -> Configuration:
    """With cells on both sides of the heads, and perhaps a background that is not blank."""

    def cells(least: int, most: int) -> tuple[str, ...]:
        return tuple(rng.choice(machine.symbols) for _ in range(rng.randint(least, most)))

    blank = (machine.blank,)
    tapes = tuple(
        Tape(cells(0, 8), cells(0, 8), *(cells(1, 3) if periodic else blank for _ in range(2)))
        for _ in range(machine.tapes)
    )
    return Configuration(machine.start, tapes)
