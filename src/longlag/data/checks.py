"""Whether data can be trained on, before anything is fitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32
from numpy.typing import NDArray

from longlag.data.errors import DataError, and_others
from longlag.data.scaling import Scaling
from longlag.data.sequences import Array, SequenceData

_QUANTA = 16


def check_target(data: SequenceData, task: str) -> NDArray[Any]:
    """The target of the data, when it is one of this task.

    Raises:
        DataError: there is none, it has another shape or type, or a number is not finite.
    """
    target = data.target
    if target is None:
        raise DataError(f"there is no target, which {task} needs")
    kinds, ranks, expected = {
        "classification": ("iU", (1,), "labels (N,)"),
        "tagging": ("iU", (2,), "labels (N, T)"),
        "regression": ("f", (1, 2), "floats (N,) or (N, D)"),
    }[task]
    if task == "tagging" and target.dtype.kind == "f":
        kinds, ranks, expected = "f", (3,), "labels (N, T) or floats (N, T, D)"
    if data.label_sets and task == "classification":
        kinds, ranks, expected = "f", (2,), "0 or 1 for each label (N, D)"
    if target.dtype.kind not in kinds or target.ndim not in ranks:
        raise DataError(f"target: {task} expects {expected}, got {target.shape} of {target.dtype}")
    if target.dtype.kind == "f":
        wrong = np.argwhere(~np.isfinite(target) if task == "regression" else np.isinf(target))
        if data.label_sets:
            wrong = np.argwhere(~np.isnan(target) & (target != 0) & (target != 1))
        if len(wrong):
            raise DataError(
                f"target of series {data.names[wrong[0, 0]]!r}: {target[tuple(wrong[0])]}, "
                f"expected {'0 or 1' if data.label_sets else 'a finite number'}"
                f"{and_others(len(wrong))}"
            )
    return target


def check_resolution(
    steps: Float32[Array, "M C"], inputs: Scaling, names: Sequence[str] | None
) -> None:
    """Refuse a feature whose spread around a far mean is lost to the rounding of float32.

    Below 16 steps of float32 in one standard deviation, as for seconds since 1970 within a day,
    what is left after the mean is taken off is mostly rounding.
    """
    constant = np.nanmin(steps, axis=0) == np.nanmax(steps, axis=0)
    for c in np.flatnonzero(~constant):
        step = float(np.finfo(np.float32).eps) * abs(inputs.mean[c])
        if inputs.scale[c] < _QUANTA * step:
            name = c if names is None else repr(names[c])
            raise DataError(
                f"feature {name}: its spread {inputs.scale[c]:.3g} around {inputs.mean[c]:.10g} is "
                f"too fine for float32, which has steps of {step:.3g} there; subtract "
                f"{inputs.mean[c]:.10g} from it in the file, or leave it out"
            )


def check_standardised(
    standard: Float32[Array, "N *T D"],
    values: NDArray[Any],
    series: Sequence[str],
    scaling: Scaling,
    names: Sequence[str] | None,
) -> None:
    """Refuse values (N, D) or (N, T, D) that overflowed float32 when they were standardised."""
    wrong = np.argwhere(~np.isfinite(standard))
    if len(wrong):
        n, *step, d = wrong[0].tolist()
        raise DataError(
            f"series {series[n]!r}, {f'step {step[0]}, ' if step else ''}column "
            f"{d if names is None else repr(names[d])}: {values[(n, *step, d)]:.8g} is more than "
            f"float32 holds with the mean {scaling.mean[d]:g} and scale {scaling.scale[d]:g} of "
            f"the training data; mend it, or train on such values too{and_others(len(wrong))}"
        )
