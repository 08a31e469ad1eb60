"""torch.nn's RNN, LSTM and GRU with longlag's kernels as their pass over time.

Constructors, parameters, initial values, state dictionaries and errors are torch.nn's own, by
inheritance: what the kernels do not take is handed to torch.nn's own pass, which runs it or says
what is wrong with it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from longlag import cells
from longlag.recurrence import Recurrence
from longlag.scan import Weights, register, scan
from longlag.scan.backend import followed
from longlag.torch_private import flat_weights, shallow_copy

DTYPES = (torch.float32, torch.float64)
"""What the kernels compute in."""

_CAST_BY_AUTOCAST = (torch.float32, torch.bfloat16, torch.float16)


def _recurrences() -> Mapping[tuple[str, bool], Recurrence]:
    table: dict[tuple[str, bool], Recurrence] = {}
    for bias in (True, False):
        table["RNN_TANH", bias] = cells.Elman().recurrence
        table["RNN_RELU", bias] = cells.Elman("relu").recurrence
        table["LSTM", bias] = cells.LSTM().recurrence
        table["GRU", bias] = cells.GRU(recurrent_bias=bias).recurrence
    for recurrence in table.values():
        register(recurrence)
    return table


_RECURRENCES = _recurrences()
"""By the ``mode`` and ``bias`` of a module. All at once, as a graph cannot hold the tracing."""


class _Sequences(NamedTuple):
    """What a module reads, with time first.

    Attributes:
        x: (T, N, C).
        lengths: (N,), in descending order; None where all steps count.
        reversal: (T N,), for each step and sequence the row that a backward reading has there; None
            where that is a flip of time.
    """

    x: Tensor
    lengths: Tensor | None = None
    reversal: Tensor | None = None

    @classmethod
    def of(cls, given: Any, batch_first: bool, both: bool) -> "_Sequences":
        """From a tensor, batched or not, or a PackedSequence; to be read in both directions?"""
        if not isinstance(given, PackedSequence):
            if given.dim() == 2:
                return cls(given.unsqueeze(1))
            return cls(given.transpose(0, 1) if batch_first else given)
        data, sizes, *_ = given
        steps, count = len(sizes), int(sizes[0])
        if int(sizes[-1]) == count:
            return cls(data.reshape(steps, count, -1))
        x, lengths = pad_packed_sequence(PackedSequence(data, sizes))
        if not both:
            return cls(x, lengths)
        step = torch.arange(steps).unsqueeze(-1)
        turned = torch.where(step < lengths, lengths - 1 - step, step)
        return cls(x, lengths, (turned * count + torch.arange(count)).flatten())

    def turned(self, sequence: Tensor) -> Tensor:
        """From each sequence's own last step to its first; padding stays where it is."""
        if self.reversal is None:
            return sequence.flip(0)
        rows = sequence.reshape(-1, sequence.shape[-1])
        return rows.index_select(0, self.reversal).view(sequence.shape)

    def laid_out(self, output: Tensor, given: Any, batch_first: bool) -> Any:
        """An output (T, N, .) in the layout of what was given."""
        if not isinstance(given, PackedSequence):
            if given.dim() == 2:
                return output.squeeze(1)
            return output.transpose(0, 1) if batch_first else output
        if self.lengths is None:
            return given._replace(data=output.reshape(-1, output.shape[-1]))
        return given._replace(data=pack_padded_sequence(output, self.lengths).data)


