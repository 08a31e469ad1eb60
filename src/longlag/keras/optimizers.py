"""Keras' optimizers on PyTorch as compiled formulas, over Keras' own variables.

The formulas, and the order of their operations, are those of ``keras.src.backend.torch``.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from longlag.keras.loop import as_tensor
from longlag.scan.cpu.builder import Value
from longlag.scan.cpu.math_values import Arithmetic
from longlag.training.compiled.network import Unfit
from longlag.training.compiled.optimizers import Rule


def _rmsprop(
    v: Arithmetic, rule: Rule, c: Sequence[Value], p: Value, g: Value, state: list[Value]
) -> Value:
    rate, rho, rest, eps, momentum = c[:5]
    square = state[0] = v.fma(v.mul(g, g), rest, v.mul(state[0], rho))
    below = v.add(square, eps)
    if rule.centered:
        mean = state[1] = v.fma(g, rest, v.mul(state[1], rho))
        below = v.sub(below, v.mul(mean, mean))
    step = v.div(v.mul(g, rate), v.sqrt(below))
    if rule.momentum:
        step = state[-1] = v.add(v.mul(state[-1], momentum), step)
    return v.sub(p, step)


def _adam(
    v: Arithmetic, rule: Rule, c: Sequence[Value], p: Value, g: Value, state: list[Value]
) -> Value:
    alpha, first, first_rest, second, second_rest, eps = c[:6]
    mean = state[0] = v.fma(g, first_rest, v.mul(state[0], first))
    square = state[1] = v.fma(v.mul(g, g), second_rest, v.mul(state[1], second))
    return v.sub(p, v.div(v.mul(mean, alpha), v.add(v.sqrt(square), eps)))


def _sgd(
    v: Arithmetic, rule: Rule, c: Sequence[Value], p: Value, g: Value, state: list[Value]
) -> Value:
    rate, momentum = c[:2]
    down = v.neg(v.mul(g, rate))
    if not rule.momentum:
        return v.add(p, down)
    speed = state[0] = v.add(v.mul(state[0], momentum), down)
    return v.fma(speed, momentum, v.add(p, down)) if rule.nesterov else v.add(p, speed)


_UNUSUAL = (
    "weight_decay", "clipnorm", "clipvalue", "use_ema", "loss_scale_factor",
    "gradient_accumulation_steps", "amsgrad",
)  # fmt: skip
"""Arguments of Keras' optimizers that must be off."""


class CompiledOptimizer:
    """An optimizer of Keras as a compiled step uses it.

    Args:
        optimizer: of Keras, built.

    Attributes:
        optimizer: the same.
        rule: what is compiled.
        clip_norm: the largest norm of the whole gradient, or None.

    Raises:
        Unfit: it cannot be compiled.
    """

    def __init__(self, optimizer: Any) -> None:
        config = optimizer.get_config()
        for argument in _UNUSUAL:
            if config.get(argument):
                raise Unfit(f"the optimizer has {argument}={config[argument]!r}")
        self.optimizer = optimizer
        self.clip_norm: float | None = config["global_clipnorm"]
        self.rule, self._lists, self._numbers = self._of(optimizer)

    def _of(self, optimizer: Any) -> tuple[Rule, list[Any], Callable[[Tensor], list[float]]]:
        """The rule, the lists of states, and what makes the numbers of an update of the rate."""
        kind, momentum = type(optimizer), bool(getattr(optimizer, "momentum", 0))
        name = kind.__name__ if kind.__module__.partition(".")[0] == "keras" else ""
        if name == "SGD":
            rule = Rule(_sgd, ("m",) * momentum, momentum=momentum, nesterov=optimizer.nesterov)
            return rule, [optimizer.momentums] * momentum, self._of_sgd
        if name == "RMSprop":
            centered = bool(optimizer.centered)
            names = ("v", *("mean",) * centered, *("m",) * momentum)
            lists = [optimizer._velocities]
            lists += [optimizer._average_gradients] * centered
            lists += [optimizer._momentums] * momentum
            rule = Rule(_rmsprop, names, momentum=momentum, centered=centered)
            return rule, lists, self._of_rmsprop
        if name == "Adam":
            lists = [optimizer._momentums, optimizer._velocities]
            return Rule(_adam, ("m", "v")), lists, self._of_adam
        raise Unfit(f"the optimizer is {kind.__name__}, expected RMSprop, Adam or SGD of Keras")

    def states(self, variable: Any) -> dict[str, Tensor]:
        """The tensors of state of a variable, by the names in the rule."""
        place = self.optimizer._get_variable_index(variable)
        return {
            name: states[place].value
            for name, states in zip(self.rule.states, self._lists, strict=True)
        }

    def coefficients(self, dtype: torch.dtype) -> list[float]:
        """The numbers of the next update, in the order of the formula."""
        return self._numbers(as_tensor(self.optimizer.learning_rate).detach().to(dtype))

    def _of_sgd(self, rate: Tensor) -> list[float]:
        return [float(rate), self.optimizer.momentum]

    def _of_rmsprop(self, rate: Tensor) -> list[float]:
        keras = self.optimizer
        return [float(rate), keras.rho, 1 - keras.rho, keras.epsilon, keras.momentum]

    def _of_adam(self, rate: Tensor) -> list[float]:
        """As Keras computes them: in the type of the weights, of which 1 - 0.999 has few digits."""
        first, second = betas = self.optimizer.beta_1, self.optimizer.beta_2
        step = torch.tensor(float(self.optimizer.iterations.value + 1), dtype=rate.dtype)
        powers = [torch.tensor(beta, dtype=rate.dtype) ** step for beta in betas]
        alpha = rate * torch.sqrt(1 - powers[1]) / (1 - powers[0])
        return [float(alpha), first, 1 - first, second, 1 - second, self.optimizer.epsilon]

    def count(self) -> None:
        """Note an update."""
        self.optimizer.iterations.value.add_(1)
