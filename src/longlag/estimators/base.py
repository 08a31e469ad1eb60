"""What all estimators have in common: parameters, training by the pipeline, and their files."""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from typing_extensions import Self

from longlag.arguments import check_whole
from longlag.data import Columns, DataError, SequenceData, from_arrays, from_frame
from longlag.data.labels import Label
from longlag.data.task import Tags
from longlag.estimators.inputs import Frame, arrays
from longlag.messages import Fix, GuidedError, Worded, near_match
from longlag.pipeline.choosing import choose
from longlag.pipeline.dataset import Parts, hold_out
from longlag.pipeline.fitted import Answers, Fitted
from longlag.pipeline.fitting import Pipeline, go_on
from longlag.pipeline.settings import AUTO, ECHO, Settings, SettingsError
from longlag.pipeline.threads import threads
from longlag.pipeline.updates import optimizer

OURS = {
    "seed": "random_state",
    "class_weights": "class_weight",
    "validation": "validation_fraction",
    "backtest": "origins",
}
"""What some settings are called here."""

_FIXES = {
    "missing": "for NaN set missing='previous', 'mean' or 'indicator'",
    "cut short": "give a list of shorter series",
    "roles": "or say which column is what with columns=Columns(series=, time=, features=, "
    "target=); for a table with a row a series give X.to_numpy()",
    "stratified split": "validation_fraction: it",
    "smaller split": "Use a smaller validation_fraction",
}


def _say(part: Worded) -> str:
    if isinstance(part, Fix):
        return _FIXES.get(part.key, part.in_python)
    return part._replace(name=OURS.get(part.name, part.name)).in_python


@contextmanager
def worded() -> Iterator[None]:
    """Errors name the parameters of estimators inside."""
    try:
        yield
    except GuidedError as error:
        raise type(error)(error.told(_say)) from error


