"""Saving and loading whole models: one file, no pickle, a closed table of names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from longlag.layers import cell_data
from longlag.layers.base import RecurrentModule
from longlag.layers.bidirectional import Bidirectional
from longlag.layers.built_in import LAYERS
from longlag.layers.readout import Readout, ReadoutModule
from longlag.layers.recurrent import Recurrent
from longlag.layers.sequence_model import SequenceModel
from longlag.layers.stack import Stack
from longlag.recurrence import Cell
from longlag.storage import ArchiveError, read_archive, write_archive

_READOUTS: Mapping[str, type[ReadoutModule]] = {"Readout": Readout}
_KNOWN = (SequenceModel, Stack, Bidirectional, Recurrent, *LAYERS.values(), *_READOUTS.values())
_OWN = (SequenceModel, RecurrentModule, ReadoutModule)


def save(
    model: SequenceModel | RecurrentModule,
    path: str | Path,
    *,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Save a model with its weights to one file, and which of them are frozen.

    The file holds data only: the model's structure as JSON and its weights as safetensors, under
    one SHA-256. It is written whole or not at all.

    Args:
        model: a SequenceModel, layer, Stack or Bidirectional.
        path: the file; ``.longlag`` is the usual ending.
        metadata: JSON data to keep beside the model.

    Raises:
        TypeError: for any other module, a subclass of your own of one of these, or a cell of your
            own whose fields longlag cannot write.
        OSError: where the file cannot be written.

    Example:
        >>> import tempfile, longlag as ll
        >>> path = Path(tempfile.mkdtemp()) / "model.longlag"
        >>> ll.save(ll.GRU(3, 4), path)
        >>> ll.load(path)
        GRU(3, 4, recurrent_bias=True)
    """
    if not isinstance(model, (SequenceModel, RecurrentModule)):
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
        if isinstance(module, Recurrent) and module.computed:
            raise TypeError(
                f"model: {module.computed[0]} is computed from other parameters, which no file of "
                "longlag holds; make it a parameter before, with remove_parametrizations, "
                "remove_weight_norm, remove_spectral_norm or prune.remove of torch.nn.utils"
            )
    weights = model.state_dict().values()
    dtypes = {tensor.dtype for tensor in weights if tensor.is_floating_point()}
    if len(dtypes) > 1:
        raise TypeError(f"model: its weights have several dtypes {dtypes}, expected one")
    document = {
        "model": model.config(),
        "dtype": str(dtypes.pop()).removeprefix("torch."),
        "frozen": [name for name, p in model.named_parameters() if not p.requires_grad],
        "metadata": dict(metadata or {}),
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
        ArchiveError: for a file that is damaged, of another kind, or names what is not there.
        OSError: where the file cannot be read.
    """
    return load_with_metadata(path, cells=cells)[0]


def load_with_metadata(
    path: str | Path, *, cells: Sequence[type[Cell]] = ()
) -> tuple[Any, dict[str, Any]]:
    """As :func:`load`, with the metadata that was saved beside the model."""
    path = Path(path)
    document, tensors = read_archive(path, "model")
    build = _Builder(cells)
    try:
        with torch.random.fork_rng(devices=[]):  # building draws weights, only to replace them
            model = build(document["model"])
        model = model.to(getattr(torch, document["dtype"]))
        model.load_state_dict(tensors)
        for name in document.get("frozen", ()):  # version 0.1 wrote none
            model.get_parameter(name).requires_grad_(False)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        problem = f"describes no model that can be built here: {error}"
        raise ArchiveError(path, problem, fix="") from error
    return model.eval(), document["metadata"]


class _Builder:
    """From plain data to modules, through a closed table of names."""

    def __init__(self, cells: Sequence[type[Cell]]) -> None:
        self.cells = cells

    def __call__(self, config: Mapping[str, Any]) -> nn.Module:
        arguments = dict(config)
        kind = arguments.pop("type")
        if kind == "SequenceModel":
            if "readout" in arguments:  # version 0.1 wrote the arguments of a linear one
                arguments["readout"] = self.readout(arguments["readout"])
            return SequenceModel(self.layer(arguments.pop("layer")), **arguments)
        return self.layer(config)

    def readout(self, config: Mapping[str, Any]) -> ReadoutModule:
        arguments = dict(config)
        kind = arguments.pop("type")
        if kind not in _READOUTS:
            raise ValueError(f"it names the readout {kind!r}; known: {', '.join(_READOUTS)}")
        return _READOUTS[kind](**arguments)

    def layer(self, config: Mapping[str, Any]) -> RecurrentModule:
        parts = dict(config)
        kind = parts.pop("type")
        if kind == "Stack":
            layers = [self.layer(part) for part in parts.pop("layers")]
            return Stack(*layers, **parts)
        if kind == "Bidirectional":
            return Bidirectional(*(self.layer(parts.pop(n)) for n in ("layer", "backward_layer")))
        if kind == "Recurrent":
            return Recurrent(cell_data.build(parts.pop("cell"), self.cells), **parts)
        if kind not in LAYERS:
            raise ValueError(f"it names the layer {kind!r}; known: {', '.join(LAYERS)}")
        return LAYERS[kind](**parts)
