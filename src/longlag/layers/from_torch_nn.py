"""From torch.nn: RNN, LSTM and GRU, several layers, both directions.

torch.nn keeps two biases per gate where the equations have one: their sum. Only the reset of a
GRU tells them apart, and there longlag keeps both, as ``bias`` and ``bias_hn``.
"""

import torch
from torch import Tensor, nn

from longlag.layers.base import RecurrentModule
from longlag.layers.bidirectional import Bidirectional
from longlag.layers.built_in import GRU, LSTM, Elman
from longlag.layers.recurrent import Options, Recurrent
from longlag.layers.stack import Stack


def from_torch(module: nn.RNNBase) -> RecurrentModule:
    """The same network as a longlag module, with copies of its weights.

    Args:
        module: a torch.nn.RNN, LSTM or GRU.

    Returns:
        A layer; a :class:`Bidirectional` for both directions; a :class:`Stack` for several
        layers. It reads (N, T, C) whatever ``batch_first`` was.

    Raises:
        TypeError: for any other module.
        ValueError: for an LSTM with ``proj_size``, which the equations do not have.

    Example:
        >>> layer = from_torch(torch.nn.GRU(3, 4))
        >>> type(layer).__name__, layer.weight_hh.shape
        ('GRU', torch.Size([12, 4]))
    """
    if not isinstance(module, (nn.RNN, nn.LSTM, nn.GRU)):
        raise TypeError(
            f"module: got {type(module).__name__}, expected torch.nn.RNN, torch.nn.LSTM or "
            "torch.nn.GRU"
        )
    if module.proj_size:
        raise ValueError(
            f"module: got proj_size={module.proj_size}, expected 0; longlag's LSTM has no "
            "projection"
        )
    layers = []
    for number in range(module.num_layers):
        directions = [
            _layer_from(module, number, suffix)
            for suffix in ("", "_reverse")[: 1 + module.bidirectional]
        ]
        layers.append(Bidirectional(*directions) if module.bidirectional else directions[0])
    converted = layers[0] if len(layers) == 1 else Stack(*layers, dropout=module.dropout)
    return converted.train(module.training)


def _layer_from(module: nn.RNNBase, number: int, suffix: str) -> Recurrent:
    def weight(name: str) -> Tensor:
        return getattr(module, f"{name}_l{number}{suffix}").detach()

    w_ih, w_hh = weight("weight_ih"), weight("weight_hh")
    sizes = (w_ih.shape[1], module.hidden_size)
    options: Options = {"bias": bool(module.bias), "device": w_ih.device, "dtype": w_ih.dtype}
    if isinstance(module, nn.RNN):
        layer: Recurrent = Elman(*sizes, activation=str(module.nonlinearity), **options)
    elif isinstance(module, nn.LSTM):
        layer = LSTM(*sizes, **options)
    else:
        layer = GRU(*sizes, **options)
    with torch.no_grad():
        layer.weight_ih.copy_(w_ih)
        assert layer.weight_hh is not None
        layer.weight_hh.copy_(w_hh)
        if layer.bias is not None:
            b_ih, b_hh = weight("bias_ih"), weight("bias_hh").clone()
            if isinstance(layer, GRU):
                layer.unit("bias_hn").copy_(b_hh[-module.hidden_size :])
                b_hh[-module.hidden_size :] = 0.0
            layer.bias.copy_(b_ih + b_hh)
    return layer
