"""Learning while reading: what is asked of a net that changes its weights after any step.

A method that can do this has `start`, which takes a model and gives a learner. The model's R
replicas are R nets, each with its own stream; one without replicas is one net, R = 1.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from longlag.layers.composition import composition_of
from longlag.layers.readout import ReadoutModule

__all__ = [
    "OnlineLearner",
    "OnlineMethod",
    "Readouts",
    "as_mask",
    "as_vectors",
    "choose",
    "descend",
    "readouts_of",
]


class OnlineLearner(ABC):
    """R nets that learn while they read; each call names the nets (rows) that it is for.

    What the other rows hold, weights and state, stays as it is, bit for bit.
    """

    @abstractmethod
    def reset(self, rows: NDArray) -> None:
        """An episode begins: the state is zero, and no error goes back beyond here."""

    @abstractmethod
    def read(self, rows: NDArray, x: NDArray) -> None:
        """One step: symbols (rows,) of whole numbers, or vectors (rows, C)."""

    @abstractmethod
    def outputs(self) -> list[NDArray]:
        """What each readout says since the last input: (R, K) each."""

    @abstractmethod
    def hidden(self) -> NDArray:
        """The hidden activations since the last input, (R, H); zero after a reset."""

    @abstractmethod
    def learn(self, rows: NDArray, errors: Sequence[NDArray]) -> None:
        """One step of gradient descent on E = 1/2 sum e^2, e = output - target, (R, K) each.

        An error of 0 changes nothing. Parameters that required no gradient at the start stay.
        """

    def step(self, x: ArrayLike, target: ArrayLike) -> NDArray:
        """All nets read one input, and learn what the first readout should have said of it.

        Args:
            x: symbols (R,), or vectors (R, C).
            target: (R, K), NaN where no error is due.

        Returns:
            What the first readout said, (R, K).
        """
        rows = np.arange(len(self.hidden()))
        self.read(rows, np.asarray(x))
        first, *others = (output.copy() for output in self.outputs())
        self.learn(rows, [np.nan_to_num(first - target), *map(np.zeros_like, others)])
        return first


@runtime_checkable
class OnlineMethod(Protocol):
    """A way to the gradient after every step."""

    def start(
        self, model: nn.Module, learning_rate: float, further: Sequence[ReadoutModule] = ()
    ) -> OnlineLearner:
        """A learner, ready to read; its weights are those of the modules, changed in place.

        Args:
            model: a `SequenceModel`, or a recurrent layer or stack alone.
            learning_rate: of plain gradient descent.
            further: readouts beside that of the model, which read the same hidden units.
        """
        ...


def readouts_of(
    model: nn.Module, further: Sequence[ReadoutModule], method: str
) -> list[ReadoutModule]:
    """The readout of a model, if it has one, then the others; ``method`` is who asks."""
    own = composition_of(model, method).readout
    return [*([] if own is None else [own]), *further]


class Readouts:
    """What several readouts say of one step, and the errors that they send back to it.

    Args:
        readouts: of one layer.
        replicas: R, or None.
        like: a parameter, for dtype and device.
    """

    def __init__(
        self, readouts: Sequence[ReadoutModule], replicas: int | None, like: Tensor
    ) -> None:
        self._readouts, self._device = list(readouts), like.device
        kind = like.detach().cpu().numpy().dtype
        self.outputs: list[NDArray] = [
            np.zeros((replicas or 1, readout.output_size), kind) for readout in readouts
        ]
        self._graph: list[Tensor] = []

    def read(self, rows: NDArray, h: Tensor, x: Tensor) -> None:
        """Of the rows, from h (R, 1, 1, H) and x (R, 1, 1, C), or without R."""
        self._graph = [
            readout(h, None if readout.direct_size is None else x).flatten(0, -2)
            for readout in self._readouts
        ]
        for outputs, graph in zip(self.outputs, self._graph, strict=True):
            outputs[rows] = graph.detach().cpu().numpy()[rows]

    def gradients(
        self, rows: NDArray, errors: Sequence[NDArray], sources: Sequence[Tensor]
    ) -> tuple[Tensor | None, ...]:
        """What the errors of the rows send back to tensors that the outputs were made from."""
        due = []
        for error in errors:
            masked = np.zeros_like(error)
            masked[rows] = error[rows]
            due.append(torch.from_numpy(masked).to(self._device))
        return torch.autograd.grad(self._graph, sources, due, allow_unused=True)


def descend(
    parameters: Sequence[Tensor], gradients: Sequence[Tensor | None], learning_rate: float
) -> None:
    """One step of plain gradient descent, in place."""
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                parameter.sub_(gradient, alpha=learning_rate)


def as_vectors(x: NDArray, like: Tensor) -> Tensor:
    """Symbols (rows,) or vectors (rows, C) as vectors, of the dtype and on the device of (., C)."""
    vectors = torch.from_numpy(np.asarray(x))
    if vectors.dim() == 1:
        vectors = nn.functional.one_hot(vectors.long(), like.shape[-1])
    return vectors.to(like.device, like.dtype)


def as_mask(rows: NDArray, count: int, like: Tensor) -> Tensor | None:
    """(R,), True at the rows; None where they are all."""
    if len(rows) == count:
        return None
    mask = torch.zeros(count, dtype=torch.bool)
    mask[torch.from_numpy(np.asarray(rows))] = True
    return mask.to(like.device)


def choose(rows: Tensor | None, new: Tensor, old: Tensor) -> Tensor:
    """The new values where the first axis is one of the rows, else the old ones."""
    if rows is None:
        return new
    return torch.where(rows.view(-1, *(1,) * (new.dim() - 1)), new, old)
