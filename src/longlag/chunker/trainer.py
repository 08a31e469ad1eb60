"""Both nets learn while a stream goes by."""

import math
import time
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from longlag.chunker.history import StreamHistory
from longlag.chunker.nets import Chunker
from longlag.chunker.online import OnlineBPTT
from longlag.gradients.online import OnlineMethod


class ChunkerTrainer:
    r"""Trains a chunker online: one step of gradient descent after every step of the stream.

    At every step t, with i(t) = (x(t), d(t)), and delta(t) = 1 where a target is due, else 0:

    1. A predicts, from i(t - 1): p_A, d_A, q_A. Its error is

       .. math:: E_A = \tfrac12 |p_A - x(t)|^2 + \tfrac12 \delta(t) |d_A - d(t)|^2
           + \tfrac12 |q_A - s_C|^2

       with the state s_C of C as it stands. A changes by :math:`-\eta \, dE_A/dw`.
    2. Where no output of p_A and d_A is wrong by ``threshold`` or more, C stays as it is, weights
       and state. Else the step is a surprise: with the outputs p_C, d_C of C since its last
       surprise,

       .. math:: E_C = \tfrac12 |p_C - x(t)|^2 + \tfrac12 \delta(t) |d_C - d(t)|^2

       C changes by :math:`-\eta \, dE_C/dw`, then reads i(t): s_C is new.
    3. A reads i(t).

    At the first step of an episode both states become zero, there is no prediction and no error,
    and C reads the step. There is no error for s_C as a target of C, and C gets no code for the
    time: give it in x where the stream needs it.

    The trainer keeps the states, so :meth:`fit` goes on where it stopped. The weights of `chunker`
    change in place; those that require no gradient when the trainer is made stay as they are.
    Replicas share the loop and nothing else.

    Args:
        chunker: the two nets.
        learning_rate: eta > 0.
        threshold: in (0, inf); the papers call it a small constant.
        method: the way to the gradient: :class:`OnlineBPTT`, :class:`OnlineRTRL`, or any
            :class:`~longlag.gradients.OnlineMethod`, such as ``ll.RTRL(online=True)``.
        chunker_learning_rate: eta for C; by default the same.
        imitation: a factor of the third term of E_A; 1 in the papers, 0 leaves A a conventional
            net.

    Raises:
        TypeError, ValueError: for an argument out of range, or a method that cannot train the nets.

    Time: some 20 small array operations a step and net, whatever R is; plus those of `method`.

    Source: J. Schmidhuber, Learning complex, extended sequences using the principle of history
    compression, Neural Computation 4(2), 1992, sections 4 and 5.

    Example:
        Two symbols take turns. Once A knows that, C is left alone.

        >>> import longlag as ll
        >>> nets = Chunker(ll.Elman(2, 3, seed=0), ll.Elman(2, 3, seed=1), seed=2,
        ...                state_activation="identity")
        >>> trainer = ChunkerTrainer(nets, learning_rate=0.5, threshold=0.3)
        >>> history = trainer.fit([0, 1] * 300)
        >>> bool(history.surprised[:20].all()), bool(history.surprised[-20:].any())
        (True, False)
    """

    def __init__(
        self,
        chunker: Chunker,
        *,
        learning_rate: float,
        threshold: float,
        method: OnlineMethod | None = None,
        chunker_learning_rate: float | None = None,
        imitation: float = 1.0,
    ) -> None:
        if not isinstance(chunker, Chunker):
            raise TypeError(f"chunker: got {type(chunker).__name__}, expected a Chunker")
        method = OnlineBPTT() if method is None else method
        if not isinstance(method, OnlineMethod):
            raise TypeError(
                f"method: got {type(method).__name__}, expected OnlineBPTT(steps) or OnlineRTRL()"
            )
        second = learning_rate if chunker_learning_rate is None else chunker_learning_rate
        _positive("learning_rate", learning_rate)
        _positive("chunker_learning_rate", second)
        _positive("threshold", threshold)
        if not 0 <= imitation < math.inf:
            raise ValueError(f"imitation: got {imitation}, expected a finite number >= 0")
        self.chunker, self.threshold, self._factor = chunker, threshold, imitation
        a, c = chunker.automatizer, chunker.chunker
        self._a = method.start(a, learning_rate, [chunker.imitation])
        self._c = method.start(c, second)
        self._count = chunker.replicas or 1
        self._rows = np.arange(self._count)
        self._begun = False
        self._q = np.zeros_like(self._a.outputs()[1])

    def fit(
        self, x: ArrayLike, target: ArrayLike | None = None, starts: ArrayLike | None = None
    ) -> StreamHistory:
        """Present the next steps of the stream.

        Args:
            x: (R, T) symbols, whole numbers in 0..P - 1, or (R, T, P) finite numbers. Without R
                where the nets have no replicas; the same for the others.
            target: (R, T, D), NaN where no target is due; None for none. ``target[t]`` is due
                together with ``x[t]``: it is to be predicted from what came before.
            starts: (R, T) bool, True at the first step of an episode; None for a stream without
                episodes. The very first step that a trainer sees always counts as one.

        Returns:
            What happened at each step.

        Raises:
            ValueError, TypeError: for a wrong shape, dtype or value, naming the argument.
            FloatingPointError: an output is no longer finite; the learning rate is too large.
        """
        began = time.perf_counter()
        symbols, targets, begin = self._checked(x, target, starts)
        steps = symbols.shape[1]
        shape = (self._count, steps)
        surprised = np.zeros(shape, bool)
        records = [np.full(shape, np.nan, self._q.dtype) for _ in range(4)]
        for t in range(steps):
            target_now = None if targets is None else targets[:, t]
            surprised[:, t] = self._step(
                symbols[:, t], target_now, begin[:, t], [record[:, t] for record in records]
            )
        self._begun = self._begun or steps > 0
        if not all(
            np.isfinite(output).all() for net in (self._a, self._c) for output in net.outputs()
        ):
            raise FloatingPointError(
                "an output of the nets is not finite; use a smaller learning_rate"
            )
        single = self.chunker.replicas is None
        parts = [part[0] if single else part for part in (surprised, *records)]
        return StreamHistory(*parts, seconds=time.perf_counter() - began)

    def _step(
        self, x: NDArray, target: NDArray | None, begin: NDArray, records: list[NDArray]
    ) -> NDArray:
        """One step of all streams; where it was a surprise, (R,)."""
        a, c, size = self._a, self._c, self.chunker.symbol_size
        error, target_error, imitation_error, chunker_error = records
        some_begin = begin.any()
        prediction, q = a.outputs()
        wrong = self._errors(prediction, x, target)
        size_of = np.abs(wrong)
        largest = size_of.max(1)
        surprised = begin | ~(largest < self.threshold)
        rows = self._rows[~begin] if some_begin else self._rows
        if len(rows):
            error[rows] = largest[rows]
            if target is not None:
                due = ~np.isnan(target).all(1) & ~begin
                target_error[due] = size_of[due, size:].max(1)
            strange = q - self._state_of_c()
            imitation_error[rows] = np.abs(strange).max(1)[rows]
            a.learn(rows, [wrong, strange if self._factor == 1 else self._factor * strange])
            late = np.flatnonzero(surprised & ~begin)
            if len(late):
                missed = self._errors(c.outputs()[0], x, target)
                chunker_error[late] = np.abs(missed).max(1)[late]
                c.learn(late, [missed])
        if some_begin:
            a.reset(self._rows[begin])
            c.reset(self._rows[begin])
        seen = self._joined(x, target) if self.chunker.target_size else x
        late = np.flatnonzero(surprised)
        if len(late):
            c.read(late, seen[late])
        a.read(self._rows, seen)
        return surprised

    def _errors(self, output: NDArray, x: NDArray, target: NDArray | None) -> NDArray:
        """Output - what came, (R, P + D); 0 where no target is due."""
        size = self.chunker.symbol_size
        wrong = output.copy()
        if x.ndim == 1:
            wrong[self._rows, x] -= 1.0
        else:
            wrong[:, :size] -= x
        wrong[:, size:] = (
            0.0 if target is None else np.where(np.isnan(target), 0.0, wrong[:, size:] - target)
        )
        return wrong

    def _state_of_c(self) -> NDArray:
        """s_C, (R, S)."""
        if self.chunker.imitate == "hidden":
            return self._c.hidden()
        return np.concatenate([self._c.hidden(), self._c.outputs()[0]], 1)

    def _joined(self, x: NDArray, target: NDArray | None) -> NDArray:
        """i = (x, d), (R, P + D)."""
        size = self.chunker.symbol_size
        joined = np.zeros((self._count, self.chunker.input_size), self._q.dtype)
        if x.ndim == 1:
            joined[self._rows, x] = 1.0
        else:
            joined[:, :size] = x
        if target is not None:
            joined[:, size:] = np.nan_to_num(target)
        return joined

    def _checked(self, x: Any, target: Any, starts: Any) -> tuple[NDArray, NDArray | None, NDArray]:
        """The three of them with R in front."""
        nets, kind = self.chunker, self._q.dtype
        single = nets.replicas is None
        front: tuple[int, ...] = () if nets.replicas is None else (nets.replicas,)
        lead = "T" if single else f"{nets.replicas}, T"
        x = _array(x)
        if np.issubdtype(x.dtype, np.integer):
            if x.ndim != len(front) + 1 or x.shape[:-1] != front:
                raise ValueError(f"x: got symbols of shape {x.shape}, expected ({lead})")
            if x.size and not 0 <= x.min() <= x.max() < nets.symbol_size:
                raise ValueError(
                    f"x: got symbols from {x.min()} to {x.max()}, expected 0 to "
                    f"{nets.symbol_size - 1}: the layers' input_size less target_size is "
                    f"{nets.symbol_size}"
                )
            steps, x = x.shape[-1], x.astype(np.int64)
        elif np.issubdtype(x.dtype, np.floating):
            shape = (*front, *x.shape[-2:-1], nets.symbol_size)
            if x.ndim != len(front) + 2 or x.shape != shape:
                raise ValueError(
                    f"x: got shape {x.shape}, expected ({lead}, {nets.symbol_size}); symbols are "
                    f"whole numbers of shape ({lead})"
                )
            if not np.isfinite(x).all():
                raise ValueError("x: has values that are not finite; fill gaps before")
            steps, x = x.shape[-2], x.astype(kind)
        else:
            raise TypeError(f"x: got {x.dtype}, expected whole numbers (symbols) or floats")
        if target is not None:
            target = _array(target).astype(kind)
            expected = (*front, steps, nets.target_size)
            if not nets.target_size:
                raise ValueError("target: the nets have none; make them with target_size=D")
            if target.shape != expected:
                raise ValueError(f"target: got shape {target.shape}, expected {expected}")
            if np.isinf(target).any():
                raise ValueError("target: has infinite values; NaN says that no target is due")
        if starts is None:
            begin = np.zeros((*front, steps), bool)
        else:
            begin = _array(starts)
            if begin.dtype != bool:
                raise TypeError(f"starts: got {begin.dtype}, expected bool")
            if begin.shape != (*front, steps):
                raise ValueError(f"starts: got shape {begin.shape}, expected {(*front, steps)}")
            begin = begin.copy()
        if single:
            x, begin = x[None], begin[None]
            target = None if target is None else target[None]
        if not self._begun and steps:
            begin[:, 0] = True
        return x, target, begin


def _positive(argument: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{argument}: got {value}, expected a finite number > 0")


def _array(values: Any) -> NDArray:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
