"""From a file to a graph whose weights are all there; nothing in it is run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from onnx import GraphProto, ModelProto, TensorProto, external_data_helper

from longlag.storage.atomic import read_file


class LoadError(ValueError):
    """A file of ONNX that is none, is damaged, or has something that longlag has no layer for."""


def read_model(path: Path) -> ModelProto:
    """The checked graph of a file, with the weights that it keeps in files beside it.

    Raises:
        LoadError: it is no such file, or names a file outside its folder.
        OSError: it cannot be read.
    """
    data = read_file(path)
    try:
        model = ModelProto.FromString(data)
    except DecodeError as error:
        raise LoadError(f"{path}: is no file of ONNX, or is damaged ({error})") from error
    if not model.graph.node:
        raise LoadError(f"{path}: is no file of ONNX, or has no graph")
    folder = path.resolve().parent
    for tensor in _tensors(model.graph):
        if external_data_helper.uses_external_data(tensor):
            _check_location(path, folder, tensor)
    try:
        external_data_helper.load_external_data_for_model(model, str(folder))
        onnx.checker.check_model(model)
    except Exception as error:  # onnx raises ValidationError and what its readers meet
        raise LoadError(f"{path}: {str(error)[:500]}") from error
    return model


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """All tensors of a graph and of the graphs inside it."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)


def _check_location(path: Path, folder: Path, tensor: Any) -> None:
    """The data of a tensor stand in a file of the folder, and in no other that a link leads to."""
    known = {entry.key: entry.value for entry in tensor.external_data}
    location = known.get("location", "")
    target = (folder / location).resolve()
    if not location or Path(location).is_absolute() or not target.is_relative_to(folder):
        raise LoadError(
            f"{path}: the data of the tensor {tensor.name!r:.80} are in {location!r:.200}, "
            "expected a file in the folder of the graph"
        )
    if not target.is_file():
        raise LoadError(
            f"{path}: the data of the tensor {tensor.name!r:.80} are in {location!r:.200}, where "
            "there is no file; put it beside the graph"
        )
