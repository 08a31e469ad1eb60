"""What `longlag train DATA --task forecasting` reaches on five sets, beside seasonal naive ones.

The last fifth of each series is kept away. The network is trained on the rest as the command line
does it, with no option but the horizon (and the season of half hours for solar, of which there are
six days), the last fifth of that being its validation part; then it forecasts from every step of
the fifth that was kept away, warm. results.json keeps MASE and the share that 80 % intervals held,
for each seed; started again, it goes on.

    python experiments/forecasting/run.py               all: some minutes on a core
    python experiments/forecasting/run.py airline       some
    python experiments/forecasting/run.py --local       a network for each series of two sets
"""

import json
import sys
import warnings
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from sets import SETS, Set

from longlag.lab.bench.document import resumed, write_tables
from longlag.pipeline.dataset import hold_out, judged, prepare
from longlag.pipeline.fitted import EVALUATED
from longlag.pipeline.fitting import Pipeline
from longlag.pipeline.network import run_model
from longlag.pipeline.scores import score
from longlag.pipeline.settings import Settings
from longlag.storage import atomic_write_text

FOLDER = Path(__file__).parent
RESULTS, PAGE = FOLDER / "results.json", FOLDER.parents[1] / "docs" / "forecasting.md"
SEEDS = 3
SEASONS = {"solar": 48}
LOCAL = ("load", "trend and season")
"""Sets whose series are many, and long enough for a network each."""


def forecast(data: Set, settings: Settings) -> dict[str, Any]:
    """Train on four fifths of each series; judge on the last one."""
    past = data.data.split_time(0.2)[0]
    parts = hold_out(past, "forecasting", share=0.2, seed=settings.seed, horizon=data.horizon)
    fitted = Pipeline.of(parts, settings).fit(progress=False, refit=True)
    relative, intervals = fitted.relative, fitted.intervals
    assert relative is not None
    assert intervals is not None
    values = judged(prepare(fitted.preparation, data.data), past.lengths)
    read = relative.apply(values, past.lengths)
    outputs = run_model(fitted.model, read, EVALUATED)
    forecasts = relative.restore(outputs, values, past.lengths)
    reached = score(fitted.preparation, None, values, forecasts, relative, past.lengths)
    assert reached is not None
    assert read.target is not None
    mase = reached.measures[0]
    return {
        "season": relative.season,
        "places": reached.places,
        "MASE": mase.model,
        "seasonal naive": mase.baseline,
        **dict(zip(reached.others, mase.others, strict=True)),
        "coverage": intervals.hold((read.target, outputs)),
    }


def local(data: Set, settings: Settings) -> dict[str, Any]:
    """A network for each series: the mean over all forecasts."""
    found = [
        forecast(Set(data.data.select([n]), data.horizon), settings) for n in range(len(data.data))
    ]
    places = sum(one["places"] for one in found)
    means = {
        name: sum(one["places"] * one[name] for one in found) / places
        for name in ("MASE", "seasonal naive", "coverage")
    }
    return {"season": found[0]["season"], "places": places, **means}


def main() -> None:
    """Run what is asked for and not done yet; keep each result, and write the page."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    results = resumed(RESULTS)
    asked = sys.argv[1:]
    for name in LOCAL if asked == ["--local"] else ():
        if name not in results.setdefault("local", {}):
            data = SETS[name]()
            season = results["sets"][name][0]["season"]
            settings = Settings("forecasting", horizon=data.horizon, season=season)
            results["local"][name] = local(data, settings)
            atomic_write_text(RESULTS, json.dumps(results, indent=1) + "\n")
            print("local", name, results["local"][name], flush=True)
    for seed in range(SEEDS):
        for name in SETS if asked in ([], ["--local"]) else asked:
            found = results["sets"].setdefault(name, [])
            if len(found) <= seed:
                data = SETS[name]()
                season = SEASONS.get(name)
                settings = Settings("forecasting", horizon=data.horizon, season=season, seed=seed)
                found.append(forecast(data, settings))
                atomic_write_text(RESULTS, json.dumps(results, indent=1) + "\n")
                print(seed, name, found[-1], flush=True)
    write_tables(PAGE, table(results))


def table(results: dict[str, Any]) -> str:
    """The table of the page."""
    sets: dict[str, list[dict[str, Any]]] = results["sets"]
    heads = ("MASE", "seasonal naive", "last value", "drift", "simple")
    made = f"Made on {results['date']} with longlag {results['longlag']}, torch {results['torch']}."
    rows = ["", made, "", "| set | horizon | season | " + " | ".join(heads) + " | 80 % held |"]
    rows.append("|---|" + "---:|" * (len(heads) + 3))
    for name, runs in sets.items():
        cells = [
            f"{mean(run.get(head, run['seasonal naive']) for run in runs):.2f}" for head in heads
        ]
        held = 100 * mean(run["coverage"] for run in runs)
        horizon, season = SETS[name]().horizon, runs[0]["season"]
        rows.append(f"| {name} | {horizon} | {season} | {' | '.join(cells)} | {held:.0f} % |")
    for name, run in results.get("local", {}).items():
        whole = sets[name][0]
        rows += [
            "",
            f"{name}, a network for each series: MASE {run['MASE']:.2f}, "
            f"{100 * run['coverage']:.0f} % held; one for all, of the same seed: "
            f"{whole['MASE']:.2f}, {100 * whole['coverage']:.0f} %.",
        ]
    return "\n".join([*rows, "", ""])


if __name__ == "__main__":
    main()