class _OnKernels(nn.RNNBase):
    """The pass over time of the three.

    Attributes:
        backend_used: what ran the latest pass: a backend of :data:`longlag.scan.BACKENDS`, or
            ``"torch.nn"``.
    """

    backend_used: str | None = None

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Read sequences: arguments, results and errors are those of the module of torch.nn."""
        if isinstance(input, torch.fx.Proxy):
            return _as_a_leaf(self, input, hx)
        weights, states = flat_weights(self), self._states(hx)
        if not self._fits(input, states, weights):
            object.__setattr__(self, "backend_used", "torch.nn")
            return super().forward(input, hx)
        packed = isinstance(input, PackedSequence)
        if packed:
            states = _permuted(states, input.sorted_indices)
        elif input.dim() == 2:
            states = [state.unsqueeze(1) for state in states]
        sequences = _Sequences.of(input, self.batch_first, self.bidirectional)
        output, states = self._run(sequences, states, weights)
        if packed:
            states = _permuted(states, input.unsorted_indices)
        elif input.dim() == 2:
            states = [state.squeeze(1) for state in states]
        output = sequences.laid_out(output, input, self.batch_first)
        return output, tuple(states) if self.mode == "LSTM" else states[0]

    def _states(self, hx: Any) -> list[Any]:
        """The initial states that were given, as a list of tensors."""
        if hx is None:
            return []
        return list(hx) if self.mode == "LSTM" and isinstance(hx, (tuple, list)) else [hx]

    def _fits(self, given: Any, states: Sequence[Any], weights: Sequence[Any]) -> bool:
        """Whether the kernels take it: dense tensors on the CPU, of one of their dtypes, that fit.

        Of what stands for other tensors, and for other formats, torch.nn has operators of its own.
        """
        if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
            return False
        x = given.data if isinstance(given, PackedSequence) else given
        tensors = (x, *states, *weights)
        if not all(isinstance(tensor, Tensor) and _is_dense(tensor) for tensor in tensors):
            return False
        dtype = weights[0].dtype
        alike: tuple[torch.dtype, ...] = (dtype,)
        if dtype == torch.float32 and torch.is_autocast_enabled("cpu"):
            alike = _CAST_BY_AUTOCAST
        if dtype not in DTYPES or any(weight.dtype != dtype for weight in weights):
            return False
        if not all(tensor.dtype in alike for tensor in (x, *states)):
            return False
        if not self._shapes_fit(given, x, states):
            return False
        if torch.compiler.is_compiling():
            return not torch.onnx.is_in_onnx_export()
        return not followed(tensors)

    def _shapes_fit(self, given: Any, x: Tensor, states: Sequence[Tensor]) -> bool:
        packed, time_second = isinstance(given, PackedSequence), self.batch_first and x.dim() == 3
        if x.dim() not in ((2,) if packed else (2, 3)) or x.shape[-1] != self.input_size:
            return False
        if x.shape[int(time_second)] == 0:
            return False
        batch: tuple[int, ...] = ()
        if packed:
            batch = (int(given.batch_sizes[0]),)
        elif x.dim() == 3:
            batch = (x.shape[int(not time_second)],)
        expected = (self.num_layers * (1 + self.bidirectional), *batch, self.hidden_size)
        return len(states) in (0, 2 if self.mode == "LSTM" else 1) and all(
            tuple(state.shape) == expected for state in states
        )

    def _run(
        self, sequences: _Sequences, states: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """The output (T, N, D H) of the last layer, and the final states, each (L D, N, H)."""
        recurrence, dtype = _RECURRENCES[self.mode, self.bias], weights[0].dtype
        directions, count = 1 + self.bidirectional, 4 if self.bias else 2
        states = [state.to(dtype) for state in states]
        x, final = sequences.x.to(dtype), []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = nn.functional.dropout(x, self.dropout, self.training)
            outputs = []
            for backward in (False, True)[:directions]:
                row = len(final)
                result = scan(
                    recurrence,
                    (sequences.turned(x) if backward else x).transpose(0, 1),
                    self._weights(*weights[row * count : (row + 1) * count]),
                    [state[row] for state in states] or None,
                    lengths=sequences.lengths,
                )
                output = result.output.transpose(0, 1)
                outputs.append(sequences.turned(output) if backward else output)
                final.append(result.state)
                object.__setattr__(self, "backend_used", result.backend)
            x = torch.cat(outputs, -1) if self.bidirectional else outputs[0]
        if x.requires_grad and not self.bidirectional:
            x = x.clone()  # what the backward pass reads is not the caller's to change
        return x, [torch.stack(parts) for parts in zip(*final, strict=True)]

    def _weights(
        self, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
    ) -> Weights:
        """One layer's weights for a scan: of two biases their sum, but of what a GRU resets."""
        if b_ih is None or b_hh is None:
            return Weights(w_hh, (), w_ih)
        if self.mode != "GRU":
            return Weights(w_hh, (), w_ih, b_ih + b_hh)
        hidden = self.hidden_size
        summed = b_ih + nn.functional.pad(b_hh[: 2 * hidden], (0, hidden))
        return Weights(w_hh, (b_hh[2 * hidden :].unsqueeze(0),), w_ih, summed)

    def __prepare_scriptable__(self) -> nn.RNNBase:
        """What torch.jit.script compiles in the place of it: torch.nn's, of the same parameters."""
        plain = {ours: theirs for theirs, ours in KINDS.items()}
        if type(self) not in plain:
            return self
        copied = shallow_copy(self, lambda *_: None)
        copied.__class__ = plain[type(self)]
        return copied


