"""Linear readouts step by step: recursive least squares, and FORCE learning."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from longlag.arguments import check_number, check_whole
from longlag.layers.readout import Readout
from longlag.reservoirs.method import LinearReadout
from longlag.reservoirs.rows import Rows


@dataclass(frozen=True)
class RecursiveLeastSquares:
    r"""Recursive least squares: after each step the readout is the best one for all steps so far.

    .. math:: \min_{V, b} \sum_{s \le t} \lambda^{t-s} w_s \lVert y_s - V f_s - b \rVert^2
        + \lambda^t \alpha \lVert V \rVert^2

    with w = 1; where sequences have weights, or ``loss`` is a ``WeightedCrossEntropy``, w is the
    weight of each row, and the mean weight of those above 0 is taken for 1.

    A method of :func:`longlag.fit` like :class:`~longlag.Ridge`, which without forgetting it is
    equal to: the bias b is not punished, and an update is exact, in float64. The sequences of a
    batch are read side by side, and their rows of one step are one update.

    With ``feedback="own"`` it is FORCE learning: the network does not read the teacher's values as
    its last K features, but its own output of the step before, as :meth:`SequenceModel.generate
    <longlag.SequenceModel.generate>` feeds it, while each step corrects the readout. So it learns
    to keep to its course by itself, where a network that only saw the teacher may leave it.

    Args:
        alpha: the penalty, > 0. With ``feedback="own"`` it is 1 over a learning rate: large
            ones learn slowly, and too small ones become unstable.
        forgetting: lambda in (0, 1], what each step counts when the next has come. Below 1 the
            penalty fades as well, and directions that the features no longer have become uncertain
            without bound.
        washout: steps at the beginning of each sequence, and after each reset, that are left out;
            in them, and in the first step after them, x is read as it is.
        feedback: "teacher": x is read as it is; "own": see above. Two sequences of one batch are
            two runs of the network with one readout.
        state_noise: as for :class:`~longlag.Ridge`.

    Raises:
        ValueError, TypeError: for an argument out of range.

    The error in the history is that of the final readout, with x as it is, without noise.

    Cost: one pass over the data without gradients, 2 n D^2 multiply-adds a step of n sequences;
    memory: D^2 numbers. With ``feedback="own"`` the layer is called for each step.

    Source: S. Haykin, Adaptive Filter Theory, chapter on the RLS algorithm; D. Sussillo and
    L. F. Abbott, Generating coherent patterns of activity from chaotic neural networks, Neuron
    63(4), 2009.

    Example:
        >>> import longlag as ll
        >>> x = torch.linspace(0, 120, 600, dtype=torch.float64).sin().view(1, -1, 1)
        >>> layer = ll.EchoState(0, 100, feedback_size=1, spectral_radius=1.5, leak=0.5, seed=0,
        ...                      dtype=torch.float64)
        >>> model = ll.SequenceModel(layer, 1, reduce=None)
        >>> force = ll.RecursiveLeastSquares(alpha=0.01, washout=30, feedback="own")
        >>> _ = ll.fit(model, (x[:, :400], x[:, 1:401]), method=force)
        >>> ahead, _ = model.generate(100, warmup=x[:, :400])
        >>> bool((ahead - x[:, 400:500]).abs().max() < 0.1)
        True
    """

    alpha: float = 1.0
    forgetting: float = 1.0
    washout: int = 0
    feedback: Literal["teacher", "own"] = "teacher"
    state_noise: float = 0.0

    def __post_init__(self) -> None:
        check_number("alpha", self.alpha, above=0.0)
        check_number("forgetting", self.forgetting, above=0.0, most=1.0)
        check_whole("washout", self.washout, 0)
        check_number("state_noise", self.state_noise, least=0.0)
        if self.feedback not in ("teacher", "own"):
            raise ValueError(f"feedback: got {self.feedback!r}, expected 'teacher' or 'own'")

    def solve(self, rows: Rows) -> LinearReadout:
        """The readout after the last of these rows.

        Raises:
            ValueError: there is no row; a feature is not finite; the model does not read what it
                puts out (with feedback="own").
        """
        readout = rows.readout
        fitted = _Recursion(readout, float(self.alpha), float(self.forgetting))
        own = self.feedback == "own"
        if own and rows.model.input_size < readout.output_size:  # type: ignore[operator]
            raise ValueError(
                f"model: it puts out {readout.output_size} numbers and reads "
                f"{rows.model.input_size}; expected that the last features of x are all of its "
                "outputs, or feedback='teacher'"
            )
        unit = rows.mean_weight()
        for features, target, together, _, given in rows.samples(fitted.output if own else None):
            weights = features.new_ones(len(features)) if given is None else given / unit
            parts = (part.split(together) for part in (features, target, weights))
            for f, y, w in zip(*parts, strict=True):
                fitted.update(f, y, w)
        return LinearReadout(fitted.weight, fitted.bias)


class _Recursion:
    """The least squares of all rows so far.

    With a bias, features and targets are seen about their means so far, of which the sums of
    squares have updates of rank one too: so the bias is that of least squares, without a penalty.

    Attributes:
        weight: V, (K, D).
        inverse: (D, D), of the sum of f f^T and the penalty.
        count: how much the rows so far count.
        mean_f, mean_y: zeros without a bias.
    """

    def __init__(self, readout: Readout, alpha: float, forgetting: float) -> None:
        size, outputs, like = readout.features_size, readout.output_size, readout.weight
        self.centred, self.forgetting = readout.bias is not None, forgetting
        self.inverse = torch.eye(size, dtype=torch.float64, device=like.device) / alpha
        self.weight = self.inverse.new_zeros(outputs, size)
        self.count = 0.0
        self.mean_f, self.mean_y = self.weight.new_zeros(size), self.weight.new_zeros(outputs)

    @property
    def bias(self) -> Tensor:
        """b, (K,)."""
        return self.mean_y - self.weight @ self.mean_f

    def output(self, features: Tensor) -> Tensor:
        """(n, D) to (n, K)."""
        return self.mean_y + (features - self.mean_f) @ self.weight.mT

    def update(self, f: Tensor, y: Tensor, w: Tensor) -> None:
        """Take in the rows of one step: features (n, D), targets (n, K), and weights (n,) >= 0."""
        self.inverse /= self.forgetting
        before, number = self.forgetting * self.count, float(w.sum())
        self.count = before + number
        if not number:
            return
        if self.centred:
            f, self.mean_f = _about_means(f, self.mean_f, before, w)
            y, self.mean_y = _about_means(y, self.mean_y, before, w)
        else:
            root = w.sqrt().unsqueeze(-1)
            f, y = f * root, y * root
        product = f @ self.inverse
        square = product @ f.mT
        square.diagonal().add_(1.0)
        gain = torch.cholesky_solve(product, torch.linalg.cholesky(square)).mT
        self.weight += (y - f @ self.weight.mT).mT @ gain.mT
        self.inverse.addmm_(gain, product, alpha=-1.0)
        self.inverse = (self.inverse + self.inverse.mT) / 2.0  # else forgetting lets errors grow


def _about_means(
    rows: Tensor, mean: Tensor, before: float, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Rows whose squares and products are what new rows add to those about the mean.

    Args:
        rows: (n, F), the new ones.
        mean: (F,), of the rows so far.
        before: how much these count.
        weights: (n,), what the new ones count, of a sum above 0.

    Returns:
        Such rows, and the new mean.
    """
    number = float(weights.sum())
    own = rows[0] if len(rows) == 1 else weights @ rows / number
    share = before / (before + number)
    step = own - mean
    between = step.unsqueeze(0) * (share * number) ** 0.5
    if len(rows) == 1:
        return between, mean + step * (1.0 - share)
    about = (rows - own) * weights.sqrt().unsqueeze(-1)
    return torch.cat([about, between]), mean + step * (1.0 - share)
