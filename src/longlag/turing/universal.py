r"""A universal machine, and what it is given to run another machine.

It has three tapes and twelve states, and is not small: it was made to be checked by reading it.
The first tape is that of the machine that it runs, the head in its place. The second holds that
machine's rules, behind a mark ``|``: for each state those for 0 and for 1, each the symbol to
write, 0 or 1 for left or right, as many 1 as the number of the next state (none to halt), and 0.
The third counts states while the next one is looked for.
"""

from longlag.turing.machine import TuringMachine, Word
from longlag.turing.rules import MachineError
from longlag.turing.tape import Configuration, Tape

UNIVERSAL = """
symbols: 0 1 |
tapes: 3
start: pick
halt: halt

# At the rules of a state. Are there states to be skipped? Else take the rule for what is seen.
pick   0 0 0 -> 0 * *  S R S move
pick   0 1 0 -> 1 * *  S R S move
pick   1 * 0 -> * * *  S R S skip-move
pick   * * 1 -> * * 0  S R L pass-move

# The rule for 1 stands behind the one for 0.
skip-move * * * -> * * *  S R S skip-next
skip-next * 1 * -> * * *  S R S skip-next
skip-next * 0 * -> * * *  S R S write

# Write, move, and copy the number of the next state onto the third tape.
write  * 0 * -> 0 * *  S R S move
write  * 1 * -> 1 * *  S R S move
move   * 0 * -> * * *  L R S load
move   * 1 * -> * * *  R R S load
load   * 1 * -> * * 1  S R R load
load   * 0 * -> * * *  S S L rewind

# Number 0 is to halt. Else back to the mark, to pass one state less than the number.
rewind * * 0 -> * * *  S S S halt
rewind * 0 1 -> * * *  S L S rewind
rewind * 1 1 -> * * *  S L S rewind
rewind * | 1 -> * * 0  S R L pick

# Pass the two rules of a state.
pass-move  * * * -> * * *  S R S pass-next
pass-next  * 1 * -> * * *  S R S pass-next
pass-next  * 0 * -> * * *  S R S pass-write
pass-write * * * -> * * *  S R S pass-last
pass-last  * * * -> * * *  S R S pass-end
pass-end   * 1 * -> * * *  S R S pass-end
pass-end   * 0 * -> * * *  S R S pick

# What never happens.
pick      * * * -> * * *  S S S halt
skip-next * * * -> * * *  S S S halt
write     * * * -> * * *  S S S halt
move      * * * -> * * *  S S S halt
load      * * * -> * * *  S S S halt
rewind    * * * -> * * *  S S S halt
pass-next * * * -> * * *  S S S halt
pass-end  * * * -> * * *  S S S halt
"""
"""The table of the universal machine, as :meth:`TuringMachine.parse` reads it."""


def universal() -> TuringMachine:
    """The universal machine.

    >>> universal().tapes, len(universal().states)
    (3, 12)
    """
    return TuringMachine.parse(UNIVERSAL)


def program(machine: TuringMachine) -> str:
    """The rules of a machine as the universal machine reads them, without the mark.

    Args:
        machine: of one tape and the symbols 0 and 1, that moves at every step.

    Raises:
        MachineError: it is another kind of machine.

    >>> program(TuringMachine.parse("1RB1LB_1LA1RH"))
    '11110101101010110'
    """
    moves = {move for rule in machine.rules.values() for move in rule.move}
    if machine.tapes != 1 or machine.symbols != ("0", "1") or 0 in moves:
        raise MachineError(
            "machine: expected one tape, the symbols 0 and 1, and a move at every step"
        )
    numbers = {state: number for number, state in enumerate(_order(machine), 1)}
    text = ""
    for state in numbers:
        for symbol in machine.symbols:
            rule = machine.rules[state, (symbol,)]
            text += rule.write[0] + ("1" if rule.move == (1,) else "0")
            text += "1" * numbers.get(rule.next, 0) + "0"
    return text


def given(machine: TuringMachine, word: Word = "") -> Configuration:
    """The configuration in which the universal machine begins to run another one.

    Args:
        machine: as for :func:`program`.
        word: its input.
    """
    blank = ("0",)
    rules = Tape(("|",), tuple(program(machine)), blank, blank)
    (tape,) = machine.begin(word).tapes
    return Configuration("pick", (tape, rules, Tape((), (), blank, blank)))


def carried(machine: TuringMachine, configuration: Configuration) -> Configuration | None:
    """The configuration of the machine that the universal one runs, where it is between its steps.

    Args:
        machine: the one that is run.
        configuration: of the universal machine.

    Returns:
        None within a step. Of a machine that has halted, the name of the state is "halt".
    """
    tape, rules, counter = configuration.tapes
    if configuration.halted:
        return Configuration("halt", (tape,), True)
    if configuration.state != "pick" or counter.scanned != "0":
        return None
    passed = "".join(reversed(rules.left)).removeprefix("|")
    number, text = 0, passed
    while text:
        text = text[text.index("0", 2) + 1 :]
        number += 1
    return Configuration(_order(machine)[number // 2], (tape,))


def _order(machine: TuringMachine) -> tuple[str, ...]:
    """The states, that in which it begins first."""
    others = (state for state in machine.states if state != machine.start)
    return (machine.start, *others)
