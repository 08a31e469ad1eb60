"""The demo: an LSTM and an Elman network on digits read pixel by pixel, and on a long time lag.

Prints one table, writes a figure of the learning curves, and ends with a report: how far back do
the two networks of the long time lag remember? Run it with ``make demo``, or

    python examples/demo.py --folder demo
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

import longlag as ll
from longlag.memory.report import html
from longlag.training import StopTraining

EPOCHS = 60
LAG = 20


def digits(kind: str, seed: int) -> tuple[str, ll.SequenceModel, ll.History]:
    """Name a handwritten digit after reading its 64 pixels one by one."""
    task = ll.tasks.SequentialDigits()
    train, test = task.train, task.test
    options = {"recurrent_dropout": 0.1, "seed": seed}
    if kind == "LSTM":
        layer = ll.LSTM(1, 64, bias_init=ll.init.Chrono(longest=64), **options)
    else:
        layer = ll.Elman(1, 64, **options)
    model = ll.SequenceModel(layer, 10, reduce="last", seed=seed)
    steps = EPOCHS * -(-len(train.x) // 32)
    history = ll.fit(
        model,
        train,
        validation=test,
        metrics=["accuracy"],
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.01),
        scheduler=ll.Schedule(
            lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(
                optimizer, max_lr=0.01, total_steps=steps, pct_start=0.1
            ),
            every="step",
        ),
        epochs=EPOCHS,
        clip_norm=1.0,
        seed=seed,
    )
    return f"{history.records[-1].metrics['accuracy']:.1%} right", model, history


def long_lag(kind: str, seed: int) -> tuple[str, ll.SequenceModel, ll.History]:
    """Say the first of 20 symbols again, at the end."""
    task = ll.tasks.LongLag(delay=LAG)
    if kind == "LSTM":
        layer = ll.LSTM(task.input_size, 32, bias_init=ll.init.Chrono(longest=LAG), seed=seed)
    else:
        layer = ll.Elman(task.input_size, 32, seed=seed)
    model = ll.SequenceModel(layer, task.output_size, reduce=None, seed=seed)

    def predict(x: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
        with torch.no_grad():
            return model(torch.from_numpy(x)).numpy()

    def stop_when_solved(record: object, model: torch.nn.Module) -> None:
        if task.success(predict, sequences=100).success:
            raise StopTraining

    history = ll.fit(
        model,
        task.stream(batch_size=16, seed=seed),
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.01),
        steps=1500,
        validate_every=50,
        clip_norm=1.0,
        seed=seed,
        callbacks=[stop_when_solved],
    )
    found = task.success(predict)
    verdict = "success" if found.success else "failed"
    return f"{verdict}, {found.wrong / found.sequences:.0%} wrong", model, history


def memory(models: dict[str, ll.SequenceModel]) -> dict[str, ll.MemoryReport]:
    """How far back each network of the long lag remembers, when it says the last symbol."""
    task = ll.tasks.LongLag(delay=LAG)
    batch = task.test_batch(32, seed=0, index=0)
    x, target = torch.from_numpy(batch.x), torch.from_numpy(batch.target)
    return {
        net: ll.memory_report(model, x, target, lag=LAG, name=net) for net, model in models.items()
    }


def curves(runs: list[tuple[str, str, ll.History]]) -> Figure:
    """Training loss against steps, one panel a task."""
    drawing = Figure(figsize=(9, 3.6), layout="constrained")
    tasks = list(dict.fromkeys(task for task, _, _ in runs))
    panels = drawing.subplots(1, len(tasks), squeeze=False)[0]
    for axes, title in zip(panels, tasks, strict=True):
        for task, net, history in runs:
            if task == title:
                losses = np.asarray(history.losses)
                width = max(1, len(losses) // 100)
                smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
                axes.plot(np.arange(width, len(losses) + 1), smooth, label=net)
        axes.set(title=title, xlabel="training step", ylabel="training loss", yscale="log")
        axes.legend()
    return drawing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where the figure goes")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the tensors are small: a second thread only costs
    console = Console()
    table = Table(title="longlag demo")
    for name, side in (("Task", "left"), ("Net", "left"), ("Weights", "right"),
                       ("Result", "left"), ("Steps", "right"), ("Seconds", "right")):  # fmt: skip
        table.add_column(name, justify=side)
    runs, models = [], {}
    for title, train in (
        ("Digits by pixel", digits),
        (f"Long lag, p = {LAG}", long_lag),
    ):
        for net in ("LSTM", "Elman"):
            console.print(f"[bold]{title}[/bold]: {net}")
            started = time.perf_counter()
            result, model, history = train(net, arguments.seed)
            seconds = time.perf_counter() - started
            weights = f"{model.summary().parameters:,}"
            table.add_row(title, net, weights, result, f"{len(history):,}", f"{seconds:.1f}")
            runs.append((title, net, history))
            models[net] = model  # in the end those of the long lag
    arguments.folder.mkdir(parents=True, exist_ok=True)
    path = arguments.folder / "learning_curves.png"
    curves(runs).savefig(path, dpi=150)
    console.print(table)
    console.print(f"Learning curves: {path}")
    reports = memory(models)
    page = arguments.folder / "memory.html"
    html.write(reports, page)
    for report in reports.values():
        console.print(f"\n{report}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"\nBoth side by side: {page}")


if __name__ == "__main__":
    main()
