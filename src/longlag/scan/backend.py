"""What a backend is, and which there are.

A backend runs a recurrence over time, forward and backward. All are asked alike, and given alike:
everything with time first; x with an input matrix, or the drive a = U x + b itself; initial states,
or None for zeros. To add one is to write a :class:`Backend` in a folder of its own, and a line in
the table here.
"""

import functools
import importlib
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from longlag.scan.inputs import ScanInputs
from longlag.torch_private import dispatching, has_tangent, stands_in, transforms_active

_TABLE = {
    "reference": "longlag.scan.reference:Reference",
    "derived": "longlag.scan.derived:Derived",
    "cpu": "longlag.scan.cpu.backend:Cpu",
}
"""Where each backend is: it is imported when it is first asked. Each is faster than those before
it, so ``"auto"`` takes the last that can do the work."""

BACKENDS = ("auto", *_TABLE)
"""What ``backend=`` can be: ``"reference"`` is plain PyTorch under autograd, the definition of
correct; ``"derived"`` the same forward loop with explicit back-propagation through time; ``"cpu"``
kernels compiled for this processor, for float32 and float64; and ``"auto"`` takes ``"cpu"`` where
it can do the work, else ``"derived"``; inside the transforms of torch.func, ``"reference"``."""


class Run(NamedTuple):
    """What a forward pass gives.

    Attributes:
        states: of each stored state its path, (D + T + 1, N, H): D rows of the past (see
            :mod:`longlag.scan.trajectory`; D is 0 without delays), then s_0 .. s_T.
        final: the final states, each (N, H), in the order of ``recurrence.states``, that share no
            memory with ``states``.
        residuals: numbers that the backward pass reads beside; None for nothing.
        context: what else the backward pass is given; the backend's own.
    """

    states: list[Tensor]
    final: list[Tensor]
    residuals: Tensor | None = None
    context: Any = None


class Wanted(NamedTuple):
    """Which gradients are asked for."""

    x: bool = True
    input: bool = True
    bias: bool = True
    recurrent: bool = True
    initial: bool = True
    units: bool = True


class Gradients(NamedTuple):
    """What a backward pass gives: by x, weights, initial states, unit parameters.

    Those of x and the weights may be None where they are not wanted, ``initial`` and ``units``
    empty.
    """

    x: Tensor | None
    input: Tensor | None
    bias: Tensor | None
    recurrent: Tensor | None
    initial: list[Tensor]
    units: list[Tensor]


class Backend(ABC):
    """A way to run a recurrence.

    Attributes:
        name: as ``backend=`` takes it.
        plain: whether its forward pass is plain operations, which autograd and the transforms of
            torch.func follow; any other becomes one node of autograd's graph.
        compiled: whether it runs no loop of PyTorch operations over the steps.
        zero_padding: whether the states that it stores are zero in the padding.
        dilates: whether it takes a dilation (see ``ScanInputs``); of any other what is dilated is
            made rows first.
    """

    name: ClassVar[str]
    plain: ClassVar[bool] = False
    compiled: ClassVar[bool] = False
    zero_padding: ClassVar[bool] = False
    dilates: ClassVar[bool] = False

    @abstractmethod
    def unsupported(self, like: Tensor) -> str | None:
        """Why it cannot take tensors of this one's dtype and device; None where it can."""

    @abstractmethod
    def forward(self, inputs: ScanInputs, backward: bool) -> Run:
        """Run all steps.

        Args:
            inputs: what to run over.
            backward: whether a backward pass may follow.
        """

    def feed(self, inputs: ScanInputs, matrix: Tensor, bias: Tensor) -> "Run | None":
        """Run all steps, without gradients, of a network that reads its own output.

        Before each step the last K features of x are set to V h + c, of the output h there is; all
        rows take all steps.

        Args:
            inputs: what to run over; x is written to.
            matrix: V, (K, H).
            bias: c, (K,).

        Returns:
            As :meth:`forward`; None of a backend that does not know how.
        """
        del inputs, matrix, bias
        return None

    @abstractmethod
    def backward(
        self, inputs: ScanInputs, run: Run, gradients: Sequence[Tensor | None], wanted: Wanted
    ) -> Gradients:
        """Back-propagation through time.

        Args:
            inputs: those of :meth:`forward`; their ``initial`` states may be left out.
            run: what that gave; its ``final`` is not read.
            gradients: of the output (T, N, H), then of each final state; None for zeros.
            wanted: which gradients to find.
        """


class BackendWarning(UserWarning):
    """``backend="auto"`` runs without compiled kernels; said once for each reason."""


_SAID: set[tuple[str, str]] = set()


def _say_once(backend: str, problem: str) -> None:
    if (backend, problem) not in _SAID:
        _SAID.add((backend, problem))
        warnings.warn(
            f"backend: 'auto' takes {backend!r}, a loop of PyTorch operations over the steps, and "
            f"not the compiled kernels: {problem}; layer.backend_used tells which ran",
            BackendWarning,
            stacklevel=2,
        )


@functools.cache
def _load(name: str) -> Backend:
    module, kind = _TABLE[name].split(":")
    return getattr(importlib.import_module(module), kind)()


def check_backend(backend: str) -> None:
    """Raise a ValueError where ``backend`` is none that there is."""
    if backend not in BACKENDS:
        known = ", ".join(repr(name) for name in BACKENDS)
        raise ValueError(f"backend: got {backend!r}, expected one of {known}")


_FUNCTORCH = "it is inside a transform of torch.func, which follows plain operations only"
_FORWARD = "it is given tangents of forward-mode AD, which plain operations alone carry along"
_DISPATCH = (
    "it is inside a mode of torch that follows plain operations only, such as make_fx or fake "
    "tensors, or is given tensors that stand for others"
)


def followed(tensors: Iterable[Tensor | None]) -> bool:
    """Whether PyTorch follows operations, or tensors have no numbers that a kernel could read."""
    return dispatching() or any(map(stands_in, tensors))


def choose(
    backend: str,
    like: Tensor,
    what: str = "this",
    *,
    plain: bool = True,
    tensors: Iterable[Tensor | None] = (),
) -> Backend:
    """The backend that runs.

    Args:
        backend: one of :data:`BACKENDS`.
        like: a tensor of the dtype and on the device of all.
        what: is run, for errors.
        plain: whether a plain one will do; else ``"derived"`` stands in for ``"reference"``.
        tensors: all that it would read.

    Raises:
        ValueError: the one that is asked for cannot run; the message says why.
    """
    seen, reason = None, ""
    if plain and transforms_active():
        seen = _FUNCTORCH
    elif has_tangent(tensors):
        seen = _FORWARD
    elif followed((like, *tensors)):
        seen = _DISPATCH
    for name in reversed(_TABLE) if backend == "auto" else (backend,):
        candidate = _load(name)
        if candidate.plain and not plain:
            candidate = _load("derived")
        # Where a node will do, "derived" is plain operations too.
        followable = candidate.plain or not (plain or candidate.compiled)
        problem = candidate.unsupported(like) if seen is None or followable else seen
        if problem is None:
            if reason and not candidate.compiled:
                _say_once(candidate.name, reason)
            return candidate
        reason = reason or problem
    raise ValueError(
        f"backend: {backend!r} cannot run {what}: {reason}; use backend='auto', which takes "
        "another where it must"
    )
