"""Data prepared, a network made for them, and the training of the one on the other."""

import math
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.optim import Optimizer

from longlag.batch import Batch
from longlag.data import Columns, Preparation, SequenceData
from longlag.data.labels import expit, softmax
from longlag.gradients import BPTT, Loss, TruncatedBPTT
from longlag.gradients.losses import WeightedCrossEntropy, WeightedLogistic
from longlag.layers import ModelCard, SequenceModel
from longlag.messages import Setting
from longlag.pipeline.changes import Changes
from longlag.pipeline.classes import METRICS, of_labels
from longlag.pipeline.dataset import (
    Parts,
    earlier,
    fit_preparation,
    judged,
    lengths_of,
    pieces,
    prepare,
    stretches,
    told_once,
)
from longlag.pipeline.fitted import EVALUATED, Fitted
from longlag.pipeline.intervals import Intervals, blend, coverage
from longlag.pipeline.network import build_model, run_model, scale_readout
from longlag.pipeline.outputs import POINT, Outputs, outputs_of
from longlag.pipeline.relative import Relative
from longlag.pipeline.scores import Score, find_baseline, score
from longlag.pipeline.seen import Seen
from longlag.pipeline.settings import (
    BATCH,
    CARRIED,
    LONG,
    SHARES,
    WINDOW,
    Settings,
    SettingsError,
    shown,
)
from longlag.pipeline.updates import optimizer, schedule
from longlag.pipeline.weights import class_weights
from longlag.reservoirs import Ridge
from longlag.training import Checkpoint, EarlyStopping, History, fit
from longlag.training.optimizers import OptimizerLike
from longlag.training.ranks import fabric_for
from longlag.training.record import Record

if TYPE_CHECKING:
    from lightning_fabric.loggers.logger import Logger

FEW_STRETCHES, ORIGINS = 10, 2
"""A part held out of fewer seasons, over all series, is short; so many earlier origins help it."""

_NEVER = 10**9


class TrainingFailed(Exception):
    """The training ended with an error, its cause, after there had been weights worth keeping.

    Attributes:
        fitted: the network with the best weights so far, without a score.
        epoch: after which it had them.
    """

    def __init__(self, fitted: Fitted, epoch: int) -> None:
        self.fitted, self.epoch = fitted, epoch
        super().__init__(f"the training failed; the best weights so far are of epoch {epoch}")


