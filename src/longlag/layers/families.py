"""The built-in layers: each is a cell of :mod:`longlag.cells` over sequences.

Every one takes the sizes, the arguments of its cell, and the options of
:class:`~longlag.layers.Recurrent`; the equation is in the cell's docstring.
"""

from collections.abc import Sequence

from typing_extensions import Unpack

from longlag import cells
from longlag.layers.recurrent import Options, Recurrent

__all__ = ["GRU", "LSTM", "LSTM1997", "Elman", "IndRNN", "Leaky"]


class Elman(Recurrent):
    r"""Elman network: :math:`h_t = \phi(U x_t + W h_{t-1} + b)`.

    Args:
        input_size: C.
        hidden_size: H.
        activation: phi: ``"tanh"``, ``"sigmoid"``, ``"relu"``, ``"identity"`` or
            ``"saturated"``; see :class:`longlag.cells.Elman`.
        options: see :class:`Recurrent`.

    Example:
        >>> layer = Elman(15, 16)
        >>> sum(parameter.numel() for parameter in layer.parameters())
        512
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: str = "tanh",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(cells.Elman(activation), input_size, hidden_size, **options)


class Leaky(Recurrent):
    r"""Leaky units: :math:`h_t = (1-a) \odot h_{t-1} + a \odot \phi(U x_t + W h_{t-1} + b)`.

    Args:
        input_size: C.
        hidden_size: H.
        leak: a in (0, 1], one number or one per unit.
        train_leak: whether a is trained; it then stays in (0, 1).
        shared_leak: one a for all units.
        recurrent: whether there is a W; without it and without biases this is
            :math:`h_t = (1-a) h_{t-1} + a \phi(U x_t)`.
        activation: phi.
        options: see :class:`Recurrent`.

    Example:
        >>> layer = Leaky(3, 4, leak=(0.5, 0.1, 0.02, 0.004))
        >>> layer.unit("leak")
        tensor([0.5000, 0.1000, 0.0200, 0.0040])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        leak: float | Sequence[float] = 0.1,
        train_leak: bool = False,
        shared_leak: bool = False,
        recurrent: bool = True,
        activation: str = "tanh",
        **options: Unpack[Options],
    ) -> None:
        given = float(leak) if isinstance(leak, (int, float)) else tuple(map(float, leak))
        cell = cells.Leaky(given, train_leak, shared_leak, recurrent, activation)
        super().__init__(cell, input_size, hidden_size, **options)


class LSTM(Recurrent):
    """Long short-term memory with a forget gate; gate order i, f, g, o as in torch.nn.LSTM.

    Args:
        input_size: C.
        hidden_size: H.
        forget_bias: initial bias of the forget gate.
        peepholes: whether the gates see the memory; see :class:`longlag.cells.LSTM`.
        options: see :class:`Recurrent`.

    Example:
        >>> import torch
        >>> output, state = LSTM(3, 4)(torch.zeros(2, 5, 3))
        >>> state.c.shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        forget_bias: float = 1.0,
        peepholes: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(cells.LSTM(forget_bias, peepholes), input_size, hidden_size, **options)


class LSTM1997(Recurrent):
    """Long short-term memory of 1997: no forget gate, the error truncated at the gates.

    Args:
        input_size: C.
        hidden_size: H, memory cells.
        output_gate: whether there is an output gate.
        recurrent: whether cell input and gates read h_{t-1}.
        cell_input: the squashing g, by name.
        cell_output: the squashing h, by name; see :class:`longlag.cells.LSTM1997`.
        options: see :class:`Recurrent`.

    Example:
        >>> net = LSTM1997(101, 1, output_gate=False, recurrent=False, bias=False)
        >>> sum(parameter.numel() for parameter in net.parameters())
        202
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        output_gate: bool = True,
        recurrent: bool = True,
        cell_input: str = "double_bipolar",
        cell_output: str = "bipolar",
        **options: Unpack[Options],
    ) -> None:
        cell = cells.LSTM1997(output_gate, recurrent, cell_input, cell_output)
        super().__init__(cell, input_size, hidden_size, **options)


class GRU(Recurrent):
    """Gated recurrent unit, reset after the product; gate order r, z, n as in torch.nn.GRU.

    Args:
        input_size: C.
        hidden_size: H.
        recurrent_bias: whether there is a second bias, b_hn, inside the reset; by default as
            ``bias``. See :class:`longlag.cells.GRU`.
        options: see :class:`Recurrent`.

    Example:
        >>> GRU(3, 4).bias_hn.shape
        torch.Size([4])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        recurrent_bias: bool | None = None,
        **options: Unpack[Options],
    ) -> None:
        if recurrent_bias is None:
            recurrent_bias = options.get("bias", True)
        super().__init__(cells.GRU(recurrent_bias), input_size, hidden_size, **options)


class IndRNN(Recurrent):
    r"""Independently recurrent network: :math:`h_t = \phi(U x_t + w \odot h_{t-1} + b)`.

    Args:
        input_size: C.
        hidden_size: H.
        activation: phi; the paper's is ``"relu"``.
        initial_low: w starts uniform in [initial_low, initial_high).
        initial_high: see ``initial_low``; see :class:`longlag.cells.IndRNN`.
        options: see :class:`Recurrent`.

    Example:
        >>> IndRNN(3, 4).weight_hh_diagonal.shape
        torch.Size([4])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: str = "relu",
        initial_low: float = 0.0,
        initial_high: float = 1.0,
        **options: Unpack[Options],
    ) -> None:
        cell = cells.IndRNN(activation, initial_low, initial_high)
        super().__init__(cell, input_size, hidden_size, **options)
