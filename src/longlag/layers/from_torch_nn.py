"""From torch.nn: RNN, LSTM and GRU, several layers, both directions.

torch.nn keeps two biases per gate where the equations have one: their sum. Only the reset of a
GRU tells them apart, and there longlag keeps both, as ``bias`` and ``bias_hn``.
"""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from longlag.layers.base import RecurrentModule
from longlag.layers.bidirectional import Bidirectional
from longlag.layers.built_in import GRU, LSTM, Elman
from longlag.layers.parameters import MAKE_PLAIN, UNTIE, tied
from longlag.layers.recurrent import Options, Recurrent
from longlag.layers.stack import Stack


def from_torch(module: nn.RNNBase, *, batch_first: bool | None = None) -> RecurrentModule:
    """The same network as a longlag module, with copies of its weights, frozen where these are.

    Args:
        module: a torch.nn.RNN, LSTM or GRU.
        batch_first: True where x will be (N, T, C), as every layer of longlag reads it, although
            the module reads (T, N, C). By default what the module says.

    Returns:
        A layer; a :class:`Bidirectional` for both directions; a :class:`Stack` for several
        layers. It reads (N, T, C).

    Raises:
        TypeError: for any other module.
        ValueError: the module reads (T, N, C), and nothing was said of it; it is an LSTM with
            ``proj_size``, which the equations do not have; a weight is computed from others, or
            the same in two places; of a GRU ``bias_hh`` is trained and ``bias_ih`` is not.

    Example:
        >>> layer = from_torch(torch.nn.GRU(3, 4, batch_first=True))
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
    if not (module.batch_first if batch_first is None else batch_first):
        raise ValueError(
            "batch_first: got False, for x of (T, N, C), expected True: layers of longlag read "
            "(N, T, C); give the layer x.transpose(0, 1), and from_torch batch_first=True"
        )
    _check_parameters(module)
    return converted(module)


def converted(module: nn.RNNBase) -> RecurrentModule:
    """As :func:`from_torch`, of any layout, with the weights as they are now, whatever made them.

    An LSTM with ``proj_size`` is the caller's to refuse.
    """
    layers = []
    for suffixes in _suffixes(module):
        directions = [_layer_from(module, suffix) for suffix in suffixes]
        layers.append(Bidirectional(*directions) if module.bidirectional else directions[0])
    result = layers[0] if len(layers) == 1 else Stack(*layers, dropout=module.dropout)
    return result.train(module.training)


def _suffixes(module: nn.RNNBase) -> Iterator[list[str]]:
    """What the names of the weights end with: of each layer, for each direction."""
    for number in range(module.num_layers):
        yield [f"_l{number}{way}" for way in ("", "_reverse")[: 1 + module.bidirectional]]


def _check_parameters(module: nn.RNNBase) -> None:
    """The weights are parameters, each in one place, that a layer can hold."""
    for name, other in tied(module).items():
        raise ValueError(
            f"module: {name} is the same parameter as {other}, and a copy would be another; {UNTIE}"
        )
    parameters = dict(module.named_parameters(recurse=False))
    for suffix in itertools.chain(*_suffixes(module)):
        names = ["weight_ih", "weight_hh", *(["bias_ih", "bias_hh"] if module.bias else ())]
        for name in names:
            if name + suffix not in parameters:
                raise ValueError(
                    f"module: {name}{suffix} is computed from other parameters; {MAKE_PLAIN}"
                )
        if isinstance(module, nn.GRU) and module.bias:
            ours, theirs = (parameters[name + suffix] for name in ("bias_ih", "bias_hh"))
            if theirs.requires_grad and not ours.requires_grad:
                raise ValueError(
                    f"module: bias_hh{suffix} is trained and bias_ih{suffix} is frozen, of which "
                    "the gates r and z have the sum; freeze both, or train bias_ih"
                )


def _layer_from(module: nn.RNNBase, suffix: str) -> Recurrent:
    def weight(name: str) -> Tensor:
        return getattr(module, name + suffix)

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
            b_ih, b_hh = weight("bias_ih"), weight("bias_hh")
            layer.bias.copy_(b_ih + b_hh).requires_grad_(b_ih.requires_grad or b_hh.requires_grad)
            if isinstance(layer, GRU):
                last = slice(-module.hidden_size, None)
                layer.bias[last] = b_ih[last]
                layer.get_parameter("bias_hn").copy_(b_hh[last]).requires_grad_(b_hh.requires_grad)
    layer.weight_ih.requires_grad_(w_ih.requires_grad)
    layer.weight_hh.requires_grad_(w_hh.requires_grad)
    return layer
