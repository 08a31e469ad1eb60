"""The file that `longlag train` saves, read again."""

from pathlib import Path
from typing import Any

from longlag.cli.options import UsageError
from longlag.data import DataError, Preparation
from longlag.layers import SequenceModel, load_with_metadata

__all__ = ["load_trained"]


def load_trained(path: Path) -> tuple[SequenceModel, Preparation, Any]:
    """The network, the preparation of its data, and what a guess without it would be.

    Raises:
        UsageError: it is no file of `longlag train`, or its parts do not fit each other.
        DataError, ArchiveError: it is damaged.
    """
    model, metadata = load_with_metadata(path)
    if "preparation" not in metadata or not isinstance(model, SequenceModel):
        raise UsageError(
            f"{path}: it holds a {type(model).__name__} without the preparation of its data; "
            "expected a file that `longlag train` saved"
        )
    try:
        preparation = Preparation.from_dict(metadata["preparation"])
    except DataError as error:
        raise error.within(f"{path}: ") from error
    sizes = (model.input_size, model.output_size)
    if sizes != (preparation.input_size, preparation.output_size):
        raise UsageError(
            f"{path}: the network takes {sizes[0]} features and gives {sizes[1]} numbers, its "
            f"preparation {preparation.input_size} and {preparation.output_size}; train it again"
        )
    return model, preparation, metadata.get("baseline")
