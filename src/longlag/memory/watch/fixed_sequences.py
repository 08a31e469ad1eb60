"""A few fixed sequences, and what a model remembers of them at the moment it is asked."""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from longlag.gradients.losses import as_scalar, resolve_loss
from longlag.gradients.method import Loss
from longlag.layers.base import RecurrentModule
from longlag.layers.composition import unwrapped
from longlag.memory.measures.directions import Directions, recurrent_of
from longlag.memory.measures.horizon import spread
from longlag.memory.measures.modules import reader_of, recurrent_modules
from longlag.memory.measures.norms import JacobianNorms, jacobian_norms
from longlag.memory.measures.parts import Part, flow_of, parts_of
from longlag.memory.measures.spectra import facts_by_layer
from longlag.memory.watch.calls import Call
from longlag.randomness import isolated
from longlag.torch_private import without_hooks

FRACTION = 0.01
"""The horizon is where a curve is below so much of its value at lag 0."""

LAGS = 16
"""How many lags are measured by default."""


@dataclass
class Measurement:
    """What a measurement gives; see `MemoryRecord`."""

    horizon: dict[str, int | None] = field(default_factory=dict)
    lags: tuple[int, ...] = ()
    log_norms: dict[str, tuple[float, ...]] = field(default_factory=dict)
    norms: dict[str, float] = field(default_factory=dict)
    radii: dict[str, float] = field(default_factory=dict)


class FixedSequences:
    """Measures a model on sequences that stay the same, and leaves nothing behind.

    Args:
        model, x, target, loss, lengths, lags, sequences, seed: as for `MemoryRecorder`.

    >>> import longlag as ll
    >>> fixed = FixedSequences(nn.GRU(2, 4, batch_first=True), torch.ones(1, 9, 2), lags=(1, 9))
    >>> result = fixed.measure()
    >>> list(result.log_norms), len(result.log_norms["GRU"]), list(result.norms)[:2]
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
        self.model: nn.Module = unwrapped(model)
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

    def measure(self) -> Measurement:
        """All that a record holds, of the present weights.

        Raises:
            ValueError: a lag is longer than the sequences; the model does not run its recurrent
                modules; the loss reads a final state that is not an output.
        """
        with _apart_from_training(self.device):
            return self._measurement()

    def _measurement(self) -> Measurement:
        clone, result = without_hooks(self.model), Measurement()
        modules = recurrent_modules(clone)
        parts: list[tuple[str, Part]] = []
        for name, call in self._calls(clone, modules).items():
            module, called = modules[name], self._name(name)
            reader = reader_of(called, module)
            self._add_facts(result, name, reader)
            error = None if self._target is None else call.error(called, module, reader)
            inputs = call.inputs(module, reader)
            parts += [(name, part) for part in parts_of(reader, inputs, error)]
        steps = max(part.inputs.x.shape[-2] for _, part in parts)
        result.lags = tuple(spread(steps, LAGS)) if self._lags is None else self._lags
        if result.lags and result.lags[-1] > steps:
            raise ValueError(
                f"lags: got {result.lags[-1]}, expected at most {steps}, the steps of the sequences"
            )
        for name, part in parts:
            self._add_norms(result, name, part)
        return result

    def _add_norms(self, result: Measurement, name: str, part: Part) -> None:
        curves = {
            self._name(name, part.name, direction): curve
            for direction, curve in _curves(part, result.lags, self._seed).items()
        }
        result.log_norms |= curves
        if part.error is None:
            result.horizon |= {key: _horizon(result.lags, curve) for key, curve in curves.items()}
            return
        for layer in flow_of(part, None, weights=False).layers:
            lag = float(layer.horizons(FRACTION).median())
            result.horizon[self._name(name, layer.layer)] = int(lag) if math.isfinite(lag) else None

    def _calls(self, clone: nn.Module, modules: Mapping[str, nn.Module]) -> dict[str, Call]:
        """A pass of the model, as each recurrent module has seen it; with gradients, if wanted."""
        calls: dict[str, Call] = {}
        outputs: dict[str, list[tuple[Call, int, Tensor]]] = {}

        def see(name: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            call = Call.of(module, args, kwargs)
            if call is not None:
                calls[name] = call
                outputs[name] = [(call, *numbered) for numbered in Call.outputs(output)]
                for *_, tensor in outputs[name] if torch.is_grad_enabled() else ():
                    if not tensor.requires_grad:  # of frozen weights
                        tensor.requires_grad_()

        for name, module in modules.items():
            module.register_forward_hook(functools.partial(see, name), with_kwargs=True)
        like = next(self.model.parameters())
        options = {} if self._lengths is None else {"lengths": self._lengths.to(like.device)}
        with torch.set_grad_enabled(self._target is not None):
            output = clone(_as(self._x, like), **options)
            output = output[0] if isinstance(output, tuple) else output
            if not calls:
                raise ValueError(
                    "model: called as model(x), it ran none of its recurrent modules, or another "
                    "than its submodules"
                )
            if self._loss is None or self._target is None:
                return calls
            value = as_scalar(self._loss(output, _as(self._target, like)))
            if value.requires_grad:
                slots = [slot for of_call in outputs.values() for slot in of_call]
                tensors = [tensor for *_, tensor in slots]
                gradients = torch.autograd.grad(value, tensors, allow_unused=True)
                for (call, number, _), gradient in zip(slots, gradients, strict=True):
                    if gradient is not None:
                        call.gradients[number] = gradient
        return calls

    def _add_facts(self, result: Measurement, name: str, reader: RecurrentModule) -> None:
        for path, facts in facts_by_layer(reader).items():
            for gate, numbers in facts.matrices.items():
                key = f"{self._name(name, path)}.{gate}"
                result.norms[key] = float(numbers.norm.mean())
                result.radii[key] = float(numbers.radius.mean())

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
    # cuDNN has no backward pass for a network in evaluation mode.
    native = torch.backends.cudnn.flags(enabled=False) if on_gpu else nullcontext()
    with (
        isolated(device),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        native,
    ):
        yield


def _curves(part: Part, lags: Sequence[int], seed: int) -> dict[str, tuple[float, ...]]:
    """The mean logarithm by lag, NaN for lags beyond the steps; by direction, "" for only one."""
    names = tuple(part.layer.directions)
    nothing = dict.fromkeys(names, (math.nan,) * len(lags))
    if not all(bool(parameter.isfinite().all()) for parameter in part.layer.parameters()):
        return nothing
    try:
        norms = jacobian_norms(
            part.layer, lags=lags, sample="ends", seed=seed, smallest=False, **part.arguments({})
        )
    except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage] - states of NaN
        return nothing
    directions = norms if isinstance(norms, Directions) else (norms,)
    return {name: _mean_curve(own, lags) for name, own in zip(names, directions, strict=True)}


def _mean_curve(norms: JacobianNorms, lags: Sequence[int]) -> tuple[float, ...]:
    mean = norms.largest.mean
    mean = mean.view(-1, mean.shape[-1]).mean(0)  # of replicas
    by_lag = dict(zip(norms.lags.tolist(), mean.tolist(), strict=True))
    return tuple(by_lag.get(lag, math.nan) for lag in lags)


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
