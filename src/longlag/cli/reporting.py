"""What is said of data and network before the training, and of its end; scores as a table."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Column, Table

from longlag.data import Preparation, SequenceData
from longlag.layers import EchoState
from longlag.layers.embedded import embedding_size
from longlag.messages import count
from longlag.pipeline import classes
from longlag.pipeline.backtest import Backtest, by_step
from longlag.pipeline.choosing import Tried
from longlag.pipeline.dataset import Parts
from longlag.pipeline.fitted import Fitted
from longlag.pipeline.fitting import Pipeline
from longlag.pipeline.scores import Score
from longlag.pipeline.settings import Settings
from longlag.storage import atomic_write
from longlag.training import History

_LISTED = 8
_SHOWN = 10


def understood(console: Console, pipeline: Pipeline) -> None:
    """Print what was read, how it is split, and the network."""
    parts, preparation = pipeline.parts, pipeline.preparation
    stretches = len(pipeline.train.x)
    own_file = parts.train_path != parts.held_out_path
    names = preparation.feature_names
    features = "" if names is None else f" ({_listed(names)})"
    line(console, f"{parts.train_path}: {preparation.task}")
    line(console, f"  features    {parts.train.x.shape[2]}{features}")
    for text in _encoded(preparation, parts.train):
        line(console, f"              {text}")
    if preparation.classes is not None:
        line(console, f"  classes     {_classes(preparation, parts.train)}")
    elif preparation.task == "forecasting":
        steps = count(preparation.horizon or 1, "step")
        line(console, f"  to forecast {_listed(preparation.target_names)}, {steps} ahead")
        if pipeline.relative is not None:
            season, asked = pipeline.relative.season, pipeline.settings.season is not None
            found = "" if asked else ", found in the training part"
            said = f"{season} steps" if season > 1 else "none"
            line(console, f"  season      {said}{found}")
    elif preparation.label_sets:
        line(console, f"  labels      {_label_sets(preparation, parts.train)}")
    else:
        where = ", numbers at each step" if preparation.reduce is None else ""
        line(console, f"  targets     {_listed(preparation.target_names)}{where}")
    if parts.train.weights is not None and preparation.columns is not None:
        line(console, f"  weights     {_weights(preparation.columns.weight, parts.train.weights)}")
    kind = "stretches" if preparation.task == "forecasting" else "pieces"
    cut = f", in {stretches} {kind}" if stretches != len(parts.train) else ""
    line(console, f"  training    {_described(parts.train)}{cut}")
    where = f" of {parts.held_out_path}" if own_file else ", held out"
    if not own_file and set(parts.train.names) == set(parts.held_out.names):
        where = ", the last ones in time, held out"
    line(console, f"  validation  {_described(parts.held_out, parts.judged)}{where}")
    line(console, "")
    line(console, str(pipeline.model.summary()))
    line(console, "")


def chosen(console: Console, tried: Sequence[Tried], settings: Settings) -> None:
    """Print what was tried before this network was taken."""
    if not tried:
        return
    line(console, "Told right on folds of the training part, and the Brier score of the answers:")
    for one in tried:
        found = one.why_not
        if one.accuracy is not None:
            found = f"{100 * one.accuracy:.1f} %, {one.error:.3f}"
        taken = "  <- taken" if one.settings == settings else ""
        line(console, f"  {one.name}: {found}, {one.seconds:.0f} s{taken}")
    line(console, "")


def ended(console: Console, fitted: Fitted, parts: Parts) -> None:
    """Print why training ended, and the result on the validation part."""
    history = fitted.history
    assert history is not None
    if isinstance(fitted.model.layer, EchoState):
        seconds = history.records[-1].seconds
        line(console, f"the readout was fitted in one step, in {seconds:.1f} s")
    else:
        _trained(console, history)
    if fitted.score is not None:
        title = f"Validation on {_described(parts.held_out, parts.judged)}"
        show(console, title, fitted.score, fitted.preparation.classes)


def _trained(console: Console, history: History) -> None:
    best = next((r for r in history.records if r.step == history.best_step), None)
    why = {
        "early stopping": "the validation loss had stopped improving",
        "epochs": "all epochs were made",
        "not finite": "loss or gradient were no longer finite",
    }.get(history.stopped, history.stopped)
    kept = "" if best is None else f"; kept are the weights of epoch {best.epoch}"
    last = history.records[-1].epoch
    line(console, f"{count(last, 'epoch')}, {count(len(history), 'update')}: {why}{kept}")
    if history.skipped:
        line(
            console,
            f"{count(history.skipped, 'update')} left out, because loss or gradient were infinite "
            "or NaN; a smaller --learning_rate or --clip_norm may do better.",
        )
    if history.step == "eager":
        line(console, f"The updates were not compiled, which takes longer: {history.reason}.")
    if best is not None and history.stopped == "epochs" and best.epoch > 0.9 * last:
        line(console, "It was still improving: more --epochs may do better.")


def show(
    console: Console, title: str, result: Score, names: tuple[object, ...] | None = None
) -> None:
    """Print the score as a table, and say so where the network is no better than the baseline.

    Of classes with these names, that are few, each is shown with what it was taken for.
    """
    line(console, title)
    heads = ("model", "baseline", *result.others)
    table = Table("measure", *(Column(name, justify="right") for name in heads))
    for measure in result.measures[:_SHOWN]:
        numbers = (measure.model, measure.baseline, *measure.others)
        table.add_row(measure.name, *(_cell(number, measure.share) for number in numbers))
    console.print(table)
    if len(result.measures) > _SHOWN:
        line(console, f"... and {len(result.measures) - _SHOWN} more rows")
    line(console, f"baseline: {result.baseline}")
    if result.coverage is not None:
        held = f"{100 * result.coverage:.0f} %"
        wanted = f"{100 * result.level:.0f} %"
        line(console, f"intervals made to hold {wanted} of the values held {held}")
    if result.confusion is not None and names is not None and len(names) <= _SHOWN:
        console.print(_by_class(result.confusion, names))
    if not result.is_better:
        line(
            console,
            "The model is no better than the baseline: it has learnt nothing of use yet. Try more "
            "--epochs, another --learning_rate, a larger --hidden, or more data.",
        )


def backtested(console: Console, found: Backtest) -> None:
    """Print how good forecasts from several origins were, by step ahead."""
    console.print()
    line(console, f"Backtest: forecasts from {count(found.origins, 'origin')}, a horizon apart")
    heads = [f"MASE {name}" for name in found.names]
    heads += [f"RMSSE {name}" for name in found.names[:2]]
    heads.append(f"{100 * found.level:.0f} % held")
    table = Table("step", *(Column(name, justify="right", overflow="fold") for name in heads))
    for step, (*errors, held) in by_step(found):
        table.add_row(step, *(f"{error:.3f}" for error in errors), f"{100 * held:.0f} %")
    console.print(table)


def _by_class(matrix: np.ndarray, names: tuple[object, ...]) -> Table:
    """Each class with what it was taken for, and how well it is found."""
    heads = [*(f"as {name}" for name in names), "recall", "precision", "F1"]
    right = [Column(name, justify="right", overflow="fold") for name in heads]  # none is cut off
    table = Table("class", *right, collapse_padding=True, pad_edge=False)
    columns = (classes.recall(matrix), classes.precision(matrix), classes.f1(matrix))
    for k, name in enumerate(names):
        shares = ("" if np.isnan(column[k]) else f"{column[k]:.3f}" for column in columns)
        table.add_row(str(name), *map(str, matrix[k].tolist()), *shares)
    return table


def line(console: Console, text: str) -> None:
    """Print a line as it stands, whatever the width."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def draw(history: History, path: Path) -> None:
    """Write the learning curves, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    figure, suffix = history.plot(), path.suffix[1:].lower()
    atomic_write(path, lambda file: figure.savefig(file, format=suffix, dpi=150))


def _described(data: SequenceData, lengths: NDArray[np.int64] | None = None) -> str:
    lengths = data.lengths if lengths is None else lengths
    short, long = int(lengths.min()), int(lengths.max())
    steps = count(long, "step") if short == long else f"{short} to {long} steps"
    return f"{count(len(data), 'series')} of {steps}"


def _encoded(preparation: Preparation, train: SequenceData) -> Iterator[str]:
    """What becomes of features that are not plain numbers."""
    names, encoding = preparation.feature_names or (), preparation.encoding
    for at, categories in encoding.categories:
        read = "an input each"
        if at in encoding.embedded:
            read = f"each a learned vector of {count(embedding_size(len(categories)), 'number')}"
        yield f"{names[at]}: {len(categories)} categories ({_listed(categories)}), {read}"
    for name in train.dates:
        yield f"{name}: dates, as days since 1970"
    missing = np.isnan(train.x[train.valid]).mean()
    if encoding.missing != "error":
        share = f"{100 * missing:.1f} % of the values are missing"
        indicators = len(encoding.indicated)
        told = f", told by {count(indicators, 'more input')}" if indicators else ""
        way = "the mean" if encoding.missing == "indicator" else f"the {encoding.missing}"
        yield f"{share}; {way} is filled in{told}"
    if encoding.time_delta:
        yield "the time since the step before is a feature"


def _classes(preparation: Preparation, train: SequenceData) -> str:
    assert train.target is not None
    labels = train.target[train.valid] if train.tagged else train.target
    labels_seen, counts = np.unique(labels, return_counts=True)
    share = 100 * counts.max() / counts.sum()
    most = labels_seen[counts.argmax()].item()
    classes = preparation.classes or ()
    return f"{len(classes)} ({_listed(classes)}); the most frequent, {most!r}, {share:.0f} %"


def _label_sets(preparation: Preparation, train: SequenceData) -> str:
    """Each label with the share of the series, or of the steps, of which it holds."""
    assert train.target is not None
    rows = train.target[train.valid] if train.tagged else train.target
    shares = zip(train.target_names, np.nanmean(rows, axis=0), strict=True)
    what = "steps" if train.tagged else "series"
    said = tuple(f"{name} {100 * share:.0f} %" for name, share in shares)
    return f"{len(said)}, of which each may hold ({_listed(said)} of the {what})"


def _weights(column: str | None, weights: NDArray[np.float64]) -> str:
    """What the series of the training part count for."""
    none = int((weights == 0).sum())
    without = f", {count(none, 'series')} of 0" if none else ""
    return f"of column {column}, {weights.min():g} to {weights.max():g}{without}"


def _listed(names: tuple[object, ...]) -> str:
    shown = ", ".join(map(str, names[:_LISTED]))
    return shown if len(names) <= _LISTED else f"{shown}, ... {names[-1]}"


def _cell(value: float, share: bool) -> str:
    return f"{100 * value:.1f} %" if share else f"{value:.4g}"
