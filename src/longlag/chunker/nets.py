"""The two nets of the chunker."""

from functools import partial

import torch
from torch import Tensor, nn

from longlag.arguments import check_whole
from longlag.layers.base import RecurrentModule
from longlag.layers.init import Initializer
from longlag.layers.readout import Readout
from longlag.layers.sequence_model import SequenceModel

IMITATED = ("state", "hidden")
"""What ``imitate`` can be."""


class Chunker(nn.Module):
    r"""Neural sequence chunker: an automatizer A, and a chunker C that sees A's surprises alone.

    A stream has a symbol or vector x(t), P wide, at every step, and a target d(t), D wide, at some
    steps. The input of both nets is i(t) = (x(t), d(t)), with d(t) = 0 where no target is due.
    A reads every i(t). C reads i(t) only where A had not predicted it. Both predict what they read
    next, and A also predicts the state of C:

    .. math:: h_A &\leftarrow f_A(i(t-1), h_A), \quad
        (p_A, d_A) = \phi(V_A h_A + D_A i(t-1) + b_A)

        & \phantom{{}\leftarrow{}} q_A = \phi(V_q h_A + D_q i(t-1) + b_q)

        h_C &\leftarrow f_C(i(u), h_C), \quad
        (p_C, d_C) = \phi(V_C h_C + D_C i(u) + b_C), \quad u \text{ the last surprise}

    The state of C is its hidden activations and its outputs, :math:`s_C = (h_C, p_C, d_C)`. It
    stays as it is from one surprise to the next. So :math:`q_A \to s_C` gives A a local error at
    every step of a long lag, where the error of its predictions would have to travel back through
    all of it. What they learn from is in :class:`ChunkerTrainer`.

    Args:
        automatizer: the recurrent layer of A, with ``input_size`` P + D.
        chunker: the recurrent layer of C, with the same ``input_size`` and as many ``replicas``.
        target_size: D, numbers in a target; 0 for a stream without targets.
        imitate: ``"state"``: q_A predicts the hidden activations and the outputs of C, as in the
            papers of 1991 and 1992; ``"hidden"``: the hidden activations alone, as in 1997.
        direct: whether the outputs also see the input, by the weights D.
        chunker_direct: the same for C; by default ``direct``. Without such links C has to use its
            hidden units, which is what A imitates.
        bias: whether the outputs have biases.
        output_activation: phi of p and d: ``"sigmoid"``, ``"tanh"`` or ``"identity"``.
        state_activation: phi of q_A; by default ``output_activation``. It must be able to reach
            C's activations: for a tanh layer as C take ``"tanh"`` or ``"identity"``.
        readout_init: how V and D are drawn; by default as torch.nn.Linear.
        seed: for the initial parameters of the outputs; those of the layers have been drawn.

    Attributes:
        automatizer: A without q_A: a :class:`~longlag.SequenceModel`, i to (p_A, d_A). After
            training it works without C.
        imitation: the output units q_A, which read A's hidden units.
        chunker: C, a :class:`~longlag.SequenceModel`.

    Raises:
        TypeError, ValueError: for layers that do not fit each other, or an argument out of range.

    Source: J. Schmidhuber, Learning complex, extended sequences using the principle of history
    compression, Neural Computation 4(2), 1992; J. Schmidhuber, Neural sequence chunkers, report
    FKI-148-91, TU Munich, 1991.

    Example:
        The pair of nets of the long-lag table of 1997, for p = 100: one hidden unit each.

        >>> import longlag as ll
        >>> def layer(): return ll.Elman(101, 1, activation="sigmoid", bias=False)
        >>> nets = Chunker(layer(), layer(), imitate="hidden", direct=True, bias=False)
        >>> nets.weights
        (10506, 10404)
    """

    def __init__(
        self,
        automatizer: RecurrentModule,
        chunker: RecurrentModule,
        *,
        target_size: int = 0,
        imitate: str = "state",
        direct: bool = False,
        chunker_direct: bool | None = None,
        bias: bool = True,
        output_activation: str = "sigmoid",
        state_activation: str | None = None,
        readout_init: str | Initializer | None = None,
        seed: int | torch.Generator | None = None,
    ) -> None:
        super().__init__()
        for name, layer in (("automatizer", automatizer), ("chunker", chunker)):
            if not isinstance(layer, RecurrentModule):
                raise TypeError(
                    f"{name}: got {type(layer).__name__}, expected a recurrent layer of longlag "
                    "such as ll.Elman(...); the chunker adds the outputs itself"
                )
            if not layer.causal:
                raise ValueError(
                    f"{name}: got {type(layer).__name__}, which reads from both ends; expected a "
                    "layer that reads a stream step by step"
                )
        if automatizer is chunker:
            raise ValueError("chunker: is the same layer as automatizer; make a second one")
        for what in ("input_size", "replicas"):
            first, second = getattr(automatizer, what), getattr(chunker, what)
            if first != second:
                raise ValueError(
                    f"chunker: has {what} {second}, expected {first}, that of automatizer: both "
                    "read the same stream"
                )
        if imitate not in IMITATED:
            known = " or ".join(repr(name) for name in IMITATED)
            raise ValueError(f"imitate: got {imitate!r}, expected {known}")
        check_whole("target_size", target_size)
        if not 0 <= target_size < automatizer.input_size:
            raise ValueError(
                f"target_size: got {target_size}, expected 0 to {automatizer.input_size - 1}: the "
                f"layers' input_size {automatizer.input_size} holds x and the target"
            )
        self.input_size, self.target_size = automatizer.input_size, target_size
        self.replicas, self.imitate = automatizer.replicas, imitate
        if seed is None or isinstance(seed, torch.Generator):
            seeds = [seed] * 3
        else:
            seeds = [3 * seed + k for k in range(3)]
        net = partial(
            SequenceModel, output_size=self.input_size, reduce=None, bias=bias,
            output_activation=output_activation, readout_init=readout_init,
        )  # fmt: skip
        self.automatizer = net(automatizer, direct=direct, seed=seeds[0])
        chunker_direct = direct if chunker_direct is None else chunker_direct
        self.chunker = net(chunker, direct=chunker_direct, seed=seeds[1])
        like = next(automatizer.parameters())
        self.imitation = Readout(
            automatizer.output_size,
            chunker.output_size + (self.input_size if imitate == "state" else 0),
            direct_size=self.input_size if direct else None,
            activation=output_activation if state_activation is None else state_activation,
            init=readout_init, replicas=self.replicas, seed=seeds[2], device=like.device,
            dtype=like.dtype, bias=bias,
        )  # fmt: skip

    @property
    def symbol_size(self) -> int:
        """P, the number of symbols, or of numbers in x."""
        return self.input_size - self.target_size

    @property
    def weights(self) -> tuple[int, int]:
        """The number of parameters of A, q_A included, and of C; of one replica."""
        share = self.replicas or 1
        a = sum(p.numel() for part in (self.automatizer, self.imitation) for p in part.parameters())
        return a // share, sum(p.numel() for p in self.chunker.parameters()) // share

    def inputs(self, x: Tensor, target: Tensor | None = None) -> Tensor:
        """i = (x, d), what the nets read, of a stream or of many sequences.

        Args:
            x: (..., T) symbols, whole numbers in 0..P - 1, or (..., T, P) vectors.
            target: (..., T, D), NaN where no target is due; None for none at all.

        Returns:
            (..., T, P + D), of the weights' dtype.

        >>> import longlag as ll
        >>> nets = Chunker(ll.Elman(3, 2), ll.Elman(3, 2), target_size=1)
        >>> nets.inputs(torch.tensor([0, 1]), torch.tensor([[float("nan")], [1.0]]))
        tensor([[1., 0., 0.],
                [0., 1., 1.]])
        """
        like = self.imitation.weight
        if not x.is_floating_point():
            x = nn.functional.one_hot(x.long(), self.symbol_size)
        x = x.to(like.device, like.dtype)
        if not self.target_size:
            return x
        if target is None:
            return torch.cat([x, x.new_zeros(*x.shape[:-1], self.target_size)], -1)
        return torch.cat([x, target.to(like.device, like.dtype).nan_to_num(0.0)], -1)

    def forward(self, x: Tensor, target: Tensor | None = None) -> Tensor:
        """What A alone predicts of sequences, each from the zero state.

        Args:
            x: (N, T) symbols or (N, T, P), with R in front for replicas.
            target: (N, T, D), NaN where none is due; what the net is told, not what it predicts.

        Returns:
            (N, T, P + D): after the step t, the prediction of x(t + 1) and d(t + 1).
        """
        return self.automatizer(self.inputs(x, target))
