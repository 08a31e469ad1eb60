"""SimpleRNN, LSTM and GRU: Keras' own layers, but for their loop over time.

Arguments, weights, initialisation, configuration and saving are those of Keras, which the classes
inherit.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import torch
from torch import Tensor

from longlag.keras.cells import GRUCell, LSTMCell, SimpleRNNCell, name_of
from longlag.keras.loop import Compiled, Pass, as_tensor
from longlag.layers import Recurrent
from longlag.recurrence import Cell, Recurrence
from longlag.scan import Weights, register


def _masks(mask: Any) -> list[Tensor] | None:
    """Dropout masks as Keras draws them: one, one for each gate, or None."""
    return None if mask is None else [*mask] if isinstance(mask, (list, tuple)) else [mask]


class Move(NamedTuple):
    """Numbers of a variable that are those of a longlag layer, turned: (R, C) to (C, R).

    Attributes:
        parameter: of the layer.
        rows, columns: R and C, in the variable.
        source, target: where they begin in the variable, and in the parameter.
        adds: whether they are added to what is there.
    """

    parameter: Tensor
    rows: int
    columns: int
    source: int = 0
    target: int = 0
    adds: bool = False


class KerasLayer(Compiled):
    """What the three have in common."""

    _gate_activations = ("activation",)
    _inner = 0  # states of the cell that no later step reads, and Keras does not know

    def _reason(self: Any) -> str | None:
        for argument in self._gate_activations:
            function = getattr(self.cell, argument)
            if name_of(function) is None:
                name = getattr(function, "__name__", repr(function))
                return f"longlag's kernels have no {argument} {name}"
        return None

    def _names(self: Any) -> list[Any]:
        return [name_of(getattr(self.cell, argument)) for argument in self._gate_activations]

    def _declared(self, masked: bool) -> Cell:
        """The cell, with or without a recurrent dropout mask for each gate."""
        raise NotImplementedError

    def _recurrence(self: Any, masked: bool) -> Recurrence:
        known = self.__dict__.setdefault("_recurrences", {})
        key = (masked, *self._names())
        if key not in known:
            known[key] = self._declared(masked).recurrence
            register(known[key])
        return known[key]

    def _bias(self: Any) -> tuple[Tensor | None, tuple[Tensor, ...]]:
        """The bias of all gates, and the unit parameters."""
        bias = self.cell.bias
        return None if bias is None else as_tensor(bias), ()

    def shadow(self: Any) -> tuple[Recurrent, list[tuple[Any, list[Move]]]]:
        """A layer of longlag with the same equations, and where each variable is found in it."""
        cell = self.cell
        size = cell.kernel.shape[0]
        with torch.random.fork_rng(devices=[]):
            layer = Recurrent(self._declared(False), size, self.units, bias=self.use_bias)
        layer = layer.to(as_tensor(cell.kernel).dtype)
        assert layer.weight_hh is not None
        matrices = (cell.kernel, layer.weight_ih), (cell.recurrent_kernel, layer.weight_hh)
        moves = [(variable, [Move(tensor, *variable.shape)]) for variable, tensor in matrices]
        if self.use_bias:
            moves.append((cell.bias, self._bias_moves(layer)))
        return layer, moves

    def _bias_moves(self: Any, layer: Recurrent) -> list[Move]:
        assert layer.bias is not None
        return [Move(layer.bias, 1, layer.bias.numel())]

    def _drawn(self: Any, training: bool, x: Tensor, h: Tensor) -> tuple[Any, Any]:
        """The dropout masks of x and of h."""
        if not training:
            return None, None
        cell = self.cell
        return _masks(cell.get_dropout_mask(x[:, 0])), _masks(cell.get_recurrent_dropout_mask(h))

    def _pass(self: Any, x: Tensor, state: Sequence[Tensor], training: bool) -> Pass:
        matrix = as_tensor(self.cell.kernel)  # (C, G H)
        recurrent = as_tensor(self.cell.recurrent_kernel).T
        bias, units = self._bias()
        inputs, states = self._drawn(training, x, state[0])
        weights = Weights(recurrent, units, matrix.T, bias)
        if inputs is not None and len(inputs) == 1:
            x = x * inputs[0].unsqueeze(1)
        elif inputs is not None:  # each gate reads an x of its own
            blocks = zip(inputs, matrix.split(self.units, 1), strict=True)
            x = torch.cat([(x * mask.unsqueeze(1)) @ block for mask, block in blocks], -1)
            x = x if bias is None else x + bias
            weights = weights._replace(input=None, bias=None)
        inner = [torch.zeros_like(state[0])] * self._inner
        if states is None or len(states) == 1:
            mask = None if states is None else states[0]
            return Pass(self._recurrence(False), x, weights, mask, inner)
        further = (*inner, *states, *(mask * state[0] for mask in states))
        return Pass(self._recurrence(True), x, weights, None, further)


@keras.saving.register_keras_serializable("longlag")
class SimpleRNN(KerasLayer, keras.layers.SimpleRNN):
    r"""``keras.layers.SimpleRNN``, run by longlag's kernels.

    .. math:: h_t = \phi(x_t K + h_{t-1} R + b)

    The arguments, their defaults, the weights (kernel K (C, H), recurrent kernel R (H, H), bias
    (H,)), their order and the results are those of Keras' layer, of which this is a subclass.
    ``unroll`` changes nothing. On a GPU, and with an activation that no kernel has, Keras' own
    loop runs; the latter is said once.

    Args:
        units: H.
        options: as for ``keras.layers.SimpleRNN``.

    Attributes:
        backend_used: the backend of the latest call; ``"keras"`` where Keras' own loop ran.

    Raises:
        ValueError: for an argument out of range.

    Cost: that of :class:`longlag.Elman`; with a mask that is no right padding, one more copy of x
    and of the output.

    Example:
        >>> import keras
        >>> model = keras.Sequential([
        ...     keras.Input((64, 15)), SimpleRNN(16), keras.layers.Dense(8, activation="softmax"),
        ... ])
        >>> model.count_params(), model.output_shape
        (648, (None, 8))
    """

    def _declared(self, masked: bool) -> Cell:
        return SimpleRNNCell(*self._names())

    def get_config(self) -> dict[str, Any]:
        """Keras' own, with the seed of the dropout, which Keras leaves out."""
        config: Any = super().get_config()
        return {**config, "seed": self.cell.seed}


