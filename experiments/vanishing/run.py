"""Vanishing and exploding, measured: the figure of docs/vanishing.md, and its numbers.

Four panels. Untrained Elman networks of 32 units whose W has spectral radius 0.5, 1 and 3: the
norm of dh_t/dh_{t-k} by lag, with the bound (gamma ||W||)^k of the first; the norm of the state on
its way forward, with tanh and without; and two Elman networks trained on long lag 2b (lag 49), one
of which has learned it: the error by lag, and what exchanging the past changes.

    python experiments/vanishing/run.py         a minute on one core
"""

import json
import platform
from datetime import date
from pathlib import Path

import torch
from matplotlib.figure import Figure

import longlag as ll
from longlag.lab.reproduce.groups import Recipe
from longlag.lab.reproduce.recipes import adam
from longlag.lab.reproduce.trials import train
from longlag.memory import jacobian_norms, spectral_facts, state_norms
from longlag.tasks import LongLagRandom, Task

FOLDER = Path(__file__).parent
UNITS, STEPS, DELAY, TRIALS = 32, 100, 50, 5
RADII = {0.5: "tab:blue", 1.0: "tab:green", 3.0: "tab:red"}
RATES = {0.005: "tab:green", 0.001: "tab:orange"}


def untrained(radius: float, activation: str = "tanh") -> ll.Elman:
    return ll.Elman(
        2, UNITS, activation=activation, weight_hh_init=ll.init.SpectralRadius(radius), seed=0
    )


def elman(task: Task, replicas: int | None, seed: int) -> ll.SequenceModel:
    layer = ll.Elman(task.input_size, UNITS, replicas=replicas, seed=seed + 1)
    return ll.SequenceModel(layer, task.output_size, reduce=task.reduce, seed=seed + 2)


def trained(rate: float) -> tuple[int | None, ll.MemoryReport]:
    """Sequences until success and the report: of the first trial that succeeded, if one did."""
    task = LongLagRandom(DELAY, at_end=True)
    recipe = Recipe(elman, adam(rate), batch_size=8, clip_norm=1.0, check_every=25)
    outcome, models = train(task, recipe, TRIALS, 16_000)
    best = next((k for k, each in enumerate(outcome.sequences) if each is not None), 0)
    x = torch.from_numpy(task.test_batch(16, seed=9, index=0).x)
    return outcome.sequences[best], ll.memory_report(models[best], x, lag=DELAY - 1, exponents=0)


def main() -> None:
    torch.set_num_threads(1)  # the tensors are small
    drawing = Figure(figsize=(11, 7.6), layout="constrained")
    panels = drawing.subplots(2, 2)
    x = 0.3 * torch.randn(8, STEPS, 2, generator=torch.Generator().manual_seed(0))
    record: dict = {
        "command": "python experiments/vanishing/run.py", "date": date.today().isoformat(),
        "seed": 0, "units": UNITS, "python": platform.python_version(),
        "torch": torch.__version__, "untrained": [], "trained": [],
    }  # fmt: skip

    axes = panels[0, 0]
    for radius, colour in RADII.items():
        layer = untrained(radius)
        norms, facts = jacobian_norms(layer, x), spectral_facts(layer)
        (matrix,) = facts.matrices.values()
        curve = norms.largest.mean
        label = f"radius {radius:g}, ||W|| = {float(matrix.norm):.2f}"
        axes.semilogy(norms.lags, curve.exp(), color=colour, label=label)
        if radius < 1:
            bound = facts.log_bound(norms.lags)
            assert bound is not None
            axes.semilogy(norms.lags, bound.exp(), ":", color=colour, label="its bound")
        record["untrained"].append(
            {"radius": radius, "norm": float(matrix.norm),
             "vanishes by the bound": bool(facts.vanishes),
             "log norm at lag 50": float(curve[50])}
        )  # fmt: skip
    axes.set(title="dh(t)/dh(t-k), tanh", xlabel="lag k", ylabel="largest singular value",
             ylim=(1e-12, 1e6))  # fmt: skip

    axes = panels[0, 1]
    for radius, colour in RADII.items():
        found = state_norms(untrained(radius), x)
        assert found.linear is not None
        steps, linear = torch.arange(1, STEPS + 1), found.linear.clamp(max=1e38)
        axes.semilogy(steps, found.norms.median(0).values, color=colour, label=f"radius {radius:g}")
        axes.semilogy(steps, linear.median(0).values, ":", color=colour)
        record["untrained"][list(RADII).index(radius)] |= {
            "state norm at step 100": float(found.norms[:, -1].median()),
            "the same, linear, 1e38 at the most": float(linear[:, -1].median()),
        }
    axes.plot([], [], ":", color="gray", label="without tanh")
    axes.set(title="||h(t)|| on the way forward", xlabel="step t", ylim=(1e-1, 1e12))

    for rate, colour in RATES.items():
        solved, report = trained(rate)
        name = f"solved after {solved:,} sequences" if solved else "not solved"
        (flow,) = report.flow.layers
        assert flow.by_lag is not None
        axes = panels[1, 0]
        axes.semilogy(flow.by_lag / flow.by_lag[0], color=colour, label=name)
        axes = panels[1, 1]
        assert report.exchange is not None
        lags, effects = report.exchange.lags, report.exchange.effects
        axes.semilogy(lags, effects.clamp(min=1e-9), "o-", color=colour, label=name)
        record["trained"].append(
            {"rate": rate, "solved": solved, "horizon": report.horizon,
             "verdict": report.verdict.headline, "effect of the past at the lag":
             float(effects[lags.index(DELAY - 1)])}
        )  # fmt: skip
    panels[1, 0].axhline(0.01, color="gray", linewidth=0.8)
    panels[1, 0].set(title=f"Trained, lag {DELAY - 1}: the error of the last step", xlabel="lag",
                     ylabel="of that at lag 0", ylim=(1e-12, 10))  # fmt: skip
    panels[1, 1].set(title="The same networks: the past exchanged", xlabel="lag",
                     ylabel="change of the output", ylim=(1e-9, 10))  # fmt: skip
    for axes in panels.flat:
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="lower left" if axes is panels[0, 0] else "best")
    drawing.savefig(FOLDER / "figure.png", dpi=110)
    (FOLDER / "results.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
