"""Saving and loading whole models: one file, no pickle, a closed table of names."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from longlag.arguments import check_whole
from longlag.layers import cell_data
from longlag.layers.backward import Backward
from longlag.layers.base import RecurrentModule
from longlag.layers.bidirectional import Bidirectional
from longlag.layers.built_in import LAYERS
from longlag.layers.card import ModelCard
from longlag.layers.dilated import Dilated
from longlag.layers.echo_state import EchoState
from longlag.layers.embedded import Embedded
from longlag.layers.ensemble import Ensemble
from longlag.layers.next_generation import NextGeneration
from longlag.layers.parameters import MAKE_PLAIN, tied
from longlag.layers.readout import Readout, ReadoutModule
from longlag.layers.recurrent import Recurrent
from longlag.layers.sequence_model import SequenceModel
from longlag.layers.stack import Stack
from longlag.layers.topology import build_topology
from longlag.recurrence import Cell
from longlag.scan.connections import Entries
from longlag.storage import ArchiveError, read_archive, write_archive

_READOUTS: Mapping[str, type[ReadoutModule]] = {"Readout": Readout}
_STACKS: Mapping[str, Callable[..., Stack]] = {"Stack": Stack, "Dilated": Dilated.of}
_KNOWN = (
    SequenceModel, Ensemble, Stack, Dilated, Backward, Bidirectional, Embedded, Recurrent,
    EchoState, NextGeneration,
    *LAYERS.values(),
    *_READOUTS.values(),
)  # fmt: skip
_OWN = (SequenceModel, Ensemble, RecurrentModule, ReadoutModule)
_DTYPES: Mapping[str, torch.dtype] = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16)
}
_OPTIONS = (
    "input_size",
    "hidden_size",
    "bias",
    "input_dropout",
    "recurrent_dropout",
    "replicas",
    "backend",
)
"""Those of every layer, beside density, dilation and weights, which version 0.1 did not write."""
_LATER = {"density", "dilation", "weights"}
_RESERVOIR = (
    "input_size",
    "hidden_size",
    "spectral_radius",
    "leak",
    "density",
    "input_scaling",
    "bias_scaling",
    "topology",
    "feedback_size",
    "feedback_scaling",
    "activation",
    "replicas",
    "backend",
)
"""Those of a reservoir, whose density is None where it is dense."""
_NEXT_GENERATION = ("input_size", "delays", "stride", "degree")
_READOUT_OF_VERSION_0_1 = {
    "output_size": int,
    "direct": bool,
    "bias": bool,
    "output_activation": str,
}
_MISFITS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What modules and cells, those of users too, may raise for arguments without a meaning."""


def save(
    model: SequenceModel | Ensemble | RecurrentModule,
    path: str | Path,
    *,
    metadata: Mapping[str, Any] | None = None,
    card: ModelCard | None = None,
) -> None:
    """Save a model with its weights to one file, and which of them are frozen or tied.

    The file holds data only: the model's structure as JSON and its weights as safetensors, under
    one SHA-256. It is written whole or not at all.

    Args:
        model: a SequenceModel, Ensemble, layer, Stack or Bidirectional.
        path: the file; ``.longlag`` is the usual ending.
        metadata: JSON data to keep beside the model.
        card: what others should know of it, which :func:`show` reads; the versions of longlag,
            PyTorch, NumPy and Python are in it in any case.

    Raises:
        TypeError: for any other module, a subclass of your own of one of these, or a cell of your
            own whose fields longlag cannot write.
        OSError: where the file cannot be written.

    Example:
        >>> import tempfile, longlag as ll
        >>> path = Path(tempfile.mkdtemp()) / "model.longlag"
        >>> ll.save(ll.GRU(3, 4), path)
        >>> ll.load(path)
        GRU(3, 4, recurrent_bias=True, reset_after=True)
    """
    if not isinstance(model, (SequenceModel, Ensemble, RecurrentModule)):
        raise TypeError(
            f"model: got {type(model).__name__}, expected a longlag model; for any other module "
            "save its state_dict with safetensors"
        )
    for module in model.modules():
        own = parametrize.type_before_parametrizations(module)
        if issubclass(own, _OWN) and own not in _KNOWN:
            raise TypeError(
                f"model: got {own.__name__}, a class of your own, which load could not "
                "build again; declare a Cell and use ll.Recurrent, or save its state_dict"
            )
        if isinstance(module, Recurrent) and module.replaced:
            raise TypeError(
                f"model: {module.replaced[0]} is computed from other parameters, which no file of "
                f"longlag holds; {MAKE_PLAIN}"
            )
    weights = model.state_dict().values()
    dtypes = {tensor.dtype for tensor in weights if tensor.is_floating_point()}
    if isinstance(model, RecurrentModule):
        dtypes.add(model.like.dtype)
    if len(dtypes) > 1:
        raise TypeError(f"model: its weights have several dtypes {dtypes}, expected one")
    document = {
        "model": model.config(),
        "dtype": str(dtypes.pop()).removeprefix("torch."),
        "frozen": [name for name, p in model.named_parameters() if not p.requires_grad],
        "tied": tied(model),
        "metadata": dict(metadata or {}),
        "card": (card or ModelCard()).to_dict(),
    }
    write_archive(Path(path), "model", document, model.state_dict())


