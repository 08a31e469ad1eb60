"""A few fixed sequences, and what a model remembers of them at the moment it is asked."""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from longlag.gradients.losses import resolve_loss
from longlag.gradients.method import Loss
from longlag.gradients.parts import as_scalar
from longlag.layers.base import RecurrentModule
from longlag.memory.measures.calls import (
    Call,
    Part,
    facts_of,
    flow_of,
    parts_of,
    reader_of,
    recurrent_modules,
    without_hooks,
)
from longlag.memory.measures.directions import Directions, recurrent_of
from longlag.memory.measures.horizon import spread
from longlag.memory.measures.norms import JacobianNorms, jacobian_norms
from longlag.randomness import isolated

__all__ = ["FRACTION", "Found", "Probe", "gradient_norm"]

FRACTION = 0.01
"""The horizon is where a curve is below so much of its value at lag 0."""

LAGS = 16
"""How many lags are looked at where nothing is said."""


@dataclass
class Found:
    """What a measurement finds; see `MemoryRecord`."""

    lags: tuple[int, ...] = ()
    horizon: dict[str, int | None] = field(default_factory=dict)
    log_norms: dict[str, tuple[float, ...]] = field(default_factory=dict)
    norms: dict[str, float] = field(default_factory=dict)
    radii: dict[str, float] = field(default_factory=dict)


