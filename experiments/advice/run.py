"""Does the report's first suggestion make a task solvable that was not?

Four trainings that fail, each with five trials: an Elman network at a lag of 49, one of logistic
units at a lag of 9, an LSTM that begins by forgetting at a lag of 199, and an Elman network whose
gradients explode at a lag of 19. The task is long lag 2b, error at the end only. Then
`longlag.memory_report` looks at each trained network, and the first suggestion that it makes (that
of most trials) is followed by what it builds, `Advice.build`, with nothing else changed: the same
task, optimizer, rate, number of sequences, and criterion.

    python experiments/advice/run.py            minutes on one core
    python experiments/advice/run.py --quick    the two short ones, nothing saved
"""

import argparse
import json
import platform
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch

import longlag as ll
from longlag.lab.reproduce.groups import Network, Recipe
from longlag.lab.reproduce.recipes import adam
from longlag.lab.reproduce.trials import train
from longlag.memory import Advice, MemoryReport
from longlag.tasks import LongLagRandom, Task

FOLDER = Path(__file__).parent
UNITS, TRIALS, BATCH = 32, 5, 8


@dataclass(frozen=True)
class Case:
    """A training that fails."""

    name: str
    delay: int
    layer: Callable[..., ll.Recurrent]
    rate: float
    budget: int
    clip_norm: float | None = 1.0


CASES = (
    Case("logistic units", 10, lambda *sizes, **o: ll.Elman(*sizes, activation="sigmoid", **o),
         0.002, 8_000),
    Case("Elman, W of spectral radius 3, not clipped", 20,
         lambda *sizes, **o: ll.Elman(*sizes, weight_hh_init=ll.init.SpectralRadius(3.0), **o),
         0.002, 8_000, None),
    Case("Elman", 50, ll.Elman, 0.001, 16_000),
    Case("LSTM that begins by forgetting", 200,
         lambda *sizes, **o: ll.LSTM(*sizes, forget_bias=-1.0, **o), 0.005, 16_000),
)  # fmt: skip


def network(make: Callable[..., ll.Recurrent]) -> Network:
    def build(task: Task, replicas: int | None, seed: int) -> ll.SequenceModel:
        layer = make(task.input_size, UNITS, seed=seed + 1, replicas=replicas)
        return ll.SequenceModel(layer, task.output_size, reduce=task.reduce, seed=seed + 2)

    return build


def report(model: torch.nn.Module, task: LongLagRandom) -> MemoryReport:
    batch = task.test_batch(16, seed=9, index=0)
    # A random error: a network that has learned what can be had without memory has little left.
    return ll.memory_report(model, torch.from_numpy(batch.x), lag=task.delay - 1, exponents=0)


def follow(case: Case, advice: Advice, sequences: int) -> tuple[int | None, ...]:
    """Train as before but for the suggestion."""
    task = LongLagRandom(case.delay, at_end=True)
    make = case.layer
    if advice.builds:
        make = lambda *sizes, seed, replicas: advice.build(seed, replicas=replicas)  # noqa: E731
    clip = case.clip_norm if advice.clip_norm is None else advice.clip_norm
    recipe = Recipe(network(make), adam(case.rate), batch_size=BATCH, clip_norm=clip,
                    check_every=25)  # fmt: skip
    return train(task, recipe, TRIALS, case.budget, sequences=sequences)[0].sequences


def run(cases: tuple[Case, ...], sequences: int) -> list[dict]:
    rows = []
    for case in cases:
        began, task = time.perf_counter(), LongLagRandom(case.delay, at_end=True)
        recipe = Recipe(
            network(case.layer), adam(case.rate), batch_size=BATCH, clip_norm=case.clip_norm,
            check_every=25,
        )  # fmt: skip
        before, models = train(task, recipe, TRIALS, case.budget, sequences=sequences)
        reports = [report(model, task) for model in models]
        firsts = [each.verdict.advice[0] for each in reports if each.verdict.advice]
        if not firsts:
            print(f"{case.name}: no report has a suggestion: {reports[0].verdict.headline}")
            continue
        chosen, votes = Counter(each.name for each in firsts).most_common(1)[0]
        advice = next(each for each in firsts if each.name == chosen)
        after = follow(case, advice, sequences)
        rows.append(
            {
                "training": case.name, "lag": task.delay - 1, "rate": case.rate,
                "budget": case.budget, "clip_norm": case.clip_norm,
                "solved before": sum(each is not None for each in before.sequences),
                "verdicts": [each.verdict.headline for each in reports],
                "horizons": [each.horizon for each in reports],
                "first suggestion": advice.text, "code": advice.code, "made by": votes,
                "solved after": sum(each is not None for each in after),
                "sequences": after, "trials": TRIALS,
                "seconds": round(time.perf_counter() - began, 1),
            }
        )  # fmt: skip
        row = rows[-1]
        print(
            f"{case.name}, lag {row['lag']}: {row['solved before']} of {TRIALS} solved; horizons "
            f"{row['horizons']}; {votes} of {TRIALS} say: {advice.text}; then "
            f"{row['solved after']} of {TRIALS} solved, {after} ({row['seconds']:.0f} s)",
            flush=True,
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the two short ones, nothing saved")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)  # the tensors are small
    rows = run(CASES[:2], 200) if quick else run(CASES, 1000)
    if quick:
        return
    record = {
        "command": "python experiments/advice/run.py",
        "date": date.today().isoformat(),
        "seed": 0,
        "units": UNITS,
        "sequences to an update": BATCH,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "rows": rows,
    }
    (FOLDER / "results.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