def load(path: str | Path, *, cells: Sequence[type[Cell]] = ()) -> Any:
    """Load a model that :func:`save` wrote, on the CPU, in evaluation mode.

    Args:
        path: the file.
        cells: the classes of cells of your own that the model uses. A file names them; it never
            holds code.

    Returns:
        The model.

    Raises:
        ArchiveError: for a file that is damaged, of another kind, or describes no model: names
            what is not there, or has tensors of other names, shapes or dtypes than its model.
        OSError: where the file cannot be read.
    """
    return load_with_metadata(path, cells=cells)[0]


def load_with_metadata(
    path: str | Path, *, cells: Sequence[type[Cell]] = ()
) -> tuple[Any, dict[str, Any]]:
    """As :func:`load`, with the metadata that was saved beside the model."""
    return load_with_card(path, cells=cells)[:2]


def load_with_card(
    path: str | Path, *, cells: Sequence[type[Cell]] = ()
) -> tuple[Any, dict[str, Any], ModelCard]:
    """As :func:`load_with_metadata`, with the card."""
    for cell in (cells,) if isinstance(cells, (str, type)) else cells:
        if cell is cells or not (isinstance(cell, type) and issubclass(cell, Cell)):
            raise TypeError(
                f"cells: got {cells!r:.80}, expected a list of classes of cells, as in "
                "cells=[MyCell]"
            )
    path = Path(path)
    document, tensors = read_archive(path, "model")
    try:
        later = {"frozen", "tied", "card"}  # version 0.1 wrote none of them
        entries = _entries("the file", document, {"model", "dtype", "metadata"}, later)
        card = ModelCard.from_dict(entries.get("card", {}))
        model = _Builder(cells, tensors, _dtype(entries["dtype"]))(entries["model"])
        _check_tensors(model.state_dict(), tensors)
        model.to_empty(device="cpu").load_state_dict(tensors)
        _tie(model, entries.get("tied", {}))
        _freeze(model, entries.get("frozen", []))
        if not isinstance(entries["metadata"], dict):
            raise TypeError(f"metadata: got {entries['metadata']!r:.80}, expected an object")
    except _MISFITS as error:
        # What it quotes of the file may be long, and no text that can be printed.
        quoted = str(error).encode("utf-8", "backslashreplace").decode()[:500]
        problem = f"describes no model that can be built here: {quoted}"
        raise ArchiveError(path, problem, fix="") from error
    return model.eval(), entries["metadata"], card


def _entries(
    part: str, config: Any, needed: Collection[str], others: Collection[str] = ()
) -> dict[str, Any]:
    """The entries of a part of the document, which has those and no more."""
    if not isinstance(config, dict):
        raise TypeError(f"{part}: got {config!r:.80}, expected an object")
    missing, unknown = sorted(needed - config.keys()), sorted(config.keys() - {*needed, *others})
    if missing or unknown:
        what = f"no entry {missing[0]!r}" if missing else f"the unknown entry {unknown[0]!r:.80}"
        raise ValueError(f"{part}: has {what}")
    return config


def _dtype(name: Any) -> torch.dtype:
    if not isinstance(name, str) or name not in _DTYPES:
        raise ValueError(f"dtype: got {name!r:.80}, expected one of {', '.join(_DTYPES)}")
    return _DTYPES[name]