@dataclass(eq=False, repr=False, kw_only=True)
class Recurrent(BaseEstimator):
    """The parameters that all estimators have; their meaning is that of `longlag train`.

    They are the fields of `longlag.pipeline.settings.Settings`, which has their ranges and
    defaults, but for these:

    Args:
        validation_fraction: the share that is held out to keep the best weights by, in (0, 1): of
            each class, of the series, or in time where there is one series or in forecasting.
        refit: whether after that the network is trained anew on all data, for as many updates;
            None: where the cell was chosen.
        embed: the columns of which each category is a learned vector, not an input of its own, or
            "all" that hold categories; None: none.
        columns: which column of a frame is what; None: series, time and target by these names, all
            others are features.
        layout: "NTC", or "NCT" for arrays and lists as aeon has them; answers have the steps first.
        threads: processor threads, >= 1; more help large networks only, and change the last bits.
        verbose: whether `fit` shows how far it is.
        random_state: of the split, the first weights and the order: a whole number, which is the
            seed of `longlag train`; a `numpy.random.RandomState`; None: drawn anew.
    """

    cell: str | None = None
    hidden: int | None = None
    layers: int = Settings.layers
    dilated: bool = Settings.dilated
    orthogonal: bool = Settings.orthogonal
    dropout: float = Settings.dropout
    input_dropout: float = Settings.input_dropout
    recurrent_dropout: float = Settings.recurrent_dropout
    chrono: float | None = Settings.chrono
    spectral_radius: float | None = Settings.spectral_radius
    leak: float | None = Settings.leak
    density: float | None = Settings.density
    input_scaling: float | None = Settings.input_scaling
    bias_scaling: float | None = Settings.bias_scaling
    alpha: float | None = Settings.alpha
    washout: int | None = Settings.washout
    state_noise: float | None = Settings.state_noise
    places: bool = Settings.places
    window: int | None = Settings.window
    epochs: int | None = Settings.epochs
    patience: int | None = Settings.patience
    batch_size: int | None = Settings.batch_size
    learning_rate: float = Settings.learning_rate
    optimizer: str = Settings.optimizer
    scheduler: str = Settings.scheduler
    clip_norm: float | None = Settings.clip_norm
    standardise: bool = Settings.standardise
    missing: str = Settings.missing
    time_delta: bool = Settings.time_delta
    embed: str | Sequence[str] | None = Settings.embed
    validation_fraction: float = 0.2
    refit: bool | None = None
    columns: Columns | None = None
    layout: str = "NTC"
    threads: int = 1
    verbose: bool = False
    random_state: Any = None

    _TASKS: ClassVar[tuple[str, ...]] = ()
    """Those that it has; its file must be of one."""

    @property
    def _task(self) -> str:
        """The one that it has by its parameters."""
        raise NotImplementedError

    @property
    def _tags(self) -> Tags:
        return "auto"

    def _columns_of(self, data: SequenceData) -> Columns:
        """Those that travel with the network."""
        return self.columns or Columns()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = self.missing != "error"
        return tags

    def save(self, path: str | Path) -> None:
        """Write it to one file, whole or not at all, without pickle.

        It is a file as `longlag train` saves it: `longlag predict`, `report`, `show` and `export`
        take it.

        Raises:
            NotFittedError: it is not fitted.
            OSError: the file cannot be written.
        """
        check_is_fitted(self, "fitted_")
        params = {name: _plain(value) for name, value in self.get_params(deep=False).items()}
        weights = params.get("class_weight")
        if isinstance(weights, Mapping):  # JSON has no keys but text
            params["class_weight"] = [[_plain(k), _plain(v)] for k, v in weights.items()]
        if params["columns"] is not None:
            params["columns"] = params["columns"].to_dict()
        if not isinstance(params["random_state"], int):
            params["random_state"] = None
        record = {"parameters": params, **self._remembered()}
        replace(self.fitted_, estimator=record).save(path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` or `longlag train` wrote; nothing in the file is run.

        A file of `longlag train` says nothing of parameters, so that they are the defaults.

        Raises:
            ValueError, DataError, ArchiveError: it is another file, of another task, or damaged.
        """
        fitted = Fitted.load(path)
        preparation = fitted.preparation
        task = preparation.task
        if task == "tagging":
            classes = preparation.classes is not None or preparation.label_sets
            task += " of classes" if classes else " of numbers"
        if task not in cls._TASKS:
            raise ValueError(
                f"{path}: it holds a network for {task}; expected one for {' or '.join(cls._TASKS)}"
            )
        record = fitted.estimator
        if record is None:
            record = {"parameters": cls._parameters_of(fitted)}
        known = {own.name for own in fields(cls)}
        try:
            given = dict(record["parameters"])
            for name in given:
                if name not in known:
                    raise ValueError(f"unknown parameter {name!r}{near_match(name, known)}")
            if isinstance(given.get("columns"), Mapping):
                given["columns"] = Columns.from_dict(given["columns"])
            if isinstance(given.get("class_weight"), list):
                given["class_weight"] = dict(given["class_weight"])
            own = cls(**given)
            own._keep(fitted)
            own._recall(record)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: what it says of its estimator is damaged ({error})"
            ) from error
        return own

    @classmethod
    def _parameters_of(cls, fitted: Fitted) -> dict[str, Any]:
        """What a file without parameters tells of them."""
        return {"columns": fitted.preparation.columns}

    def _remembered(self) -> dict[str, Any]:
        """What its answers need beside parameters and network, as JSON data."""
        return {}

    def _recall(self, record: Mapping[str, Any]) -> None:
        """The opposite of `_remembered`; the network is there already."""

    def _settings(self, seed: int, *, by_updates: bool = False) -> Settings:
        """The settings among the parameters.

        Args:
            seed: drawn by `random_state`.
            by_updates: whether the network must be one that is trained by updates.
        """
        values: dict[str, Any] = {"task": self._task, "seed": seed}
        for own in fields(Settings):
            name = OURS.get(own.name, own.name)
            if own.name not in values and name in self.__dict__:
                values[own.name] = _plain(getattr(self, name))
        if "class_weights" in values:
            values["class_weights"] = self._class_weights(values["class_weights"])
        embed = values["embed"]
        if embed is not None:
            values["embed"] = (embed,) if isinstance(embed, str) else tuple(embed)
        cell = values.pop("cell") or Settings.cell
        settings = Settings(**values, cell=cell)
        if self.cell is None and settings.is_open and not by_updates:
            settings = replace(settings, cell=AUTO)
        return settings

    def _class_weights(self, given: Any) -> Any:
        """Those of the classes as the pipeline has them."""
        return given or "none"

    def _seed(self) -> int:
        state = self.random_state
        if isinstance(state, numbers.Integral):
            return check_whole("random_state", int(state), 0)
        return int(check_random_state(state).randint(2**31 - 1))

    def _sequences(self, X: Any, *, new: bool = False, with_target: bool = False) -> SequenceData:
        """Series as the pipeline takes them.

        Args:
            X: arrays, a list, or a frame.
            new: whether they are to be fitted on; else the columns are those of the fit.
            with_target: whether the targets are among the columns of the frame.
        """
        missing = self.missing != "error"
        if isinstance(X, Frame):
            columns = self.columns
            if columns is not None and not isinstance(columns, Columns):
                raise TypeError(f"columns: got {columns!r:.80}, expected longlag.data.Columns(...)")
            if not new:
                columns = self.fitted_.preparation.columns or columns
            if columns is not None and columns.weight is not None and new and not with_target:
                raise DataError(
                    f"columns: weight={columns.weight!r} is for targets that are columns of the "
                    "frame too, and y is given; leave it out, and give sample_weight"
                )
            return from_frame(
                X, task=self._task, columns=columns, missing=missing, tags=self._tags,
                require_target=True if with_target else None,
            )  # fmt: skip
        x, lengths = arrays(X, self.layout, estimator=self)
        if x.ndim == 2 and not new and self.n_features_in_ > 1:
            raise DataError(
                f"X: got shape {x.shape}, which is {len(x)} series of {x.shape[1]} steps of one "
                f"feature, expected {self.n_features_in_} features at each step as in the training "
                "data; for one series of them give X[None]"
            )
        return from_arrays(x, None, lengths, task=self._task, missing=missing)

    def _train(self, data: SequenceData) -> Self:
        """What `longlag train` does."""
        settings = self._settings(self._seed())
        if len(data) < 2 and not settings.at_each_step:
            raise DataError(
                "X: got n_samples=1, expected 2 series or more, of which some are held out"
            )
        with threads(self.threads):
            parts = hold_out(
                data, settings.task, share=self.validation_fraction, seed=settings.seed,
                horizon=settings.steps_ahead,
            )  # fmt: skip
            refit = settings.fits_anew if self.refit is None else self.refit
            settings, tried = choose(parts, settings)
            pipeline = Pipeline.of(parts, settings, self._columns_of(data))
            fitted = pipeline.fit(progress=self.verbose, refit=refit)
        self._keep(fitted)
        self.settings_, self.tried_ = settings, tried
        return self

    def _train_further(self, data: SequenceData, classes: Sequence[Label] | None = None) -> Self:
        """One pass over the data; at first a network is made and its preparation fitted on them."""
        with threads(self.threads):
            if "fitted_" not in self.__dict__:
                settings = self._settings(self._seed(), by_updates=True)
                self._check_goes_on(settings)
                parts = Parts(data, data, classes=classes)
                pipeline = Pipeline.of(parts, settings, self._columns_of(data))
                self._keep(pipeline.as_it_is())
                self.settings_, self.tried_ = settings, []
            settings = getattr(self, "settings_", None)
            if settings is None:
                raise SettingsError(
                    "partial_fit: of a network from a file nothing says how it was "
                    "trained; call fit or partial_fit on a new estimator"
                )
            self._check_goes_on(settings)
            state = self.__dict__.get("_going_on")
            if state is None:
                parameters = list(self.fitted_.model.parameters())
                make = optimizer(settings.optimizer, settings.learning_rate)
                state = make(parameters), 0
            go_on(self.fitted_, settings, data, state[0], settings.seed + state[1])
            self._going_on = (state[0], state[1] + 1)
        return self

    def _check_goes_on(self, settings: Settings) -> None:
        if settings.cell in (ECHO, AUTO):
            raise SettingsError(
                f"partial_fit: the readout of cell={settings.cell!r} is fitted in one step, on all "
                "data; use fit, or another cell such as 'gru'"
            )
        if settings.scheduler != "none":
            raise SettingsError(
                f"partial_fit: scheduler={settings.scheduler!r} needs to know how many updates "
                "there will be; use scheduler='none', or fit"
            )

    def _keep(self, fitted: Fitted) -> None:
        """Take a fitted network; what was learnt before is forgotten."""
        for name in [name for name in self.__dict__ if name.endswith("_") or name == "_going_on"]:
            del self.__dict__[name]
        preparation = fitted.preparation
        self.fitted_ = fitted
        self.n_features_in_ = len(preparation.inputs.mean) - preparation.encoding.time_delta
        if preparation.feature_names is not None:
            self.feature_names_in_ = np.array(preparation.feature_names, object)

    def _answers(self, data: SequenceData) -> Answers:
        with threads(self.threads):
            return self.fitted_.predict(data)


def _plain(value: Any) -> Any:
    """A number of NumPy, as a grid of parameters may hold it, as Python's own."""
    return value.item() if isinstance(value, np.generic) else value