class _GatedLayer(KerasLayer):
    """A layer whose recurrent dropout has a mask for each gate."""

    _gate_activations = ("activation", "recurrent_activation")

    def _drawn(self: Any, training: bool, x: Tensor, h: Tensor) -> tuple[Any, Any]:
        inputs, states = super()._drawn(training, x, h)
        cell = self.cell  # Keras leaves out a dropout of everything
        return inputs if cell.dropout < 1 else None, states if cell.recurrent_dropout < 1 else None


@keras.saving.register_keras_serializable("longlag")
class LSTM(_GatedLayer, keras.layers.LSTM):
    r"""``keras.layers.LSTM``, run by longlag's kernels.

    .. math::
        c_t &= \sigma(a^f_t) \odot c_{t-1} + \sigma(a^i_t) \odot \phi(a^c_t) \\
        h_t &= \sigma(a^o_t) \odot \phi(c_t), \quad a^g_t = x_t K_g + h_{t-1} R_g + b_g

    with :math:`\sigma` the ``recurrent_activation`` and :math:`\phi` the ``activation``. Gate order
    as in Keras: i, f, c, o. Else as :class:`SimpleRNN`: kernel (C, 4 H), recurrent kernel (H, 4 H),
    bias (4 H,).

    Args:
        units: H.
        options: as for ``keras.layers.LSTM``.

    Attributes:
        backend_used: the backend of the latest call; ``"keras"`` where Keras' own loop ran.

    Raises:
        ValueError: for an argument out of range.

    Cost: that of :class:`longlag.LSTM`; twice to three times that where ``recurrent_dropout``, of
    which Keras draws a mask for each gate, is on.

    Example:
        >>> layer = LSTM(4, return_sequences=True)
        >>> layer(torch.zeros(2, 5, 3)).shape, [*map(tuple, map(lambda w: w.shape, layer.weights))]
        (torch.Size([2, 5, 4]), [(3, 16), (4, 16), (16,)])
    """

    def _declared(self, masked: bool) -> Cell:
        return LSTMCell(*self._names(), masked=masked)


@keras.saving.register_keras_serializable("longlag")
class GRU(_GatedLayer, keras.layers.GRU):
    r"""``keras.layers.GRU``, run by longlag's kernels.

    .. math::
        n_t &= \phi(x_t K_n + b_n + r_t \odot (h_{t-1} R_n + b'_n)) \\
        h_t &= z_t \odot h_{t-1} + (1 - z_t) \odot n_t

    with :math:`z` and :math:`r` of the ``recurrent_activation``, and :math:`\phi` the
    ``activation``. Gate order as in Keras: z, r, n. Else as :class:`SimpleRNN`: kernel (C, 3 H),
    recurrent kernel (H, 3 H), bias (2, 3 H): b and b'. With ``reset_after=False``, the reset
    stands before the product, (r_t h_{t-1}) R_n, and the bias is (3 H,).

    Args:
        units: H.
        options: as for ``keras.layers.GRU``.

    Attributes:
        backend_used: the backend of the latest call; ``"keras"`` where Keras' own loop ran.

    Raises:
        ValueError: for an argument out of range.

    Cost: that of :class:`longlag.GRU`; more with ``recurrent_dropout``, as for :class:`LSTM`.

    Example:
        >>> layer = GRU(4, return_state=True)
        >>> output, state = layer(torch.zeros(2, 5, 3))
        >>> output.shape, layer.cell.bias.shape
        (torch.Size([2, 4]), (2, 12))
    """

    @property
    def _inner(self) -> int:  # type: ignore[override]
        return 0 if self.cell.reset_after else 1

    def _declared(self, masked: bool) -> Cell:
        options = {"use_bias": self.use_bias, "reset_after": self.cell.reset_after}
        return GRUCell(*self._names(), masked=masked, **options)

    def _bias(self) -> tuple[Tensor | None, tuple[Tensor, ...]]:
        if not (self.use_bias and self.cell.reset_after):
            return super()._bias()
        inputs, recurrent = as_tensor(self.cell.bias)
        own = torch.nn.functional.pad(recurrent[: 2 * self.units], (0, self.units))
        return inputs + own, (recurrent[2 * self.units :].unsqueeze(0),)

    def _bias_moves(self, layer: Recurrent) -> list[Move]:
        moves, size = super()._bias_moves(layer), self.units
        if self.cell.reset_after:
            assert layer.bias is not None
            moves.append(Move(layer.bias, 1, 2 * size, source=3 * size, adds=True))
            moves.append(Move(layer.recurrent_bias, 1, size, source=5 * size))
        return moves
