"""Intrinsic plasticity: each unit adapts its gain and bias until its outputs are well spread."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from longlag.arguments import check_number, check_whole
from longlag.layers.checks import check_input
from longlag.layers.evaluation import evaluation_mode
from longlag.layers.recurrent import Recurrent
from longlag.reservoirs.echoes import check_leaky


@dataclass(frozen=True)
class IntrinsicPlasticity:
    r"""Intrinsic plasticity: gain and bias of each unit, such that its output has a distribution.

    For :math:`y = \phi(g z + b)` and z = U x + W h, each step goes down the gradient of the
    Kullback-Leibler divergence of the outputs from the target. With tanh that is a Gaussian of this
    mean and standard deviation:

    .. math:: \Delta b = -\eta \left(-\frac{\mu}{\sigma^2} + \frac{y}{\sigma^2}
        (2 \sigma^2 + 1 - y^2 + \mu y)\right)

    with the logistic sigmoid an exponential of this mean:

    .. math:: \Delta b = \eta \left(1 - \left(2 + \frac{1}{\mu}\right) y + \frac{y^2}{\mu}\right)

    and with both :math:`\Delta g = \eta / g + \Delta b\, z`. A gain multiplies its unit's rows of U
    and W, so the layer stays what it was: y is what the leak has not smoothed yet, the state itself
    where a = 1.

    Args:
        mean: mu; of an exponential above 0, of a Gaussian in (-1, 1).
        std: sigma > 0 of a Gaussian; None for an exponential.
        rate: eta > 0, the step for each step of a sequence.
        every: steps that are run before gains and biases change, by the sum over the steps.

    Raises:
        TypeError, ValueError: for an argument out of range.

    Source: J. Triesch, A gradient rule for the plasticity of a neuron's intrinsic excitability,
    ICANN 2005; B. Schrauwen, M. Wardermann, D. Verstraeten, J. J. Steil and D. Stroobandt,
    Improving reservoirs using intrinsic plasticity, Neurocomputing 71, 2008.

    Example:
        >>> import longlag as ll
        >>> layer = ll.EchoState(1, 50, bias_scaling=0.1, seed=0)
        >>> x = torch.rand(1, 2000, 1, generator=torch.Generator().manual_seed(0))
        >>> gain = ll.reservoirs.IntrinsicPlasticity(std=0.3, rate=1e-3).adapt(layer, x, epochs=3)
        >>> bool((layer(x)[0].std(1).mean() - 0.3).abs() < 0.05)
        True
    """

    mean: float = 0.0
    std: float | None = 0.2
    rate: float = 1e-3
    every: int = 10

    def __post_init__(self) -> None:
        if self.std is None:
            check_number("mean", self.mean, above=0.0)
        else:
            check_number("std", self.std, above=0.0)
            check_number("mean", self.mean, above=-1.0, most=1.0)
        check_number("rate", self.rate, above=0.0)
        check_whole("every", self.every, 1)

    @torch.no_grad()
    def adapt(self, layer: Recurrent, x: Tensor, *, epochs: int = 1) -> Tensor:
        """Adapt a layer in place, its W, U and b; the shape and all else stay.

        Args:
            layer: an :class:`~longlag.EchoState` with biases, of activation "tanh" for a Gaussian
                and "sigmoid" for an exponential.
            x: (N, T, C); gains and biases change by the mean over the N sequences.
            epochs: passes over x, each from a zero state.

        Returns:
            The gains, (H,), in float64: what the rows of U and W are multiplied by.

        Raises:
            TypeError, ValueError: the layer or an argument is another; a gain did not stay finite
                and above 0. The layer is then as it was.

        Cost: a run over x, and H (C + H) multiply-adds for each step.
        """
        self._check(layer)
        x = check_input(x, layer.input_size, None, layer.weight_ih)
        check_whole("epochs", epochs, 1)
        adapted = copy.deepcopy(layer)
        gain = layer.weight_ih.new_ones(layer.hidden_size, dtype=torch.float64)
        assert layer.bias is not None
        bias = layer.bias.double()
        with evaluation_mode(adapted):
            for _ in range(epochs):
                state, last = None, x.new_zeros(len(x), 1, layer.hidden_size)
                for piece in x.split(self.every, 1):
                    h, state = adapted(piece, state)
                    before = torch.cat([last, h[:, :-1]], 1).double()
                    last = h[:, -1:]
                    d_gain, d_bias = self._changes(adapted, piece.double(), before, gain, bias)
                    gain, bias = gain + d_gain, bias + d_bias
                    if not bool((gain > 0).all() and gain.isfinite().all()):
                        raise ValueError(
                            f"rate: got {self.rate}, with which a gain did not stay finite and "
                            "above 0; expected a smaller one, or an x that is finite"
                        )
                    _set(adapted, layer, gain, bias)
        for name, weight in adapted.named_parameters():
            layer.get_parameter(name).copy_(weight)
        return gain

    def _check(self, layer: Recurrent) -> None:
        check_leaky(layer, "IntrinsicPlasticity")
        wanted = "sigmoid" if self.std is None else "tanh"
        phi = layer.cell.activation  # type: ignore[union-attr]
        if phi != wanted:
            target = "an exponential (std=None)" if self.std is None else "a Gaussian"
            raise ValueError(f"layer: got activation={phi!r}, expected {wanted!r} for {target}")
        if layer.computed:
            raise ValueError(
                f"layer: {layer.computed[0]} is computed from other parameters; "
                "IntrinsicPlasticity changes weights in place"
            )
        if layer.bias is None:
            raise ValueError(
                "layer: it has no biases, which IntrinsicPlasticity adapts; build it with a small "
                "bias_scaling, such as 1e-3"
            )

    def _changes(
        self, layer: Recurrent, x: Tensor, before: Tensor, gain: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Of gains and biases, summed over the steps: x (N, t, C), states before (N, t, H)."""
        net = x @ layer.weight_ih.double().mT
        matrix = layer.recurrent_matrix()
        if matrix is not None:
            net = net + before @ matrix.double().mT
        mean = self.mean
        if self.std is None:
            y = torch.sigmoid(net + bias)
            d_bias = 1 - (2 + 1 / mean) * y + y.square() / mean
        else:
            y, square = torch.tanh(net + bias), self.std**2
            d_bias = (mean - y * (2 * square + 1 - y.square() + mean * y)) / square
        d_gain = 1 / gain + d_bias * net / gain
        return tuple(self.rate * part.sum(1).mean(0) for part in (d_gain, d_bias))  # type: ignore[return-value]


def _set(adapted: Recurrent, layer: Recurrent, gain: Tensor, bias: Tensor) -> None:
    """The weights of a layer, times gains, into another one."""
    assert adapted.bias is not None
    adapted.bias.copy_(bias)
    adapted.weight_ih.copy_(layer.weight_ih * gain.unsqueeze(-1))
    if adapted.weight_hh is not None and layer.weight_hh is not None:
        entries = layer.entries
        by_row = gain.unsqueeze(-1) if entries is None else gain[entries.rows]
        adapted.weight_hh.copy_(layer.weight_hh * by_row)
