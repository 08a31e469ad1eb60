"""Compiled networks, disturbed or drawn at random, trained on the traces of their machines.

Four machines on words of two letters: parity; a^n b^n; copying to a second tape; reversal. Each as
a real-time network, whose states on words of up to 4 letters are the targets of every update: BPTT,
Adam, mean square. It begins at the compiled weights plus noise, or at random. Then its weights,
rounded to 20 bits after the point, run on words of up to 4 and of 31 to 40 letters, on integers
without rounding: a run is right if at the step in which the machine halts the network says so, and
its tapes, read with every digit rounded, are those of the machine.

    python experiments/turing/learning.py         some minutes on one core
"""

import argparse
import copy
import json
import platform
import random
from collections.abc import Mapping
from datetime import date
from fractions import Fraction
from pathlib import Path

import torch

import longlag as ll
from longlag.turing import ExactRun, Run, TuringMachine, TuringNetwork

FOLDER = Path(__file__).parent
SHORT, LONG = (0, 4), (31, 40)
MACHINES = {
    "parity": """symbols: _ a b
        halt: yes no
        even a -> _ R odd
        even b -> _ R even
        even _ -> _ R yes
        odd a -> _ R even
        odd b -> _ R odd
        odd _ -> _ R no""",
    "a^n b^n": """symbols: _ a b
        tapes: 2
        halt: yes no
        push a * -> _ a R R push
        push b * -> b * S L pop
        push _ * -> _ * S L pop
        pop b a -> _ _ R L pop
        pop _ _ -> _ _ S S yes
        pop * * -> * * S S no""",
    "copying": """symbols: _ a b
        tapes: 2
        halt: done
        go a * -> a a R R go
        go b * -> b b R R go
        go _ * -> _ * S S done""",
    "reversal": """symbols: _ a b
        tapes: 2
        halt: done
        end * * -> * * R S end
        end _ * -> * * L S go
        go a * -> a a L R go
        go b * -> b b L R go
        go _ * -> * * S S done""",
}


def words(name: str, lengths: tuple[int, int], count: int, rng: random.Random) -> list[str]:
    """Distinct words; of a^n b^n every second one is in the language."""
    drawn: dict[str, None] = {}
    for number in range(20 * count):
        length = rng.randint(*lengths)
        word = "".join(rng.choice("ab") for _ in range(length))
        if name == "a^n b^n" and number % 2:
            word = "a" * (length // 2) + "b" * (length // 2)
        drawn[word] = None
    return [*drawn][:count]


def traces(net: TuringNetwork, examples: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """First states (N, H) and the states after (N, T, H); where it has halted, they stay."""
    found = [net.trace(word, 1000, exact=True).activity for word in examples]
    steps = max(len(states) for states in found)
    rows = [torch.from_numpy(states) for states in found]
    rows = [torch.cat([r, r[-1:].expand(steps - len(r), -1)]) for r in rows]
    states = torch.stack(rows)
    return states[:, 0], states[:, 1:]


def train(net: TuringNetwork, examples: list[str], updates: int) -> list[float]:
    """Adam on the states of every step of the machine's own network; the losses."""
    first, target = traces(ll.turing.compile(net.machine, net.form), examples)
    x = torch.zeros(*target.shape[:2], 0, dtype=torch.float64)
    adam = torch.optim.Adam([net.layer.weight_hh, net.layer.bias], 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, updates)
    losses = []
    for _ in range(updates):
        output, _ = net.layer(x, net.layer.state_of((first,)))
        loss = (output - target).square().mean()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.layer.parameters(), 1.0)
        adam.step()
        schedule.step()
        losses.append(loss.item())
    return losses


def is_right(net: TuringNetwork, word: str, expected: Run) -> bool:
    """Whether it halts where it should, with the same tapes, its digits rounded."""
    construction = net.construction
    places = {unit: place for place, unit in enumerate(net.units)}
    start = construction.encode(net.machine.begin(word))
    run = ExactRun(net.layer, {places[unit]: x for unit, x in start.items()})
    run.run(expected.steps)
    state = {net.units[unit]: x for unit, x in run.state.items()}
    ends = construction.encode(expected.configuration)
    unit = max(construction.halting, key=lambda unit: state.get(unit, Fraction(0)))
    if state.get(unit, Fraction(0)) < Fraction(1, 2) or ends.get(unit) != 1:
        return False
    for tape, cells in enumerate(expected.configuration.tapes):
        for move, side in ((-1, cells.left), (1, cells.right[1:])):
            number = sum(
                (state.get(slot, 0) for slot in construction.slots(tape, move)), Fraction(0)
            )
            if digits(number, len(side) + 1, net) != (*side, net.machine.blank):
                return False
    return True


def digits(number: Fraction, count: int, net: TuringNetwork) -> tuple[str, ...]:
    """The first symbols of a stack, each the nearest one."""
    base, symbols, read = net.construction.digits.base, net.machine.symbols, []
    for _ in range(count):
        place = min(max(round(number * base / 2 - Fraction(1, 8)), 0), len(symbols) - 1)
        number = number * base - 2 * place
        read.append(symbols[place])
    return tuple(read)


def share(net: TuringNetwork, expected: Mapping[str, Run]) -> float:
    net = TuringNetwork(net.machine, net.form, copy.deepcopy(net.layer))
    with torch.no_grad():
        for parameter in net.layer.parameters():
            parameter.copy_((parameter * 2.0**20).round() / 2.0**20)
    return sum(is_right(net, word, run) for word, run in expected.items()) / len(expected)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a tenth of it")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args()
    torch.set_num_threads(1)
    updates, counts = (60, (6, 2)) if options.quick else (1000, (30, 8))
    rows = []
    for name, text in MACHINES.items():
        rng = random.Random(0)
        machine = TuringMachine.parse(text)
        short, long = (
            {word: machine.simulate(word) for word in words(name, lengths, count, rng)}
            for lengths, count in zip((SHORT, LONG), counts, strict=True)
        )
        for start in ("compiled", "noise 0.001", "noise 0.01", "noise 0.1", "at random"):
            net = ll.turing.compile(machine, "real-time")
            made = {k: part.detach().clone() for k, part in net.layer.named_parameters()}
            generator = torch.Generator().manual_seed(0)
            with torch.no_grad():
                for parameter in net.layer.parameters():
                    drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                    if start == "at random":
                        parameter.copy_(drawn / len(net.units) ** 0.5)
                    elif start != "compiled":
                        parameter.add_(drawn * float(start.split()[1]))
            row = {"machine": name, "start": start, "units": len(net.units)}
            row |= {"before, short": share(net, short), "before, long": share(net, long)}
            if start != "compiled":
                losses = train(net, [*short], updates)
                off = max(
                    float((parameter.detach() - made[part]).abs().max())
                    for part, parameter in net.layer.named_parameters()
                    if parameter.numel()
                )
                row |= {
                    "after, short": share(net, short), "after, long": share(net, long),
                    "first loss": losses[0], "last loss": losses[-1],
                    "farthest weight from the compiled one": off,
                }  # fmt: skip
            rows.append(row)
            print(json.dumps(row), flush=True)
    record = {
        "command": "python experiments/turing/learning.py", "date": date.today().isoformat(),
        "seed": 0, "python": platform.python_version(), "torch": torch.__version__,
        "updates": updates, "letters in training": SHORT, "letters of long words": LONG,
        "rows": rows,
    }  # fmt: skip
    (options.folder / "learning.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