def _as_a_leaf(module: nn.Module, input: torch.fx.Proxy, hx: Any) -> torch.fx.Proxy:
    """One node of a graph that torch.fx traces, which takes those of torch.nn alone as a whole."""
    tracer: Any = input.tracer
    given = (input,) if hx is None else (input, hx)
    return tracer.create_proxy("call_module", tracer.path_of_module(module), given, {})


def _permuted(states: Sequence[Tensor], order: Tensor | None) -> Sequence[Tensor]:
    """States (L D, N, H) with the sequences in another order."""
    return states if order is None else [state.index_select(1, order) for state in states]


def _is_dense(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.layout is torch.strided


class RNN(_OnKernels, nn.RNN):
    r"""``torch.nn.RNN`` by compiled kernels on a CPU.

    .. math:: h_t = \phi(W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh})

    Args:
        input_size: C, features per step.
        hidden_size: H, units.
        num_layers: how many layers stand one on another.
        nonlinearity: phi, ``"tanh"`` or ``"relu"``.
        bias: whether there are biases.
        batch_first: whether x and output are (N, T, .); else (T, N, .). States never are.
        dropout: probability in [0, 1] with which a number passed between layers is dropped.
        bidirectional: whether each layer reads in both directions.
        device, dtype: as in torch.nn.

    Reads x of (T, N, C), of one sequence (T, C), or a PackedSequence, and a first state h_0 of
    (layers x directions, N, H); returns the output and the last state, as torch.nn does.

    Kernels run what is float32 or float64 on a CPU. Elsewhere, in other dtypes and under
    torch.jit, torch.nn's own pass runs; ``backend_used`` tells. Inside ``torch.autocast`` on a CPU
    the output is float32, as the loop is, and only W_ih x is rounded.

    Example:
        >>> import longlag as ll
        >>> output, h = ll.nn.RNN(3, 5, num_layers=2)(torch.zeros(7, 2, 3))
        >>> output.shape, h.shape
        (torch.Size([7, 2, 5]), torch.Size([2, 2, 5]))
    """


class LSTM(_OnKernels, nn.LSTM):
    r"""``torch.nn.LSTM`` by compiled kernels on a CPU.

    .. math::
        i_t &= \sigma(W_{ii} x_t + b_{ii} + W_{hi} h_{t-1} + b_{hi}) \\
        f_t &= \sigma(W_{if} x_t + b_{if} + W_{hf} h_{t-1} + b_{hf}) \\
        g_t &= \tanh(W_{ig} x_t + b_{ig} + W_{hg} h_{t-1} + b_{hg}) \\
        o_t &= \sigma(W_{io} x_t + b_{io} + W_{ho} h_{t-1} + b_{ho}) \\
        c_t &= f_t \odot c_{t-1} + i_t \odot g_t \\
        h_t &= o_t \odot \tanh(c_t)

    Arguments are those of :class:`RNN` without ``nonlinearity``; the state is (h, c), each
    (layers x directions, N, H).

    Raises:
        ValueError: for a ``proj_size``, of which the equations have none.

    Example:
        >>> import longlag as ll
        >>> lstm = ll.nn.LSTM(3, 5, batch_first=True, bidirectional=True)
        >>> output, (h, c) = lstm(torch.zeros(2, 7, 3))
        >>> output.shape, c.shape, lstm.backend_used
        (torch.Size([2, 7, 10]), torch.Size([2, 2, 5]), 'cpu')
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.proj_size:
            raise ValueError(
                f"proj_size: got {self.proj_size}, expected 0: longlag's LSTM has no projection; "
                "use torch.nn.LSTM"
            )


class GRU(_OnKernels, nn.GRU):
    r"""``torch.nn.GRU`` by compiled kernels on a CPU.

    .. math::
        r_t &= \sigma(W_{ir} x_t + b_{ir} + W_{hr} h_{t-1} + b_{hr}) \\
        z_t &= \sigma(W_{iz} x_t + b_{iz} + W_{hz} h_{t-1} + b_{hz}) \\
        n_t &= \tanh(W_{in} x_t + b_{in} + r_t \odot (W_{hn} h_{t-1} + b_{hn})) \\
        h_t &= (1 - z_t) \odot n_t + z_t \odot h_{t-1}

    Arguments and state are those of :class:`RNN`, without ``nonlinearity``.

    Example:
        >>> import longlag as ll
        >>> ll.nn.GRU(3, 5, num_layers=2, dropout=0.1)
        GRU(3, 5, num_layers=2, dropout=0.1)
    """


KINDS: Mapping[type[nn.RNNBase], type[nn.RNNBase]] = {nn.RNN: RNN, nn.LSTM: LSTM, nn.GRU: GRU}
"""The modules of torch.nn, each with the one here."""