class Probe:
    """Measures a model on sequences that stay the same, and leaves nothing behind.

    Args:
        model, x, target, loss, lengths, lags, sequences, seed: as for `MemoryRecorder`.

    >>> import longlag as ll
    >>> probe = Probe(nn.GRU(2, 4, batch_first=True), torch.ones(1, 9, 2), lags=(1, 9))
    >>> found = probe.measure()
    >>> list(found.log_norms), len(found.log_norms["GRU"]), list(found.norms)[:2]
    (['GRU'], 2, ['GRU.reset', 'GRU.update'])
    """

    def __init__(
        self,
        model: nn.Module,
        x: Any,
        target: Any = None,
        loss: str | Loss | None = None,
        *,
        lengths: Any = None,
        lags: Sequence[int] | None = None,
        sequences: int | None = 4,
        seed: int = 0,
    ) -> None:
        recurrent_modules(model)
        # A compiled model is measured by the one that was compiled.
        self.model: nn.Module = getattr(model, "_orig_mod", model)
        axis = _sequence_axis(self.model)
        self._x = _first(torch.as_tensor(x), sequences, axis, "x")
        self._target = self._loss = None
        if target is not None:
            self._target = _first(torch.as_tensor(target), sequences, axis, "target")
            _, self._loss = resolve_loss(loss, self._target)
        self._lengths = None
        if lengths is not None:
            self._lengths = torch.as_tensor(lengths)[..., :sequences].clone()
        self._lags = None if lags is None else tuple(sorted(set(lags)))
        self._seed = seed

    @property
    def device(self) -> torch.device:
        """Where the model is now."""
        return next(self.model.parameters()).device

    def measure(self) -> Found:
        """Find all that a record holds, of the present weights.

        Raises:
            ValueError: a lag is longer than the sequences; the model does not run its recurrent
                modules; the loss reads a final state that is not an output.
        """
        with _apart_from_training(self.device):
            return self._found()

    def _found(self) -> "Found":
        found = Found()
        parts = list(self._parts(found))
        steps = max(part.reading.x.shape[-2] for _, part in parts)
        found.lags = tuple(spread(steps, LAGS)) if self._lags is None else self._lags
        if found.lags and found.lags[-1] > steps:
            raise ValueError(
                f"lags: got {found.lags[-1]}, expected at most {steps}, the steps of the sequences"
            )
        for name, part in parts:
            curves = _curves(part, found.lags, self._seed)
            named = {self._name(name, part.name, way): by for way, by in curves.items()}
            found.log_norms |= {key: tuple(by) for key, by in named.items()}
            if part.error is None:
                found.horizon |= {key: _horizon(found.lags, by) for key, by in named.items()}
                continue
            for layer in flow_of(part, None, weights=False).layers:
                lag = float(layer.horizons(FRACTION).median())
                key = self._name(name, layer.layer)
                found.horizon[key] = int(lag) if math.isfinite(lag) else None
        return found

    def _parts(self, found: "Found") -> Iterator[tuple[str, Part]]:
        """What is measured for itself, with the name of its module; facts of the weights."""
        clone = without_hooks(self.model)
        modules = recurrent_modules(clone)
        calls = self._calls(clone, modules)
        for name, call in calls.items():
            reader = reader_of(self._name(name), modules[name])
            self._facts(found, name, reader)
            error = None
            if self._target is not None:
                error = call.error(self._name(name), modules[name], reader)
            for part in parts_of(reader, call.reading(modules[name], reader), error):
                yield name, part

    def _calls(self, clone: nn.Module, modules: Mapping[str, nn.Module]) -> dict[str, Call]:
        """A pass of the model, as each recurrent module has seen it; with gradients, if wanted."""
        calls: dict[str, Call] = {}
        leaves: dict[str, dict[int, Tensor]] = {}

        def see(name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            call = Call.of(module, args, kwargs)
            if call is not None:
                calls[name], leaves[name] = call, dict(Call.outputs(output))
                for tensor in leaves[name].values() if torch.is_grad_enabled() else ():
                    if not tensor.requires_grad:  # of frozen weights
                        tensor.requires_grad_()

        for name, module in modules.items():
            module.register_forward_hook(functools.partial(see, name), with_kwargs=True)
        like = next(self.model.parameters())
        given = {} if self._lengths is None else {"lengths": self._lengths.to(like.device)}
        with torch.set_grad_enabled(self._target is not None):
            output = clone(_as(self._x, like), **given)
            output = output[0] if isinstance(output, tuple) else output
            if not calls:
                raise ValueError(
                    "model: called as model(x), it ran none of its recurrent modules, or another "
                    "than its submodules"
                )
            if self._loss is not None and self._target is not None:
                value = as_scalar(self._loss(output, _as(self._target, like)))
                flat = [(n, k, each) for n, by in leaves.items() for k, each in by.items()]
                slopes: Sequence[Tensor | None] = [None] * len(flat)
                if value.requires_grad:
                    tensors = [each for _, _, each in flat]
                    slopes = torch.autograd.grad(value, tensors, allow_unused=True)
                for (name, slot, _), slope in zip(flat, slopes, strict=True):
                    if slope is not None:
                        calls[name].gradients[slot] = slope
        return calls

    def _facts(self, found: "Found", name: str, reader: RecurrentModule) -> None:
        for path, facts in facts_of(reader).items():
            for gate, numbers in facts.matrices.items():
                key = f"{self._name(name, path)}.{gate}"
                found.norms[key] = float(numbers.norm.mean())
                found.radii[key] = float(numbers.radius.mean())

    def _name(self, *paths: str) -> str:
        return ".".join(path for path in paths if path) or type(self.model).__name__


def _sequence_axis(model: nn.Module) -> int:
    replicas = getattr(recurrent_of(model), "replicas", None)
    return int(replicas is not None or getattr(model, "batch_first", True) is False)


def _first(tensor: Tensor, count: int | None, axis: int, name: str) -> Tensor:
    """A copy of the first sequences."""
    if count is None:
        return tensor.detach().clone()
    if tensor.dim() <= axis or not tensor.shape[axis]:
        raise ValueError(
            f"{name}: got shape {tuple(tensor.shape)}, expected sequences along axis {axis}; "
            "sequences=None takes it as it is"
        )
    return tensor.detach().narrow(axis, 0, min(count, tensor.shape[axis])).clone()


def _as(tensor: Tensor, like: Tensor) -> Tensor:
    """On the device of the weights; floats in their dtype."""
    return tensor.to(like.device, like.dtype if tensor.is_floating_point() else None)


@contextmanager
def _apart_from_training(device: torch.device) -> Iterator[None]:
    """Whatever is drawn, and whatever mode the caller is in, neither touches the other."""
    on_gpu = device.type == "cuda"
    # cuDNN has no way back through a network that is in evaluation mode.
    native = torch.backends.cudnn.flags(enabled=False) if on_gpu else nullcontext()
    with (
        isolated(device),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        native,
    ):
        yield


def _curves(part: Part, lags: Sequence[int], seed: int) -> dict[str, list[float]]:
    """The mean logarithm by lag, NaN for lags beyond the steps; by direction, "" for only one."""
    both = hasattr(part.layer, "backward_layer")
    ways: tuple[str, ...] = ("forward_layer", "backward_layer") if both else ("",)
    nothing: dict[str, list[float]] = {way: [math.nan] * len(lags) for way in ways}
    if not all(bool(each.isfinite().all()) for each in part.layer.parameters()):
        return nothing

    def values(found: JacobianNorms) -> list[float]:
        mean = found.largest.mean
        by_lag = dict(zip(found.lags.tolist(), mean.view(-1, mean.shape[-1]).mean(0).tolist(),
                          strict=True))  # fmt: skip
        return [by_lag.get(lag, math.nan) for lag in lags]

    try:
        found = jacobian_norms(
            part.layer, lags=lags, sample="ends", seed=seed, smallest=False, **part.given({})
        )
    except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage] - states of NaN
        return nothing
    directions = found if isinstance(found, Directions) else (found,)
    return {way: values(each) for way, each in zip(ways, directions, strict=True)}


def _horizon(lags: Sequence[int], curve: Sequence[float]) -> int | None:
    """The lag from which on the norm is below 1 % for good, from its logarithm at some lags.

    >>> _horizon([1, 10, 100], [-0.1, -4.1, -100.0])  # a straight line from -4.1 at lag 10
    11
    """
    limit = math.log(FRACTION)
    points = [(0, 0.0), *zip(lags, curve, strict=True)]
    above = max(at for at, (_, value) in enumerate(points) if not value < limit)
    if above == len(points) - 1:
        return None
    (begin, high), (end, low) = points[above], points[above + 1]
    if not math.isfinite(high) or low == -math.inf:
        return end if not math.isfinite(high) else begin + 1
    return min(end, begin + max(1, math.ceil((end - begin) * (high - limit) / (high - low))))


def gradient_norm(model: nn.Module) -> float | None:
    """Of all gradients in `.grad` together; None where there is none."""
    found = [each.grad for each in model.parameters() if each.grad is not None]
    dense = [each.coalesce().values() if each.is_sparse else each for each in found]
    if not dense:
        return None
    norms = [torch.linalg.vector_norm(each.detach()).float().cpu() for each in dense]
    return float(torch.linalg.vector_norm(torch.stack(norms)))