def _check_tensors(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """The file has the tensors that the model needs, in its dtypes and shapes, and no more."""
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors or name not in expected:
            what = "needs, is not there" if name in expected else "has no place for, is there"
            raise ValueError(f"the tensor {name!r:.80}, which the model {what}")
        ours, theirs = expected[name], tensors[name]
        if (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
            raise ValueError(
                f"the tensor {name!r} is {tuple(theirs.shape)} of {theirs.dtype}, expected "
                f"{tuple(ours.shape)} of {ours.dtype}"
            )


def _check_config(saved: Any, built: Any, where: str) -> None:
    """What the file says of the model is what the model says of itself.

    A field of a cell that the file does not name has its default.
    """
    if isinstance(saved, dict) and isinstance(built, dict):
        for name in saved.keys() - cell_data.COMPARED:
            _check_config(saved[name], built.get(name), name)
    elif isinstance(saved, list) and isinstance(built, (list, tuple)) and len(saved) == len(built):
        for one, other in zip(saved, built, strict=True):
            _check_config(one, other, where)
    elif saved != built:
        raise ValueError(f"{where}: got {saved!r:.80}, and the model has {built!r:.80}")


def _tie(model: nn.Module, names: Any) -> None:
    parameters = dict(model.named_parameters())
    if not isinstance(names, dict):
        raise TypeError(f"tied: got {names!r:.80}, expected an object")
    for name, first in names.items():
        ours, theirs = parameters.get(name), parameters.get(first)
        if ours is None or theirs is None or ours.shape != theirs.shape:
            raise ValueError(
                f"tied: got {name!r:.80} and {first!r:.80}, expected two parameters of one shape"
            )
        path, _, own = name.rpartition(".")
        setattr(model.get_submodule(path), own, theirs)


def _freeze(model: nn.Module, names: Any) -> None:
    parameters = dict(model.named_parameters())
    if not isinstance(names, list):
        raise TypeError(f"frozen: got {names!r:.80}, expected a list of parameters")
    for name in names:
        if name not in parameters:
            raise ValueError(f"frozen: got {name!r:.80}, which is no parameter of the model")
        parameters[name].requires_grad_(False)


class _Builder:
    """From plain data to modules without numbers, through a closed table of names.

    The modules are on the meta device, where sizes cost nothing: they are compared with the
    file's tensors before there is memory for them.
    """

    def __init__(
        self, cells: Sequence[type[Cell]], tensors: Mapping[str, Tensor], dtype: torch.dtype
    ) -> None:
        self.cells = cells
        self.tensors = tensors
        self.made: dict[str, Any] = {"device": "meta", "dtype": dtype}

    def __call__(self, config: Any) -> SequenceModel | Ensemble | RecurrentModule:
        if _type(config) == "Ensemble":
            parts = _entries("Ensemble", config, {"type", "models", "classes"})
            if not isinstance(parts["models"], list):
                raise TypeError(f"models: got {parts['models']!r:.80}, expected a list")
            models: Any = [
                self.model(part, f"models.{number}.") for number, part in enumerate(parts["models"])
            ]
            model = Ensemble(models, classes=parts["classes"])
            _check_config(config, model.config(), "model")
            return model
        model = self.model(config)
        if isinstance(model, SequenceModel) and "readout" not in config:
            config = {"layer": config["layer"], "reduce": config["reduce"]}
        _check_config(config, model.config(), "model")
        return model

    def model(self, config: Any, path: str = "") -> SequenceModel | RecurrentModule:
        if _type(config) != "SequenceModel":
            return self.layer(config, path)
        names = {"type", "layer", "reduce"}
        names |= {"readout"} if "readout" in config else _READOUT_OF_VERSION_0_1.keys()
        parts = _entries("SequenceModel", config, names)
        layer = self.layer(parts["layer"], f"{path}layer.")
        if "readout" in parts:
            readout = self.readout(parts["readout"])
        else:
            readout = self.readout_of_version_0_1(parts, layer)
        return SequenceModel(layer, readout=readout, reduce=parts["reduce"])

    def readout(self, config: Any) -> ReadoutModule:
        kind = _READOUTS.get(_type(config))
        if kind is None:
            known = ", ".join(_READOUTS)
            raise ValueError(f"it names the readout {config['type']!r:.80}; known: {known}")
        names = {"type", "input_size", "output_size", "direct_size", "bias", "activation"}
        # Version 0.1 knew no squares.
        parts = dict(_entries("readout", config, names | {"replicas"}, {"squares"}))
        del parts["type"]
        return kind(**parts, **self.made)

    def readout_of_version_0_1(self, parts: dict[str, Any], layer: RecurrentModule) -> Readout:
        """A linear one, of which that version wrote the arguments of the model."""
        for name, kind in _READOUT_OF_VERSION_0_1.items():
            if not isinstance(parts[name], int if kind is bool else kind):
                raise TypeError(f"{name}: got {parts[name]!r:.80}, expected {kind.__name__}")
        return Readout(
            layer.output_size,
            parts["output_size"],
            direct_size=layer.input_size if parts["direct"] else None,
            bias=parts["bias"],
            activation=parts["output_activation"],
            replicas=layer.replicas,
            **self.made,
        )

    def layer(self, config: Any, path: str) -> RecurrentModule:
        """The recurrent module whose tensors are those under a path."""
        kind = _type(config)
        if kind in _STACKS:
            parts = _entries(kind, config, {"type", "layers", "dropout"})
            if not isinstance(parts["layers"], list):
                raise TypeError(f"layers: got {parts['layers']!r:.80}, expected a list")
            layers = [
                self.layer(part, f"{path}layers.{number}.")
                for number, part in enumerate(parts["layers"])
            ]
            return _STACKS[kind](*layers, dropout=parts["dropout"])
        if kind == "Backward":
            parts = _entries(kind, config, {"type", "layer"})
            return Backward(self.layer(parts["layer"], f"{path}layer."))
        if kind == "Bidirectional":
            parts = _entries(kind, config, {"type", "layer", "backward_layer"})
            return Bidirectional(
                self.layer(parts["layer"], f"{path}forward_layer."),
                self.layer(parts["backward_layer"], f"{path}backward_layer."),
            )
        if kind == "Embedded":
            parts = _entries(kind, config, {"type", "layer", "categories"})
            triples = parts["categories"]
            if not isinstance(triples, list) or not all(
                isinstance(one, list) and len(one) == 3 for one in triples
            ):
                raise TypeError(f"categories: got {triples!r:.80}, expected lists of three numbers")
            return Embedded(
                self.layer(parts["layer"], f"{path}layer."),
                {at: count for at, count, _ in triples},
                {at: size for at, _, size in triples},
            )
        if kind == "Recurrent":
            parts = dict(_entries(kind, config, {"type", "cell", *_OPTIONS}, _LATER))
            cell = cell_data.build(parts.pop("cell"), self.cells)
            return Recurrent(cell, **self._options(parts, path))
        if kind == "EchoState":
            later = {"proximity", "dilation", "weights"}
            parts = dict(_entries(kind, config, {"type", *_RESERVOIR}, later))
            parts["topology"] = build_topology(parts["topology"])
            parts = self._options(parts, path)
            if parts["density"] is None:
                if not parts["topology"].may_be_dense:
                    raise ValueError(f"density: got None, and {parts['topology']} is sparse")
                parts["density"] = 1.0
            return EchoState(**parts, trained=True)
        if kind == "NextGeneration":
            parts = dict(_entries(kind, config, {"type", *_NEXT_GENERATION}))
            del parts["type"]
            return NextGeneration(**parts, **self.made)
        if kind not in LAYERS:
            raise ValueError(f"it names the layer {kind!r:.80}; known: {', '.join(LAYERS)}")
        own = cell_data.fields_of(kind)
        parts = dict(_entries(kind, config, {"type", *_OPTIONS}, {*_LATER, *own}))
        cell_data.check_fields(kind, parts)
        return LAYERS[kind](**self._options(parts, path))

    def _options(self, parts: dict[str, Any], path: str) -> dict[str, Any]:
        """The arguments of a layer; a sparse W has the entries that the file's tensors say."""
        del parts["type"]
        if parts.get("density") is not None:
            indptr, indices = (
                self.tensors.get(f"{path}weight_hh_{name}") for name in ("indptr", "indices")
            )
            if indptr is None or indices is None:
                raise ValueError(f"{path}weight_hh: its density is given, and no entries")
            hidden = check_whole("hidden_size", parts["hidden_size"], 1)
            parts["density"] = Entries(indptr, indices, hidden)
        return {**parts, **self.made}


def _type(config: Any) -> str:
    kind = config.get("type") if isinstance(config, dict) else None
    if not isinstance(kind, str):
        raise TypeError(f"got {config!r:.80}, expected an object with the name of a type")
    return kind
