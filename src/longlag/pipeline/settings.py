"""How a network is made and trained, as data; what loads PyTorch is elsewhere."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from longlag import cells
from longlag.arguments import check_number, check_whole
from longlag.messages import GuidedError, Setting, near_match

WINDOW = 100
"""Steps of the stretches that a forecaster is trained on, unless the settings say otherwise."""

LONG, CARRIED = 1000, 200
"""Series of more steps, with a target at each, are trained on in windows of so many."""

BATCH, UPDATES = 16, 8
"""Without a batch size: so many sequences an update, or fewer for so many updates an epoch."""

EPOCHS, ENOUGH = 100, 1500
"""Without a number of epochs: so many, or more for so many updates; before those nothing stops it.

On small data a few series held out say too early that nothing improves any more."""

LOOKED_AT = (32, 1000)
"""The series, and the last steps of each, that a memory report looks at by default."""


ECHO = "echo"
"""The cell of an echo state network: a reservoir that stays as it was drawn; `Ridge` fits the
readout."""

AUTO = "auto"
"""In place of a cell: a few networks are tried; see `longlag.pipeline.choosing`."""

HIDDEN, RESERVOIR = 64, 2000
"""Units of a layer; of a reservoir whose shares tell classes apart."""

SHARES = ("share", "share_max")
"""Readings of a reservoir that stays as it is, from which no other cell can learn."""

LASTING = ("leaky", "indrnn")
"""Cells without gates, whose memory lasts by a number of each unit."""

_OF_ECHO = (
    "spectral_radius", "leak", "density", "input_scaling", "bias_scaling", "alpha", "washout",
    "state_noise",
)  # fmt: skip
_NOT_OF_ECHO = {
    "layers": "is one layer",
    "dilated": "is one layer",
    "orthogonal": "is not trained",
    "bidirectional": "reads forward",
    "dropout": "is not trained",
    "input_dropout": "is not trained",
    "recurrent_dropout": "is not trained",
    "chrono": "has no gate whose bias it could set",
    "embed": "is not trained, so that it reads an input for each category",
    "window": "reads whole series",
    **dict.fromkeys(
        (
            "metric",
            "quantiles",
            "gaussian",
            "epochs",
            "patience",
            "learning_rate",
            "optimizer",
            "scheduler",
            "clip_norm",
        ),
        "has its readout fitted in one step",
    ),
}

_OF_DATA = ("task", "standardise", "missing", "time_delta", "cell", "seed")
"""What may be said where network and training are left to `AUTO`."""

_OF_AUTO = (*_OF_DATA, "class_weights")
"""What may be said beside `AUTO`, where it is asked for."""

_LEAST = {
    "horizon": 1, "window": 2, "season": 1, "hidden": 1, "layers": 1, "washout": 0, "epochs": 1,
    "patience": 1, "batch_size": 1, "seed": 0,
}  # fmt: skip
_WORDS = {
    "metric": ("loss", "accuracy", "balanced_accuracy", "macro_f1", "auc"),
    "class_weights": ("none", "balanced"),
    "optimizer": ("adam", "adamw", "sgd", "rmsprop"),
    "scheduler": ("none", "one_cycle", "cosine", "plateau"),
}


class SettingsError(GuidedError):
    """Settings that do not go together; says which, and the fix."""


def are_levels(levels: Sequence[float]) -> bool:
    """Whether they are two or more levels of quantiles, in order.

    >>> are_levels((0.1, 0.5, 0.9)), are_levels((0.5, 0.1)), are_levels((0.0, 0.5))
    (True, False, False)
    """
    inside = all(0 < level < 1 for level in levels)
    return len(levels) > 1 and inside and list(levels) == sorted(set(levels))


@dataclass(frozen=True)
class Settings:
    """A task, the network for it and its training.

    Args:
        task: "classification", "regression", "tagging" or "forecasting".
        horizon: steps to forecast, >= 1; None: one. Forecasting only.
        window: the network is trained on stretches of this many steps, >= 2; None: `WINDOW`. In
            tagging the state goes on from one to the next, the gradient does not; None: `CARRIED`
            for series of more than `LONG` steps, else they are read whole. Forecasting and tagging
            only, the latter not `bidirectional`.
        season: of forecasting, the steps after which the series repeat themselves, >= 1; 1: they do
            not; None: found in the training part.
        relative: whether a forecaster learns what goes beyond a seasonal naive forecast, each
            series in units of its own, as `longlag.pipeline.relative.Relative` says; else it reads
            and puts out the values themselves. Forecasting only.
        quantiles: levels in (0, 1), two or more in order, of the quantiles that a forecaster puts
            out in place of the value, as `longlag.pipeline.outputs.Quantiles` says; None: none.
        gaussian: whether it puts out mean and standard deviation, as
            `longlag.pipeline.outputs.Gaussian` says.
        standardise: whether features and numeric targets are brought to mean 0 and deviation 1 of
            the training part.
        missing: what is done where a feature is missing: "error", "previous", "mean" or
            "indicator"; see `longlag.data.Encoding`.
        time_delta: whether the time since the step before is a feature.
        embed: the features whose categories are read as learned vectors, by names, or ("all",);
            None: each category is an input. See `longlag.Embedded`.
        cell: the recurrent cell, a key of `longlag.cells.CELLS`; or "echo"; or "auto", which
            `longlag.pipeline.choosing.choose` replaces, for classification.
        hidden: H, units of each layer and direction, >= 1; a multiple of the cell's groups. None:
            `HIDDEN`, or `RESERVOIR` where shares are read.
        layers: recurrent layers on one another, >= 1.
        dilated: whether each layer reads its past twice as many steps back as the one below: 1, 2,
            4, ...; of two layers or more.
        orthogonal: whether training keeps the recurrent matrix orthogonal; with the cell "elman"
            only.
        bidirectional: whether each layer reads both ways; not for forecasting.
        dropout: share in [0, 1) of the numbers between layers dropped in training.
        input_dropout: share in [0, 1) of the features dropped for a whole series.
        recurrent_dropout: share in [0, 1) of the state dropped for a whole series.
        chrono: the longest lag, > 2, up to which the memory lasts before training: by biases of the
            gates that keep the state, leaks from 1/2 to 1 / lag, or weights of `indrnn` by which
            half is left.
        reduce: what is read of a series that has one answer: "last", the state after its last step;
            "mean", the mean over its steps; "attention", one in which the weight of each step is
            learned, not with the cell "echo"; with the cell "echo" only "share", the share of the
            steps at which each unit is above 0, or "share_max", that of half of the units and of
            the others the greatest value. None: "last"; with the cell "echo" "share_max" for
            classes. Classification and regression only.
        places: whether the network also reads where in the series each step is; where shares are
            read only.
        spectral_radius, leak, density, input_scaling, bias_scaling: as of `longlag.EchoState`;
            None: its defaults; where shares are read, leaks spread evenly in their logarithm from
            1 to 4 / T, ten units read by each, and biases of 0.5. These and the next three with
            the cell "echo" only.
        alpha: the penalty of `longlag.Ridge`; None: by generalised cross-validation.
        washout: steps at the beginning of each series that the readout is not fitted on; None:
            none. Tagging and forecasting only.
        state_noise: noise on what drives its units while the readout is fitted, as of
            `longlag.Ridge`; None: none.
        metric: what the best weights are chosen by: "loss", of the validation part; of classes also
            "accuracy", "balanced_accuracy", "macro_f1" or "auc"; where several labels may hold,
            the mean of these over the labels, the accuracy that of all labels of an answer.
        class_weights: "none"; "balanced": errors of a class weigh as 1 / (how many there are of it
            in the training part); or the weight, > 0, of some classes by their names, the others 1.
            Where several labels may hold, the weight of a label is that of its errors where it
            holds, beside 1 where it does not: balanced, how often it does not by how often it does.
            Classes only; with the cell "echo" not where several may hold.
        epochs: passes over the training part at most, >= 1; None: `EPOCHS`, and at least `ENOUGH`
            updates.
        patience: epochs without a better validation loss, >= 1, after `ENOUGH` updates where the
            epochs are not given; None: never stop early.
        batch_size: sequences in an update, >= 1; None: few enough for some updates an epoch.
        learning_rate: size of the updates, > 0.
        optimizer: a key of `longlag.pipeline.updates.OPTIMIZERS`.
        scheduler: "none", "one_cycle", "cosine" or "plateau".
        clip_norm: scale a gradient with a larger norm down to this, > 0; None: never.
        seed: of the first weights and the order, >= 0.

    Raises:
        SettingsError: two of them do not go together.

    >>> Settings("tagging", horizon=3)
    Traceback (most recent call last):
    ...
    longlag.pipeline.settings.SettingsError: horizon: got 3, but tagging has none; leave it out
    """

    task: str
    horizon: int | None = None
    window: int | None = None
    season: int | None = None
    relative: bool = True
    quantiles: tuple[float, ...] | None = None
    gaussian: bool = False
    standardise: bool = True
    missing: str = "error"
    time_delta: bool = False
    embed: tuple[str, ...] | None = None
    cell: str = "gru"
    hidden: int | None = None
    layers: int = 1
    dilated: bool = False
    orthogonal: bool = False
    bidirectional: bool = False
    dropout: float = 0.0
    input_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    chrono: float | None = None
    reduce: str | None = None
    places: bool = False
    spectral_radius: float | None = None
    leak: float | None = None
    density: float | None = None
    input_scaling: float | None = None
    bias_scaling: float | None = None
    alpha: float | None = None
    washout: int | None = None
    state_noise: float | None = None
    metric: str = "loss"
    class_weights: str | Mapping[str, float] = "none"
    epochs: int | None = None
    patience: int | None = 20
    batch_size: int | None = None
    learning_rate: float = 0.003
    optimizer: str = "adam"
    scheduler: str = "none"
    clip_norm: float | None = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_values()
        for name, value, there in (
            ("horizon", self.horizon, self.forecasting), ("window", self.window, self.at_each_step),
            ("season", self.season, self.forecasting),
        ):  # fmt: skip
            if value is not None and not there:
                raise SettingsError(
                    Setting(name), f": got {value}, but {self.task} has none; leave it out"
                )
        if self.bidirectional and self.window is not None:
            raise SettingsError(
                Setting("window"), f": got {self.window}, but a network that reads backward too "
                "cannot go on from one stretch to the next; leave it out, or leave out ",
                Setting("bidirectional"),
            )  # fmt: skip
        if not self.relative and not self.forecasting:
            raise SettingsError(
                Setting("relative"), f": got false, but {self.task} has none; leave it out"
            )
        for name, value in (("quantiles", self.quantiles), ("gaussian", self.gaussian)):
            if value and not (self.forecasting and self.relative):
                raise SettingsError(
                    Setting(name), f": got {value}, but it is for forecasting relative to simple "
                    "forecasts; leave it out",
                )  # fmt: skip
        if self.quantiles is not None:
            levels = self.quantiles
            if not are_levels(levels):
                raise SettingsError(
                    Setting("quantiles"), f": got {', '.join(map(str, levels))}, expected two or "
                    "more levels between 0 and 1, each larger than the one before, such as "
                    "0.1,0.5,0.9",
                )  # fmt: skip
            if self.gaussian:
                raise SettingsError(
                    Setting("gaussian"), ": a network puts out quantiles or mean and deviation; "
                    "leave it out, or ", Setting("quantiles"),
                )  # fmt: skip
        if self.bidirectional and self.forecasting:
            raise SettingsError(
                Setting("bidirectional"), ": forecasting cannot have it, for a network that reads "
                "backward would see the future that it is to forecast; leave it out",
            )  # fmt: skip
        if self.reduce not in (None, "last", "mean", "attention", *SHARES):
            raise SettingsError(
                Setting("reduce"),
                f": got {self.reduce!r}, expected one of last, mean, attention, share, share_max",
            )
        if self.reduce in SHARES and self.cell not in (ECHO, AUTO):
            raise SettingsError(
                Setting("reduce"), f": got {self.reduce!r}, from which {self.cell} cannot learn; "
                "use ",
                Setting("reduce", "mean"), ", or ", Setting("cell", ECHO),
            )  # fmt: skip
        if self.reduce not in (None, "last") and self.at_each_step:
            raise SettingsError(
                Setting("reduce"), f": got {self.reduce!r}, but {self.task} has an answer at each "
                "step; leave it out",
            )  # fmt: skip
        if self.places and self.read not in SHARES:
            raise SettingsError(
                Setting("places"), ": got true, but they are told where shares are read; leave it "
                "out, or use ", Setting("cell", ECHO), " and ", Setting("reduce", "share_max"),
            )  # fmt: skip
        if self.washout and not self.at_each_step:
            raise SettingsError(
                Setting("washout"), f": got {self.washout}, but {self.task} has one answer a "
                "series, which is read of all its steps; leave it out",
            )  # fmt: skip
        for name, value, none in (
            ("metric", self.metric, "loss"), ("class_weights", self.class_weights, "none")
        ):  # fmt: skip
            if value != none and self.task not in ("classification", "tagging"):
                raise SettingsError(
                    Setting(name),
                    f": got {shown(value)}, but {self.task} has no classes; leave it out",
                )
        if self.embed and self.forecasting and not self.relative:
            raise SettingsError(
                Setting("embed"), f": got {', '.join(self.embed)}, but a network that puts out "
                "the values themselves begins with the last one, and so reads an input for each "
                "category; leave it out, or forecast relative to simple forecasts",
            )  # fmt: skip
        if self.cell == AUTO:
            self._check_auto()
            return
        if self.echo:
            self._check_echo()
            return
        for name in _OF_ECHO:
            value = getattr(self, name)
            if value is not None:
                raise SettingsError(
                    Setting(name), f": got {value}, but {self.cell} has none; leave it out, or "
                    "use ", Setting("cell", ECHO),
                )  # fmt: skip
        if self.dropout and self.layers == 1:
            raise SettingsError(
                Setting("dropout"), f": got {self.dropout}, but it acts between layers and there "
                "is one; give ", Setting("layers", 2), ", or use ", Setting("input_dropout"),
                " or ", Setting("recurrent_dropout"),
            )  # fmt: skip
        if self.dilated and self.layers == 1:
            raise SettingsError(
                Setting("dilated"), ": the first layer reads one step back as ever, and there is "
                "no other; give ", Setting("layers", 4), ", whose last reads 8 steps back",
            )  # fmt: skip
        self._check_cell()

    def _check_values(self) -> None:
        """Whole numbers and words; most fractions are checked where they are used."""
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None:
                check_whole(name, value, least)
        check_number("learning_rate", self.learning_rate, above=0.0)
        for name, known in _WORDS.items():
            value = getattr(self, name)
            if name == "class_weights" and isinstance(value, Mapping):
                self._check_class_weights(value)
            elif value not in known:
                or_weights = ", or the weights of classes" * (name == "class_weights")
                raise SettingsError(
                    Setting(name), f": got {value!r}, expected one of {', '.join(known)}"
                    f"{or_weights}{near_match(value, known)}",
                )  # fmt: skip

    def _check_class_weights(self, weights: Mapping[str, float]) -> None:
        if not weights:
            raise SettingsError(
                Setting("class_weights"), ": got no class, expected the weight of one or more"
            )
        for label, weight in weights.items():
            number = isinstance(weight, int | float) and not isinstance(weight, bool)
            if not number or not 0 < weight < math.inf:
                raise SettingsError(
                    Setting("class_weights"), f": got {weight!r} for {label!r}, expected a finite "
                    "number above 0",
                )  # fmt: skip

    def _check_auto(self) -> None:
        if self.task != "classification":
            raise SettingsError(
                Setting("cell"), f": got 'auto', which is for classification; for {self.task} use ",
                Setting("cell", "gru"),
            )  # fmt: skip
        for own in fields(self):
            value = getattr(self, own.name)
            if own.name not in _OF_AUTO and value != own.default:
                raise SettingsError(
                    Setting(own.name), f": got {shown(value)}, but 'auto' chooses network and "
                    "training; "
                    "leave it out, or use ", Setting("cell", "gru"), " or another",
                )  # fmt: skip

    def _check_echo(self) -> None:
        if self.reduce == "attention":
            raise SettingsError(
                Setting("reduce"), ": got 'attention', which is learned by updates, but an echo "
                "state network has its readout fitted in one step; use ",
                Setting("reduce", "share_max"), ", or another ", Setting("cell"),
            )  # fmt: skip
        defaults = {own.name: own.default for own in fields(self)}
        for name, reason in _NOT_OF_ECHO.items():
            value = getattr(self, name)
            if value != defaults[name]:
                raise SettingsError(
                    Setting(name), f": got {shown(value)}, but an echo state network {reason}; "
                    "leave it out, or use another ", Setting("cell"),
                )  # fmt: skip

    def _check_cell(self) -> None:
        from longlag.recurrence.dilation import LONGEST, depths_of  # loads SymPy

        if self.cell not in cells.CELLS:
            known = ", ".join((*cells.CELLS, ECHO, AUTO))
            raise SettingsError(Setting("cell"), f": got {self.cell!r}, expected one of {known}")
        cell = getattr(cells, cells.CELLS[self.cell])()
        if self.chrono is not None and not (cell.keeping_gates or self.cell in LASTING):
            raise SettingsError(
                Setting("chrono"), f": {self.cell} has no gate, leak or weight that it could set; "
                "use ", Setting("cell", "gru"), " or lstm",
            )  # fmt: skip
        if self.orthogonal and not isinstance(cell, cells.Elman):
            raise SettingsError(
                Setting("orthogonal"), f": {self.cell} has no matrix that is kept so; use ",
                Setting("cell", "elman"), ", or leave it out",
            )  # fmt: skip
        if self.recurrent_dropout and not cell.recurrence.dense_gates:
            raise SettingsError(
                Setting("recurrent_dropout"), f": {self.cell} has no recurrent matrix to drop "
                "from; use ", Setting("input_dropout"),
            )  # fmt: skip
        most = LONGEST // max(depths_of(cell.recurrence).values())
        if self.dilated and 2 ** (self.layers - 1) > most:
            raise SettingsError(
                Setting("layers"), f": got {self.layers}, whose last would read "
                f"2^{self.layers - 1} steps back, and {self.cell} can {most}; give ",
                Setting("layers", most.bit_length()),
            )  # fmt: skip
        multiple = math.lcm(*cell.recurrence.groupings)
        if self.units % multiple:
            raise SettingsError(
                Setting("hidden"), f": got {self.units}, expected a multiple of {multiple}, the "
                f"equal groups of units of {self.cell}; give ",
                Setting("hidden", -(-self.units // multiple) * multiple),
            )  # fmt: skip

    @property
    def is_open(self) -> bool:
        """Whether it is a classification of which nothing is said of network and training; without
        a cell either it is for `AUTO`."""
        said = (own.name for own in fields(self) if getattr(self, own.name) != own.default)
        return self.task == "classification" and set(said) <= {*_OF_DATA}

    @property
    def fits_anew(self) -> bool:
        """Whether the network is fitted anew on all data after its score, where nothing is said."""
        return self.cell == AUTO

    @property
    def units(self) -> int:
        """H, units of each layer and direction."""
        return self.hidden or (RESERVOIR if self.read in SHARES else HIDDEN)

    @property
    def read(self) -> str | None:
        """What is read of a series that has one answer; None where each step has one."""
        if self.at_each_step:
            return None
        usual = "share_max" if self.echo and self.task == "classification" else "last"
        return self.reduce or usual

    @property
    def echo(self) -> bool:
        """Whether the network is a reservoir with a readout."""
        return self.cell == ECHO

    @property
    def at_each_step(self) -> bool:
        """Whether there is an answer at each step, not one a series."""
        return self.task in ("tagging", "forecasting")

    @property
    def forecasting(self) -> bool:
        """Whether the next steps are to be predicted."""
        return self.task == "forecasting"

    @property
    def steps_ahead(self) -> int | None:
        """Steps to forecast; None where nothing is forecast."""
        return (self.horizon or 1) if self.forecasting else None

    def batch_for(self, count: int) -> int:
        """Sequences in an update, of so many in all."""
        return self.batch_size or min(BATCH, -(-count // UPDATES))

    def epochs_for(self, each: int) -> int:
        """Passes over the training part, at most, each of so many updates."""
        return self.epochs or max(EPOCHS, -(-ENOUGH // each))

    def patience_for(self, each: int) -> int | None:
        """Epochs, each of so many updates, without a better validation loss; None: any number."""
        if self.patience is None or self.epochs is not None:
            return self.patience
        return max(self.patience, -(-ENOUGH // each))


def shown(value: object) -> str:
    """A setting as one would give it.

    >>> shown(("a", "b")), shown({"ok": 1.0, "hot": 10.0})
    ('a, b', 'ok=1, hot=10')
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{label}={weight:g}" for label, weight in value.items())
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
