"""States as trees: nested tuples, lists and dictionaries of tensors."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor


def tensors_of(tree: Any) -> Iterator[Tensor]:
    """The tensors of a state: of nested tuples, lists and dictionaries, in order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        for part in tree.values():
            yield from tensors_of(part)
    elif isinstance(tree, Sequence) and not isinstance(tree, str):
        for part in tree:
            yield from tensors_of(part)


def map_tensors(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same tree with its tensors changed; named tuples stay what they are."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, dict):
        return {key: map_tensors(part, change) for key, part in tree.items()}
    if isinstance(tree, tuple | list):
        parts = [map_tensors(part, change) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


def detached(tree: Any) -> Any:
    """The same tree, cut off from the graph."""
    return map_tensors(tree, Tensor.detach)


def as_lists(state: Any) -> Any:
    """A state as nested lists of tensors, which a checkpoint can hold."""
    if isinstance(state, Tensor) or state is None:
        return state
    return [as_lists(part) for part in state]
