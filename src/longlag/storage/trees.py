"""Nested state as a JSON document and a flat dictionary of tensors, and back.

The set of types is closed, so that reading a document can build data and nothing else:

    None bool int str          themselves
    float                      a JSON number (shortest repr: exact), or {"$float": "inf"}, -inf, nan
    list                       a JSON list
    tuple                      {"$tuple": [...]}
    dict with string keys      a JSON object, if no key begins with "$"; else
    dict                       {"$dict": [[key, value], ...]}
    OrderedDict, Counter       the same with "$ordered", "$counter"
    tensor                     {"$tensor": name}
    NumPy array                {"$array": name, "dtype": ..., "shape": [...]}, its bytes a tensor
    NumPy scalar               the same with "$scalar"

Known limits: a tensor comes back on the CPU, dense, without its autograd history; of a NaN only its
being NaN is kept.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"

_PAIRS: dict[type, str] = {dict: "$dict", OrderedDict: "$ordered", Counter: "$counter"}
_CLASSES: dict[str, type] = {tag: kind for kind, tag in _PAIRS.items()}
_NUMPY_KINDS = "biufc"  # bool, integers, floats, complex: their bytes are their value


def to_document(tree: object) -> tuple[JSON, dict[str, Tensor]]:
    """Take nested state apart into a JSON document and the tensors it names.

    Args:
        tree: dicts (keys: str, int, float, bool, None or tuples of these), lists, tuples, str, int,
            float, bool, None, tensors, NumPy arrays and scalars, nested to any depth.

    Returns:
        The document and the tensors by name; a tensor's name is its path in the tree. Tensors are
        not copied.

    Raises:
        TypeError: something else lies in the tree; the message names its path.

    >>> document, tensors = to_document({"lr": 0.1, "state": {0: torch.zeros(2)}})
    >>> document
    {'lr': 0.1, 'state': {'$dict': [[0, {'$tensor': 'state/0'}]]}}
    >>> list(tensors)
    ['state/0']
    """
    tensors: dict[str, Tensor] = {}
    return _encode(tree, (), tensors), tensors


def from_document(document: JSON, tensors: Mapping[str, Tensor]) -> Any:
    """Put nested state together again; the inverse of `to_document`.

    Args:
        document: a document as `to_document` returns it, perhaps through `json.dumps` and
            `json.loads`.
        tensors: the tensors that it names.

    Returns:
        The tree, equal to the first one in every value, type, key and order.

    Raises:
        ValueError: the document has an unknown tag, names a tensor that is not there, or is none
            that `to_document` makes.

    >>> from_document(*to_document({"best": float("-inf"), 3: (1, 2.0)}))
    {'best': -inf, 3: (1, 2.0)}
    """
    try:
        return _decode(document, tensors)
    except (ArithmeticError, LookupError, RuntimeError, TypeError) as error:
        raise ValueError(f"the document describes no state: {error!r:.200}") from error


def _decode(document: JSON, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(document, list):
        return [_decode(item, tensors) for item in document]
    if not isinstance(document, dict):
        return document
    tag = next(iter(document), "")
    if not tag.startswith("$"):
        return {key: _decode(item, tensors) for key, item in document.items()}
    value: Any = document[tag]
    if len(document) != (3 if tag in ("$array", "$scalar") else 1):
        raise ValueError(f"the document has other entries beside the tag {tag!r}")
    if tag == "$float":
        return float(value)
    if tag == "$tuple":
        return tuple(_decode(item, tensors) for item in value)
    if tag in _CLASSES:
        pairs = [(_decode(key, tensors), _decode(item, tensors)) for key, item in value]
        return _CLASSES[tag](dict(pairs)) if tag == "$counter" else _CLASSES[tag](pairs)
    if tag not in ("$tensor", "$array", "$scalar"):
        raise ValueError(f"the document has the unknown tag {tag!r}; a newer longlag wrote it?")
    if value not in tensors:
        raise ValueError(f"the document names a tensor {value!r} that is not beside it")
    if tag == "$tensor":
        return tensors[value]
    return _decode_numpy(document, tensors[value], scalar=tag == "$scalar")


def _encode(value: Any, path: tuple[str, ...], tensors: dict[str, Tensor]) -> JSON:
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else {"$float": str(value)}
    if kind is list:
        return [_encode(item, (*path, str(i)), tensors) for i, item in enumerate(value)]
    if kind is tuple:
        return {"$tuple": [_encode(item, (*path, str(i)), tensors) for i, item in enumerate(value)]}
    if kind in _PAIRS:
        return _encode_dict(value, path, tensors)
    if isinstance(value, Tensor):
        if value.layout != torch.strided or value.device.type == "meta":
            raise _refusal(value, path, f"a {value.layout} tensor on {value.device}")
        return {"$tensor": _put(value.detach(), path, tensors)}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in _NUMPY_KINDS:
        return _encode_numpy(value, path, tensors)
    raise _refusal(value, path, f"a {kind.__module__}.{kind.__qualname__}")


def _encode_dict(value: dict[Any, Any], path: tuple[str, ...], tensors: dict[str, Tensor]) -> JSON:
    for key in value:
        if not _is_key(key):
            raise _refusal(key, (*path, repr(key)), f"a {type(key).__qualname__} as a key")
    if type(value) is dict and all(type(key) is str and not key.startswith("$") for key in value):
        return {key: _encode(item, (*path, key), tensors) for key, item in value.items()}
    pairs: list[JSON] = [
        [_encode(key, path, tensors), _encode(item, (*path, str(key)), tensors)]
        for key, item in value.items()
    ]
    return {_PAIRS[type(value)]: pairs}


def _is_key(key: object) -> bool:
    if type(key) is tuple:
        return all(_is_key(part) for part in key)
    return key is None or type(key) in (str, int, float, bool)


def _encode_numpy(value: Any, path: tuple[str, ...], tensors: dict[str, Tensor]) -> JSON:
    array = np.array(value, order="C")  # a copy: torch would warn of read-only memory
    data = torch.from_numpy(array.reshape(-1).view(np.uint8))
    tag = "$array" if isinstance(value, np.ndarray) else "$scalar"
    return {
        tag: _put(data, path, tensors),
        "dtype": array.dtype.str,
        "shape": [int(size) for size in array.shape],
    }


def _decode_numpy(document: dict[str, Any], data: Tensor, scalar: bool) -> Any:
    dtype = np.dtype(str(document["dtype"]))
    if dtype.kind not in _NUMPY_KINDS:
        raise ValueError(f"the document has an array of dtype {dtype}; only numbers are read")
    array = np.frombuffer(data.numpy().tobytes(), dtype=dtype).reshape(document["shape"])
    return array[()] if scalar else array.copy()


def _put(tensor: Tensor, path: tuple[str, ...], tensors: dict[str, Tensor]) -> str:
    """Store a tensor under its path, made unique: the keys 0 and "0" have the same path."""
    first = name = "/".join(path) or "value"
    copy = 1
    while name in tensors or name == "__metadata__":
        copy += 1
        name = f"{first}~{copy}"
    tensors[name] = tensor
    return name


def _refusal(value: object, path: tuple[str, ...], what: str) -> TypeError:
    where = "/".join(path) or "the top of the tree"
    return TypeError(
        f"state at {where}: {what} ({value!r:.80}) cannot be saved; expected dict, list, tuple, "
        "str, int, float, bool, None, a dense tensor or a NumPy array of numbers. Keep plain data "
        "in the state and rebuild the rest in code."
    )