class _Best:
    """The best weights so far, by what is monitored, whatever becomes of the run."""

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.history = History()
        self.loss, self.epoch = math.inf, 0
        self.weights: dict[str, torch.Tensor] = {}

    def __call__(self, record: Record, model: torch.nn.Module) -> None:
        self.history.records.append(record)
        loss = record.validation_loss
        if self.metric != "loss":
            loss = -record.metrics[self.metric]
        if loss is not None and loss < self.loss:
            self.loss, self.epoch = loss, record.epoch
            self.history.best_step = record.step
            self.weights = {name: w.detach().clone() for name, w in model.state_dict().items()}


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Everything that a training needs, before it.

    Attributes:
        settings: of network and training.
        parts: the data, in the units of the user.
        preparation: fitted on the training part.
        train, held_out: the parts as the network takes them; a forecaster's training part is cut
            into stretches.
        model: the network; `fit` trains it.
        changes: further features, fitted on the training part; None where there are none.
        relative: of a forecaster that reads and puts out relative values; else None.
        values: the part held out in the units of the preparation.
    """

    settings: Settings
    parts: Parts
    preparation: Preparation
    train: Batch[np.ndarray]
    held_out: Batch[np.ndarray]
    model: SequenceModel
    values: Batch[np.ndarray]
    changes: Changes | None = None
    relative: Relative | None = None

    @classmethod
    def of(
        cls,
        parts: Parts,
        settings: Settings,
        columns: Columns | None = None,
        like: Relative | None = None,
    ) -> "Pipeline":
        """Fit the preparation, prepare both parts, and make the network.

        Args:
            parts: the data.
            settings: of network and training.
            columns: those that the data were read with; they travel with the model.
            like: of a forecaster, one with the same season and units.

        Raises:
            DataError: the data cannot be prepared, or the parts do not fit each other.
        """
        relative = None
        preparation = fit_preparation(
            parts,
            settings.task,
            horizon=settings.steps_ahead,
            standardise=settings.standardise and not (settings.forecasting and settings.relative),
            columns=columns,
            missing=settings.missing,
            time_delta=settings.time_delta,
            embed=settings.embed or (),
        )
        if preparation.classes is None and not preparation.label_sets:
            for name, none in (("metric", "loss"), ("class_weights", "none")):
                value = getattr(settings, name)
                if value != none:
                    raise SettingsError(
                        Setting(name), f": got {shown(value)}, but the target is numbers, not "
                        "classes; leave it out",
                    )  # fmt: skip
        if preparation.label_sets and settings.echo and settings.class_weights != "none":
            raise SettingsError(
                Setting("class_weights"), ": an echo state network has the readouts of all labels "
                "fitted at once, so that none of them can have weights of its own; leave it out, "
                "or use another ", Setting("cell"),
            )  # fmt: skip
        if preparation.known and not (settings.forecasting and settings.relative):
            raise SettingsError(
                Setting("relative"), f": got false, but {', '.join(preparation.known)} are known "
                "ahead, which a forecast relative to simple ones alone can use; leave it out",
            )  # fmt: skip
        values = prepare(preparation, parts.held_out, parts.held_out_path)
        held_out = values = judged(values, parts.known, ahead=settings.forecasting)
        train = prepare(preparation, parts.train, parts.train_path)
        class_weights(settings, preparation, train)  # an unknown class is told before training
        if settings.forecasting and settings.relative:
            horizon = settings.steps_ahead or 1
            places = preparation.repeated_inputs()[: len(preparation.target_names)]
            relative = Relative.fit(
                train, places, horizon, settings.season, standardise=settings.standardise,
                like=like, ahead=preparation.known_inputs(), coded=preparation.encoding.vectors,
            )  # fmt: skip
            train, held_out = relative.apply(train), relative.apply(values, parts.known)
        changes = changes_for(settings, train)
        if changes is not None:
            train, held_out = changes.apply(train), changes.apply(held_out)
        model = untrained(settings, preparation, train, relative)
        if settings.echo:
            train = _to_be_fitted(train, settings)
        elif settings.forecasting:
            train = stretches(train, settings.window or WINDOW)
        elif (window := window_of(train, settings)) is not None:
            train = pieces(train, 8 * window)
        return cls(settings, parts, preparation, train, held_out, model, values, changes, relative)

    def fit(
        self,
        *,
        checkpoint: str | Path | None = None,
        progress: bool = True,
        logger: "Logger | None" = None,
        licence: str | None = None,
        refit: bool = False,
    ) -> Fitted:
        """Train, keep the weights with the best validation loss, and score them.

        Of an echo state network the readout is fitted, in one step.

        Args:
            checkpoint: a folder to save the run in; if it holds one, it goes on from there. Not
                for an echo state network.
            progress: whether `longlag.training.fit` shows how far it is.
            logger: of Fabric; each record goes there, and the settings in the end.
            licence: of the weights, for the card.
            refit: whether, after the score, the network is made and trained anew on all data: as
                many updates as an epoch after another takes to the best one. The score is that
                of the first.

        Raises:
            NonFiniteLossError, TrainingInterrupted, OSError: see `longlag.training.fit`.
            TrainingFailed: any error, where there are weights to keep; they are in it.
        """
        baseline = find_baseline(self.preparation, self.parts.train)
        if self.settings.echo:
            history = self._fit_readout(checkpoint)
            before = self._earlier()
        else:
            best = _Best(self.settings.metric)
            try:
                history = self._train(checkpoint, progress, logger, best)
                before = self._earlier()
            except Exception as error:
                if not best.weights:
                    raise
                self.model.load_state_dict(best.weights)
                kept = replace(self.as_it_is(licence), history=best.history)
                raise TrainingFailed(kept, best.epoch) from error
        outputs = run_model(self.model, self.held_out, EVALUATED)
        share, intervals = 1.0, None
        if self.relative is not None:
            pairs = [*before, (np.asarray(self.held_out.target), outputs)]
            if self.puts_out is POINT:
                share = blend(pairs)
                pairs = [(target, share * output) for target, output in pairs]
                scale_readout(self.model, share)
            outputs, intervals = pairs[-1][1], Intervals.fit(pairs, self.puts_out)
        reached = self._judge(baseline, outputs)
        done = self
        if refit and self.parts.whole is not None:
            done = self._anew(self.parts.together())
            baseline = find_baseline(done.preparation, done.parts.train)
            done._fit_again(history)
            if share != 1.0:
                scale_readout(done.model, share)
        card = done._card(reached, licence)
        return Fitted(
            done.model, done.preparation, baseline, history, reached, card, done._seen(),
            done.changes, done.relative, intervals, self.puts_out,
        )  # fmt: skip

    def fit_blind(self) -> Fitted:
        """Train as `fit` does, but for the part held out: it neither ends the training, which makes
        all its updates, nor picks the weights. So it is there to judge them by, and is not scored.

        Raises:
            NonFiniteLossError: see `longlag.training.fit`.
        """
        each = -(-len(self.train.x) // self.settings.batch_for(len(self.train.x)))
        whole = History()
        whole.best_step = each * self.settings.epochs_for(each)
        self._fit_again(whole)
        baseline = find_baseline(self.preparation, self.parts.train)
        return Fitted(
            self.model, self.preparation, baseline, changes=self.changes,
            relative=self.relative, puts_out=self.puts_out,
        )  # fmt: skip

    @property
    def puts_out(self) -> Outputs:
        """What the network of a forecaster puts out for each value."""
        return outputs_of(self.settings.quantiles, self.settings.gaussian)

    def _seen(self) -> Seen:
        return Seen.of(self.parts.train, self.preparation.feature_names)

    def _judge(self, baseline: Any, outputs: np.ndarray) -> Score | None:
        """How good the outputs for the part held out are."""
        known, relative = self.parts.known, self.relative
        if relative is None:
            shares = self.settings.echo
            return score(self.preparation, baseline, self.values, outputs, shares=shares)
        forecasts = relative.restore(self.puts_out.point(outputs), self.values, known)
        reached = score(self.preparation, baseline, self.values, forecasts, relative, known)
        if reached is None:
            return None
        pair = np.asarray(self.held_out.target), outputs
        held = coverage(pair, known, lengths_of(self.held_out), self.puts_out)
        below, above = self.puts_out.tails
        return replace(reached, coverage=held, level=above - below)

    def _anew(self, parts: Parts) -> "Pipeline":
        """That of other parts, whose outputs are in the units of this one."""
        with told_once():
            return Pipeline.of(parts, self.settings, self.preparation.columns, self.relative)

    def _earlier(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Targets and outputs from two earlier origins, where the part held out is short.

        From few seasons neither how far the network is to be followed nor how sure it is can be
        told; the network is trained up to each of them, and forecasts the stretch after it.
        """
        parts, relative = self.parts, self.relative
        if relative is None or parts.whole is None or parts.known is None:
            return []
        stretch = max(relative.season, relative.horizon)
        if (parts.judged / stretch).sum() >= FEW_STRETCHES:
            return []
        settings, step = self.settings, np.minimum(parts.judged, stretch)
        least = 2 * relative.season + relative.horizon
        pairs = []
        for part in earlier(parts.whole, parts.judged, step, ORIGINS, least, parts.train_path):
            pipeline = self._anew(part)
            if settings.echo:
                pipeline._fit_readout(None)
            else:
                pipeline._updates(None, False, None, _Best(settings.metric))
            outputs = run_model(pipeline.model, pipeline.held_out, EVALUATED)
            pairs.append((np.asarray(pipeline.held_out.target), outputs))
        return pairs

    def _fit_again(self, before: History) -> None:
        """Fit without a part held out, for as long as was best with one."""
        if self.settings.echo:
            self._fit_readout(None)
            return
        settings = self.settings
        updates = before.best_step or len(before)
        _update(
            self.model,
            self.train,
            settings,
            optimizer(settings.optimizer, settings.learning_rate),
            loss=self.loss,
            scheduler=schedule(settings.scheduler, settings.learning_rate, updates),
            steps=updates,
            seed=settings.seed,
        )

    def as_it_is(self, licence: str | None = None) -> Fitted:
        """The network with the weights that it has, without a score."""
        return Fitted(
            self.model, self.preparation, find_baseline(self.preparation, self.parts.train),
            card=self._card(None, licence), seen=self._seen(), changes=self.changes,
            relative=self.relative, puts_out=self.puts_out,
        )  # fmt: skip

    def _card(self, reached: Score | None, licence: str | None) -> ModelCard:
        preparation, train = self.preparation, self.parts.train
        data: dict[str, Any] = {
            "task": preparation.task,
            "features": preparation.feature_names or preparation.input_size,
            "targets": preparation.classes or preparation.target_names,
            "series": len(train),
            "steps": sorted({int(train.lengths.min()), int(train.lengths.max())}),
            "series held out": len(self.parts.held_out),
        }
        if preparation.horizon is not None:
            data["horizon"] = preparation.horizon
        metrics = {}
        for measure in () if reached is None else reached.measures:
            metrics[measure.name] = measure.model
            metrics[f"{measure.name} of the baseline"] = measure.baseline
        training = {n: v for n, v in asdict(self.settings).items() if v is not None}
        del training["task"], training["seed"]
        training |= {"hidden": self.settings.units}
        seed = self.settings.seed
        return ModelCard("", licence, data, metrics, training, seed)

    def _train(
        self, checkpoint: str | Path | None, progress: bool, logger: "Logger | None", best: _Best
    ) -> History:
        if logger is None:
            return self._updates(checkpoint, progress, None, best)
        status = "failed"
        try:
            history = self._updates(checkpoint, progress, logger, best)
            with suppress(NotImplementedError):  # that for CSV has no place for them
                logger.log_hyperparams(asdict(self.settings))
            status = "success"
        finally:
            logger.finalize(status)
        return history

    def _updates(
        self, checkpoint: str | Path | None, progress: bool, logger: "Logger | None", best: _Best
    ) -> History:
        settings, count = self.settings, len(self.train.x)
        batch_size, window = settings.batch_for(count), window_of(self.train, settings)
        if window is not None:
            batch_size = settings.batch_size or BATCH
        windows = 1 if window is None else -(-self.train.x.shape[1] // window)
        each = windows * -(-count // batch_size)
        return fit(
            self.model,
            self.train,
            **options_of(settings, each),
            validation=self.held_out,
            method=BPTT() if window is None else TruncatedBPTT(window),
            epochs=settings.epochs_for(each),
            batch_size=batch_size,
            loss=self.loss,
            metrics=self._metrics(),
            checkpoint=None if checkpoint is None else Checkpoint(checkpoint),
            seed=settings.seed,
            progress=progress,
            callbacks=[best],
            nonfinite="skip",
            fabric=None if logger is None else fabric_for(torch.device("cpu"), logger),
        )

    def _metrics(self) -> dict[str, Any] | None:
        """What is measured after each epoch: of classes the accuracy, and what is asked for."""
        preparation = self.preparation
        shares_of_sets = preparation.label_sets and self.settings.echo
        if shares_of_sets or not (preparation.label_sets or preparation.classes):
            return None

        def measure(metric: str) -> Callable[..., float]:
            def of(output: torch.Tensor, target: torch.Tensor, weights: Any) -> float:
                each = None if weights is None else weights.double().numpy()
                if preparation.label_sets:
                    return of_labels(metric, expit(output.numpy()), target.numpy(), each)
                return METRICS[metric](softmax(output.numpy()), target.numpy(), each)

            return of

        accuracy = measure("accuracy") if preparation.label_sets else "accuracy"
        metrics: dict[str, Any] = {"accuracy": accuracy}
        if self.settings.metric not in ("loss", "accuracy"):
            metrics[self.settings.metric] = measure(self.settings.metric)
        return metrics

    @property
    def loss(self) -> str | Loss | None:
        """The loss where it is not that of `longlag.training.fit`."""
        return _loss_of(self.settings, self.preparation, self.train)

    def _fit_readout(self, checkpoint: str | Path | None) -> History:
        settings = self.settings
        with warnings.catch_warnings():
            if settings.read in SHARES and settings.alpha is None:
                # Of few series nearly any penalty may do; there is nothing for the user to mend.
                warnings.filterwarnings("ignore", "alpha: the best", RuntimeWarning)
            return self._solve(checkpoint)

    def _solve(self, checkpoint: str | Path | None) -> History:
        settings = self.settings
        return fit(
            self.model,
            self.train,
            validation=self.held_out,
            method=Ridge(
                settings.alpha,
                washout=settings.washout or 0,
                state_noise=settings.state_noise or 0.0,
            ),
            batch_size=settings.batch_size or EVALUATED,
            loss=self.loss if isinstance(self.loss, WeightedCrossEntropy) else None,
            metrics=self._metrics(),
            checkpoint=checkpoint,
            seed=settings.seed,
        )


def go_on(
    fitted: Fitted, settings: Settings, data: SequenceData, optimizer: Optimizer, seed: int
) -> None:
    """Train a network further: one pass over data that are prepared as the first ones were.

    Args:
        fitted: a network trained by updates, which is changed; it reads the values themselves.
        settings: those that it was made with.
        data: with the same features, and no other classes.
        optimizer: over the parameters of the network; its state goes on from call to call.
        seed: of the order.

    Raises:
        DataError: the data do not fit the first ones.
        NonFiniteLossError: see `longlag.training.fit`.
    """
    train = fitted.prepare(data)
    loss, window = _loss_of(settings, fitted.preparation, train), window_of(train, settings)
    if window is not None:
        train = pieces(train, 8 * window)
    _update(fitted.model, train, settings, optimizer, loss=loss, epochs=1, seed=seed)


def _update(
    model: SequenceModel,
    train: Batch[np.ndarray],
    settings: Settings,
    optimizer: OptimizerLike,
    **how: Any,
) -> None:
    """Updates without a part held out."""
    window = window_of(train, settings)
    fit(
        model,
        train,
        method=BPTT() if window is None else TruncatedBPTT(window),
        optimizer=optimizer,
        batch_size=settings.batch_for(len(train.x))
        if window is None
        else settings.batch_size or BATCH,
        clip_norm=settings.clip_norm,
        progress=False,
        **how,
    )


def _loss_of(
    settings: Settings, preparation: Preparation, train: Batch[np.ndarray]
) -> str | Loss | None:
    if settings.forecasting and settings.relative:
        return outputs_of(settings.quantiles, settings.gaussian).loss
    weights = class_weights(settings, preparation, train)
    if preparation.label_sets:
        return "logistic" if weights is None else WeightedLogistic(weights)
    return None if weights is None else WeightedCrossEntropy(weights)


def options_of(settings: Settings, each: int) -> dict[str, Any]:
    """Optimizer, schedule, clipping and early stopping as `fit` takes them.

    Args:
        settings: of network and training.
        each: updates an epoch.
    """
    updates = settings.epochs_for(each) * each
    patience = settings.patience_for(each) or _NEVER
    stopping = EarlyStopping(patience=patience)
    if settings.metric != "loss":
        stopping = EarlyStopping(settings.metric, patience=patience, mode="max")
    return {
        "optimizer": optimizer(settings.optimizer, settings.learning_rate),
        "scheduler": schedule(settings.scheduler, settings.learning_rate, updates),
        "clip_norm": settings.clip_norm,
        "early_stopping": stopping,
    }


def window_of(train: Batch[np.ndarray], settings: Settings) -> int | None:
    """Steps of the windows that carry the state on, where long series have a target at each step;
    None: they are read whole."""
    if settings.task != "tagging" or settings.echo or settings.bidirectional:
        return None
    if settings.window is None and train.x.shape[1] <= LONG:
        return None
    return settings.window or CARRIED


def changes_for(settings: Settings, train: Batch[np.ndarray]) -> Changes | None:
    """The further features of a network, fitted on the prepared training part, if it has some."""
    return Changes.fit(train, places=settings.places) if settings.read in SHARES else None


def untrained(
    settings: Settings,
    preparation: Preparation,
    train: Batch[np.ndarray],
    relative: Relative | None = None,
) -> SequenceModel:
    """The network of some settings for data that are prepared so, before it is trained.

    Args:
        settings: of the network.
        preparation: of its data.
        train: the training part as the network takes it.
        relative: what it reads, where it forecasts in relative values.
    """
    vectors = preparation.encoding.vectors
    if relative is not None:
        vectors = {relative.place(at): count for at, count in vectors.items()}
    return build_model(
        settings,
        input_size=train.x.shape[2],
        output_size=preparation.output_size
        * outputs_of(settings.quantiles, settings.gaussian).width,
        steps=train.x.shape[1],
        repeat=_repeated(settings, preparation),
        vectors=vectors,
    )


def _repeated(settings: Settings, preparation: Preparation) -> list[int] | None:
    """The inputs that a forecast starts from; none: an untrained network puts out zeros."""
    if not settings.forecasting:
        return None
    return [] if settings.relative else preparation.repeated_inputs()


def _to_be_fitted(train: Batch[np.ndarray], settings: Settings) -> Batch[np.ndarray]:
    """The training part as a readout is fitted on it: each step has all its targets, or none.

    Raises:
        SettingsError: there is no such step behind the washout.
    """
    target = train.target
    if target is None or not settings.at_each_step:
        return train
    if np.issubdtype(target.dtype, np.floating):
        target = np.where(np.isnan(target).any(axis=-1, keepdims=True), np.nan, target)
        due = ~np.isnan(target[..., 0])
    else:
        due = target >= 0
    steps = np.arange(due.shape[1])
    due &= (steps >= (settings.washout or 0)) & (steps < lengths_of(train)[:, None])
    if not due.any():
        raise SettingsError(
            Setting("washout"), f": got {settings.washout or 0}, but behind it no series of the "
            "training part has a step whose answer is known; give a smaller one, or longer series",
        )  # fmt: skip
    return train._replace(target=target)
