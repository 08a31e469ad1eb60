"""What every gradient method answers, whatever its law of time and memory.

A method is a small frozen object. It knows no device, no optimizer and no loop over batches; the
training loop hands it the function that starts the backward pass.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias, TypedDict, runtime_checkable

from torch import Tensor, nn
from typing_extensions import Unpack

from longlag.layers.inputs import Inputs

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""`loss(output, target)`: a scalar."""

Backward: TypeAlias = Callable[[Tensor], None]
"""Adds the gradient of a scalar to `.grad`: `Tensor.backward`, `fabric.backward`."""


class Options(TypedDict, total=False):
    """What a model may be given beside x; R replicas put an R in front of each."""

    lengths: Tensor | None
    """(N,), the number of steps of each sequence; None where all count."""
    resets: Tensor | None
    """(N, T) bool, where the state starts anew; None for nowhere."""
    state: Any
    """What the model starts from, as it takes it; None for zeros."""


class Accumulated(NamedTuple):
    """What `GradientMethod.accumulate` hands back, both cut off from the graph."""

    loss: Tensor
    """The loss, a scalar."""
    output: Tensor
    """What the model put out, for metrics."""
    carry: Any = None
    """What the next window of the same sequences goes on from: nested lists and dictionaries of
    tensors, so that a checkpoint can hold them. None for methods that take whole sequences."""


@runtime_checkable
class GradientMethod(Protocol):
    """A way to the gradient of a loss with respect to the parameters of a recurrent model.

    Each implementation says in its docstring whether it is exact or biased, its time and its
    memory.
    """

    def gradients(
        self, model: nn.Module, x: Tensor, target: Tensor, loss: Loss, **options: Unpack[Options]
    ) -> dict[str, Tensor]:
        """The gradient by parameter name, of every parameter that requires one.

        `.grad` is neither read nor written. A parameter that the loss does not depend on has
        zeros.
        """
        ...

    def accumulate(
        self,
        model: nn.Module,
        x: Tensor,
        target: Tensor,
        loss: Loss,
        backward: Backward,
        **options: Unpack[Options],
    ) -> Accumulated:
        """Add the gradient to `.grad` through `backward`, and hand back loss and output."""
        ...


@runtime_checkable
class WindowedMethod(GradientMethod, Protocol):
    """A method that can update the weights before a sequence has ended.

    `fit` hands it one window of `window` steps after the other, with what it carried over from the
    window before, and updates after each. Models that put out one result a sequence have no error
    before the end: they are given whole sequences, through `accumulate`.
    """

    @property
    def window(self) -> int | None:
        """Steps between two updates; None: one update for whole sequences."""
        ...

    def accumulate_window(
        self,
        model: nn.Module,
        x: Tensor,
        target: Tensor,
        loss: Loss,
        backward: Backward,
        *,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
        carry: Any = None,
    ) -> Accumulated:
        """As `accumulate`, for the next steps of sequences that began earlier.

        Args:
            carry: what the call for the window before handed back; None at the start of all
                sequences of the batch.
        """
        ...


def forward(model: nn.Module, x: Tensor, **options: Unpack[Options]) -> Tensor:
    """Run a model on a batch, passing only the inputs that there are.

    Args:
        model: any module; of a tuple that it returns, such as (output, state), the first is taken.
        x: (N, T, C).
        options: lengths, resets, state; see :class:`Options`.

    Returns:
        The output, (N, T, ...) or (N, ...).

    Raises:
        TypeError: the model returns no tensor.

    >>> import torch
    >>> forward(nn.RNN(2, 3, batch_first=True), torch.zeros(4, 5, 2)).shape
    torch.Size([4, 5, 3])
    """
    return Inputs(x, **options).output_of(model)
