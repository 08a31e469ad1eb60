"""What `longlag train DATA --task classification` reaches on 13 public sets, beside three others.

The defaults were chosen by cross-validation on the training parts of six of the sets (choose.py);
the other seven were not looked at. Of each set and seed the whole training is run, as the command
line runs it: 20 % held out, candidates tried on folds of the rest, the chosen one scored and then
fitted anew on all of the training part. The test part is looked at once, at the end. Beside it, of
aeon and scikit-learn with their defaults: MiniRocket; 1-nearest-neighbour with dynamic time
warping; ridge regression on the values (series cut or filled with zeros to one length).

What is done is kept in results.json: started again, it goes on.

    python experiments/classification/run.py               all: about 20 minutes on a core
    python experiments/classification/run.py CBF OSULeaf   some
"""

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from sets import CHOSEN_ON, SETS, Set

from longlag.lab.bench.document import resumed, write_tables
from longlag.pipeline.choosing import choose
from longlag.pipeline.dataset import hold_out
from longlag.pipeline.fitting import Pipeline
from longlag.pipeline.settings import Settings
from longlag.storage import atomic_write_text

FOLDER = Path(__file__).parent
RESULTS, PAGE = FOLDER / "results.json", FOLDER.parents[1] / "docs" / "classification.md"
SEEDS = 5


def ours(data: Set, seed: int) -> dict[str, Any]:
    """The command line's way, from data to the share of test series that are told right."""
    began = time.process_time()
    parts = hold_out(data.train, "classification", share=0.2, seed=seed)
    settings, tried = choose(parts, Settings("classification", cell="auto", seed=seed))
    fitted = Pipeline.of(parts, settings).fit(progress=False, refit=True)
    seconds = time.process_time() - began
    score = fitted.predict(data.test)[1]
    assert score is not None
    assert fitted.score is not None
    return {
        "accuracy": score.measures[0].model,
        "held out": fitted.score.measures[0].model,
        "seconds": round(seconds, 1),
        "tried": {one.name: one.accuracy for one in tried},
        "taken": settings.cell,
    }


def _cube(data: Set) -> list[np.ndarray]:
    """Both parts as aeon takes them: (N, C, T), of one length."""
    steps = int(data.train.lengths.max())
    cubes = []
    for part in data:
        x = np.zeros((len(part), steps, part.x.shape[2]))
        x[:, : part.x.shape[1]] = part.x[:, :steps]
        cubes.append(x.transpose(0, 2, 1))
    return cubes


def mini_rocket(data: Set, seed: int) -> float:
    """A. Dempster et al., MiniRocket, KDD 2021."""
    from aeon.classification.convolution_based import MiniRocketClassifier

    train, test = _cube(data)
    model = MiniRocketClassifier(random_state=seed)
    model.fit(train, data.train.target)
    return float((model.predict(test) == data.test.target).mean())


def nearest(data: Set, seed: int) -> float | None:
    """One neighbour, dynamic time warping without a window; series of their own lengths.

    None where it would take minutes.
    """
    steps = float(data.train.lengths.mean())
    if len(data.train) * len(data.test) * steps**2 > 3e10:
        return None
    from aeon.classification.distance_based import KNeighborsTimeSeriesClassifier

    del seed
    train, test = (
        [x[:n].T.astype(np.float64) for x, n in zip(part.x, part.lengths, strict=True)]
        for part in data
    )
    model = KNeighborsTimeSeriesClassifier(distance="dtw", n_neighbors=1)
    model.fit(train, data.train.target)
    return float((model.predict(test) == data.test.target).mean())


def ridge(data: Set, seed: int) -> float:
    """Ridge regression on the values, its penalty by leave-one-out."""
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    del seed
    train, test = (x.reshape(len(x), -1) for x in _cube(data))
    model = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-3, 3, 10)))
    model.fit(train, data.train.target)
    return float(model.score(test, data.test.target))


OTHERS: dict[str, tuple[Callable[[Set, int], float | None], int]] = {
    "MiniRocket": (mini_rocket, SEEDS),
    "1-NN DTW": (nearest, 1),
    "ridge": (ridge, 1),
}
"""Each with its number of seeds: two of them draw nothing."""


def main() -> None:
    """Run what is asked for and not done yet; keep each result, and write the page."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    names = sys.argv[1:] or list(SETS)
    results = resumed(RESULTS)

    def keep(of: list[Any], done: Any) -> None:
        of.append(done)
        atomic_write_text(RESULTS, json.dumps(results, indent=1) + "\n")

    for seed in range(SEEDS):
        for name in names:
            data, found = None, results["sets"].setdefault(name, {"longlag": []})
            if len(found["longlag"]) <= seed:
                data = data or SETS[name]()
                keep(found["longlag"], ours(data, seed))
                print(seed, name, found["longlag"][-1], flush=True)
            for other, (run, seeds) in OTHERS.items():
                of = found.setdefault(other, [])
                if len(of) <= seed < seeds:
                    data = data or SETS[name]()
                    keep(of, run(data, seed))
                    print(seed, name, other, of[-1], flush=True)
    write_tables(PAGE, tables(results["sets"]))


def tables(sets: dict[str, Any]) -> str:
    """The two tables of the page."""
    head = "| set | longlag, as it comes | seeds | seconds | MiniRocket | 1-NN DTW | ridge |"
    made = ""
    for title, chosen in (("Chosen on their training parts", True), ("Not looked at", False)):
        rows = [head, "|" + "---|" * 7]
        of = {n: s for n, s in sets.items() if (n in CHOSEN_ON) == chosen and s["longlag"]}
        if not of:
            continue
        for name, found in of.items():
            runs = found["longlag"]
            accuracies = [100 * run["accuracy"] for run in runs]
            seconds = mean(run["seconds"] for run in runs)
            others = " | ".join(_share(found.get(other, [])) for other in OTHERS)
            spread = f"{mean(accuracies):.1f} ({min(accuracies):.1f} to {max(accuracies):.1f})"
            rows.append(f"| {name} | {spread} | {len(runs)} | {seconds:.0f} | {others} |")
        ours_mean = mean(mean(r["accuracy"] for r in s["longlag"]) for s in of.values())
        rest = " | ".join(
            _share([value for s in of.values() for value in _mean(s.get(other, []))])
            if all(_mean(s.get(other, [])) for s in of.values()) else "-"
            for other in OTHERS
        )  # fmt: skip
        rows.append(f"| mean | {100 * ours_mean:.1f} | | | {rest} |")
        made += f"\n{title}:\n\n" + "\n".join(rows) + "\n"
    return made


def _mean(values: list[float | None]) -> list[float]:
    """The mean of what was run, if anything was."""
    known = [value for value in values if value is not None]
    return [mean(known)] if known else []


def _share(values: list[float | None]) -> str:
    return "".join(f"{100 * value:.1f}" for value in _mean(values)) or "not run"


if __name__ == "__main__":
    main()
