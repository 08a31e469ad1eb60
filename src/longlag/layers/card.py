"""The card of a saved model: its data, its measures, its training, its versions, its licence."""

import importlib.metadata
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from longlag.storage import ArchiveError, read_archive

_PACKAGES = ("longlag", "torch", "numpy")
_KINDS = {"description": str, "licence": (str, type(None)), "seed": (int, type(None))}


@dataclass(frozen=True)
class ModelCard:
    """What whoever receives a saved model should know of it.

    It holds no time and no place, so that the same training gives the same file.

    Args:
        description: what the model is for, in words.
        licence: that of the weights, for example "CC-BY-4.0"; None: not stated.
        data: of the training data, JSON values by name: shapes, names, counts.
        metrics: what was measured, numbers by name; None for one that is not finite.
        training: the settings of the training, JSON values by name.
        seed: of the training.
        versions: of longlag, Python and what computes; ``save`` fills them in.

    Raises:
        TypeError: a field is of another type.

    >>> card = ModelCard(licence="CC0-1.0", metrics={"accuracy": 0.97}, seed=0)
    >>> print(card)
    licence   CC0-1.0
    seed      0
    metrics   accuracy 0.97
    """

    description: str = ""
    licence: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for own in fields(self):
            value, kind = getattr(self, own.name), _KINDS.get(own.name, Mapping)
            if not isinstance(value, kind) or isinstance(value, bool):
                wanted = {str: "text", Mapping: "a mapping"}.get(kind, "a value or None")
                raise TypeError(f"card: {own.name} is {value!r:.80}, expected {wanted}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON data, with the versions of what is running."""
        metrics = {
            name: None if value is None or not math.isfinite(value) else float(value)
            for name, value in self.metrics.items()
        }
        known = {name: importlib.metadata.version(name) for name in _PACKAGES}
        versions = dict(self.versions) or {**known, "python": platform.python_version()}
        return asdict(replace(self, metrics=metrics, versions=versions))

    @classmethod
    def from_dict(cls, entries: Any) -> "ModelCard":
        """The inverse of ``to_dict``.

        Raises:
            TypeError: it is no card, or has an entry that none has.
        """
        if not isinstance(entries, dict):
            raise TypeError(f"card: got {entries!r:.80}, expected an object")
        return cls(**entries)

    def __str__(self) -> str:
        lines = {"about": self.description, "licence": self.licence or "not stated"}
        if self.seed is not None:
            lines["seed"] = str(self.seed)
        for name in ("data", "metrics", "training", "versions"):
            lines[name] = ", ".join(_said(*pair) for pair in getattr(self, name).items())
        return "\n".join(f"{name:9} {_plain(text)}" for name, text in lines.items() if text)


class Shown(NamedTuple):
    """What ``show`` read of a file; it prints as lines."""

    path: Path
    network: str
    """The layers, with inputs and units, and the readout."""
    parameters: int
    """Numbers in its tensors, of frozen and constant ones too."""
    dtype: str
    card: ModelCard

    def __str__(self) -> str:
        size = f"{self.parameters:,} numbers of {self.dtype}"
        return f"{self.path}\n{'network':9} {_plain(self.network)}\n{'size':9} {size}\n{self.card}"


def show(path: str | Path) -> Shown:
    """Read of a saved model what it is and its card, without building it.

    The cells of a file may be ones of your own: their classes are not needed. A file of a version
    that wrote no card has an empty one.

    Args:
        path: a file that ``longlag.save`` or ``longlag train`` wrote.

    Raises:
        ArchiveError: it is damaged, or of another kind.
        OSError: it cannot be read.

    >>> import tempfile, longlag as ll
    >>> path = Path(tempfile.mkdtemp()) / "model.longlag"
    >>> ll.save(ll.SequenceModel(ll.GRU(3, 4), 2), path, card=ModelCard(licence="CC0-1.0"))
    >>> shown = show(path)
    >>> shown.network, shown.parameters, shown.card.licence
    ('GRU(3, 4), readout of 2 of the last step', 110, 'CC0-1.0')
    """
    path = Path(path)
    document, tensors = read_archive(path, "model")
    try:
        network = _described(document["model"])
        card = ModelCard.from_dict(document.get("card", {}))
        dtype = str(document["dtype"])
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ArchiveError(path, f"describes no model: {str(error)[:200]}", fix="") from error
    return Shown(path, network, sum(map(torch.numel, tensors.values())), dtype, card)


def _described(config: Mapping[str, Any]) -> str:
    """The network of a document, from the layers up."""
    kind = config["type"]
    if kind == "SequenceModel":
        outputs = config.get("readout", config)["output_size"]
        reduce = config["reduce"]
        of = (
            "" if reduce is None else {"last": " of the last step"}.get(reduce, f" of the {reduce}")
        )
        return f"{_described(config['layer'])}, readout of {outputs}{of}"
    if kind == "Ensemble":
        models = [_described(model) for model in config["models"]]
        same = len(set(models)) == 1
        return (
            f"mean of {len(models)} times {models[0]}" if same else f"mean of {'; '.join(models)}"
        )
    if "layers" in config:
        return f"{kind}({', '.join(map(_described, config['layers']))})"
    if "layer" in config:
        return f"{kind}({_described(config['layer'])})"
    cell = config.get("cell")
    name = cell["type"] if isinstance(cell, Mapping) else kind
    sizes = [config[key] for key in ("input_size", "hidden_size") if key in config]
    return f"{name}({', '.join(map(str, sizes))})"


def _plain(text: str) -> str:
    """Without what a terminal would obey: a file may come from anyone."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _said(name: str, value: Any) -> str:
    if isinstance(value, float):
        return f"{name} {value:.4g}"
    if isinstance(value, list | tuple):
        return f"{name} {' '.join(map(str, value))}"
    return f"{name} {value}"
