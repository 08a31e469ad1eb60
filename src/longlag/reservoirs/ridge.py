"""Linear readouts in one step: least squares with a penalty on large weights."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from longlag.arguments import check_number, check_whole
from longlag.reservoirs.method import LinearReadout
from longlag.reservoirs.rows import NO_WEIGHT, Rows

CONDITION = 1e12
"""Condition of the normal equations up to which they give the weights to some digits."""

GRID = tuple(10.0**exponent for exponent in range(-12, 5))
"""The penalties that are tried where none is given, times the mean square of the features."""


@dataclass(frozen=True)
class Ridge:
    r"""Ridge regression: the readout that is nearest to the targets, its weights kept small.

    .. math:: \min_{V, b} \sum_t \lVert y_t - V f_t - b \rVert^2 + \alpha \lVert V \rVert^2

    over all steps t of all sequences, f the features that the readout reads (h, and with
    ``squares`` and ``direct`` its squares and x). A method of :func:`longlag.fit` for
    ``SequenceModel``: nothing but the readout is changed, in one pass over the data, whatever the
    layer; the layer is usually an :class:`~longlag.EchoState`. Classes are fitted as numbers, 1 for
    the class and 0 for the others. Where sequences have weights, or ``loss`` is a
    ``WeightedCrossEntropy``, the squares of each row are multiplied by its weight; the mean weight
    of those above 0 is taken for 1.

    Args:
        alpha: the penalty, >= 0; of several, the one with the least generalised cross-validation
            error is taken; None for a grid of 17 from 1e-12 to 1e4 times the mean square of the
            features.
        washout: steps at the beginning of each sequence, and after each reset, that are left out.
        solver: "cholesky": the normal equations, one pass; "svd": a QR of all features, added up
            over the pass, and the singular values of its R, which loses half as many digits and
            takes about three times as long; "auto": the first, and another pass with the second
            where the condition of the first is above 1e12.
        state_noise: the standard deviation of normal noise on what drives the units, within their
            squashing, while the states are made that the readout is fitted on; it is drawn by
            ``fit``'s seed. A network that is to read its own output sees so in training that it
            may err, and learns to come back: usual are 1e-5 to 1e-2. The error in the history is
            that without noise.

    Raises:
        ValueError, TypeError: for an argument out of range.

    Cost: one pass over the data without gradients, D (D + K) multiply-adds a step; memory: D^2
    numbers, and the states of some steps at once. All sums are in float64.

    Source: A. E. Hoerl and R. W. Kennard, Ridge regression, Technometrics 12(1), 1970; G. H. Golub,
    M. Heath and G. Wahba, Generalized cross-validation as a method for choosing a good ridge
    parameter, Technometrics 21(2), 1979; H. Jaeger, GMD report 148, 2001 (noise).

    Example:
        >>> import longlag as ll
        >>> x = torch.rand(1, 500, 1, generator=torch.Generator().manual_seed(0))
        >>> model = ll.SequenceModel(ll.EchoState(1, 50, seed=0), 1, reduce=None)
        >>> history = ll.fit(model, (x[:, 3:], x[:, :-3]), method=ll.Ridge(1e-8, washout=20))
        >>> bool(history.losses[-1] < 1e-3)  # it recalls what it read three steps ago
        True
    """

    alpha: float | Sequence[float] | None = 1e-6
    washout: int = 0
    solver: Literal["auto", "cholesky", "svd"] = "auto"
    state_noise: float = 0.0

    def __post_init__(self) -> None:
        several = self.alpha if isinstance(self.alpha, Sequence) else [self.alpha]
        if not several:
            raise ValueError("alpha: got no number, expected at least one")
        for number in several:
            if number is not None:
                check_number("alpha", number, least=0.0)
        check_whole("washout", self.washout, 0)
        check_number("state_noise", self.state_noise, least=0.0)
        if self.solver not in ("auto", "cholesky", "svd"):
            raise ValueError(f"solver: got {self.solver!r}, expected 'auto', 'cholesky' or 'svd'")
        if isinstance(self.alpha, Sequence):
            object.__setattr__(self, "alpha", tuple(self.alpha))

    def solve(self, rows: Rows) -> LinearReadout:
        """The readout for these rows.

        Raises:
            ValueError: there is no row; a feature or target is not finite; the normal equations
                have no solution (with solver "cholesky").
        """
        sums = _Sums.over(rows)
        if self.solver != "svd" and isinstance(self.alpha, (int, float)):
            solution, condition = sums.solve(float(self.alpha))
            if condition <= CONDITION or (self.solver == "cholesky" and condition < math.inf):
                return solution
            if self.solver == "cholesky":
                raise ValueError(
                    f"alpha: got {self.alpha}, with which the normal equations have no solution in "
                    "float64; give a larger one, or solver='svd'"
                )
        return _Factor.over(rows, sums).solve(self._choices(sums))

    def _choices(self, sums: "_Sums") -> Sequence[float]:
        if self.alpha is None:
            mean_square = sums.mean_square
            return [factor * mean_square for factor in GRID]
        return self.alpha if isinstance(self.alpha, Sequence) else [self.alpha]


@dataclass
class _Sums:
    """The normal equations, added up; centred, so that a bias costs no digits.

    Attributes:
        bias: whether there is one.
        count: n, rows so far that count.
        weight: the sum of what they count for.
        origin_f, origin_y: what is subtracted from every row before it is squared.
        sum_f, sum_y, gram, moments: sums of f, y, f f^T and f y^T.
    """

    bias: bool
    count: int
    weight: float
    origin_f: Tensor
    origin_y: Tensor
    sum_f: Tensor
    sum_y: Tensor
    gram: Tensor
    moments: Tensor

    @classmethod
    def over(cls, rows: Rows) -> "_Sums":
        """Of all rows."""
        sums: _Sums | None = None
        for features, target, *_, weights in rows.samples():
            if not len(features):
                continue
            if sums is None:
                sums = cls._begun(features, target, rows.readout.bias is not None)
            sums._add(features - sums.origin_f, target - sums.origin_y, weights)
        assert sums is not None
        return sums.of_mean_weight_1()

    @classmethod
    def _begun(cls, features: Tensor, target: Tensor, bias: bool) -> "_Sums":
        size, outputs = features.shape[1], target.shape[1]
        zeros = features.new_zeros
        mean = features.mean(0) if bias else zeros(size)
        return cls(
            bias, 0, 0.0, mean, target.mean(0) if bias else zeros(outputs), zeros(size),
            zeros(outputs), zeros(size, size), zeros(size, outputs),
        )  # fmt: skip

    def _add(self, features: Tensor, target: Tensor, weights: Tensor | None) -> None:
        weighted = features
        if weights is None:
            self.count += len(features)
            self.weight += len(features)
            self.sum_y += target.sum(0)
        else:
            self.count += int((weights > 0).sum())
            self.weight += float(weights.sum())
            weighted = features * weights.unsqueeze(-1)
            self.sum_y += weights @ target
        self.sum_f += weighted.sum(0)
        self.gram.addmm_(weighted.mT, features)
        self.moments.addmm_(weighted.mT, target)

    @property
    def unit(self) -> float:
        """The mean weight of the rows that count."""
        return self.weight / self.count if self.count else 1.0

    def of_mean_weight_1(self) -> "_Sums":
        """The same with weights in units of their mean.

        Raises:
            ValueError: no row counts.
        """
        if not self.weight > 0:
            raise ValueError(NO_WEIGHT)
        for part in (self.sum_f, self.sum_y, self.gram, self.moments):
            part /= self.unit
        return self

    @property
    def means(self) -> tuple[Tensor, Tensor]:
        """What is subtracted from features and targets: zeros without a bias."""
        if not self.bias:
            return self.origin_f, self.origin_y
        return self.origin_f + self.sum_f / self.count, self.origin_y + self.sum_y / self.count

    @property
    def centred(self) -> tuple[Tensor, Tensor]:
        """The sums of f f^T and f y^T about the means."""
        if not self.bias:
            return self.gram, self.moments
        f, y = self.sum_f, self.sum_y
        gram = self.gram - torch.outer(f, f) / self.count
        return gram, self.moments - torch.outer(f, y) / self.count

    @property
    def mean_square(self) -> float:
        """Of the features, about their means, summed over the rows."""
        gram, _ = self.centred
        return float(gram.diagonal().mean().clamp(min=torch.finfo(gram.dtype).tiny))

    def solve(self, alpha: float) -> tuple[LinearReadout, float]:
        """By Cholesky's factors, and the condition; infinite where there are no factors."""
        gram, moments = self.centred
        gram = gram + alpha * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        factor, failed = torch.linalg.cholesky_ex(gram)
        if bool(failed):
            return self.readout(moments.mT), math.inf
        weight = torch.cholesky_solve(moments, factor).mT
        condition = torch.linalg.matrix_norm(gram, 1) * _inverse_norm(factor)
        return self.readout(weight), float(condition)

    def readout(self, weight: Tensor) -> LinearReadout:
        """The readout that has these weights."""
        mean_f, mean_y = self.means
        return LinearReadout(weight, mean_y - weight @ mean_f)


def _inverse_norm(factor: Tensor) -> Tensor:
    """About the 1-norm of the inverse of a symmetric matrix, by its Cholesky factor.

    Source: W. W. Hager, Condition estimates, SIAM Journal on Scientific and Statistical Computing
    5(2), 1984.
    """
    size = len(factor)
    x = factor.new_full((size, 1), 1.0 / size)
    norm = factor.new_zeros(())
    for _ in range(5):
        y = torch.cholesky_solve(x, factor)
        norm = torch.maximum(norm, y.abs().sum())
        z = torch.cholesky_solve(torch.ones_like(y).copysign(y), factor)
        best = int(z.abs().argmax())
        if float(z.abs()[best]) <= float((z * x).sum()):
            break
        x = torch.zeros_like(x)
        x[best] = 1.0
    return norm


@dataclass
class _Factor:
    """The triangular factor of features and targets, which has their singular values.

    Attributes:
        sums: the means, and how many rows there are.
        r: (D + K, D + K) or less, upper triangular: R of a QR of all rows [f, y].
        size: D.
    """

    sums: _Sums
    r: Tensor
    size: int

    @classmethod
    def over(cls, rows: Rows, sums: _Sums) -> "_Factor":
        """Of all rows, in another pass over them."""
        mean_f, mean_y = sums.means
        r = mean_f.new_zeros((0, len(mean_f) + len(mean_y)))
        for features, target, *_, weights in rows.samples():
            row = torch.cat([features - mean_f, target - mean_y], -1)
            if weights is not None:
                row *= (weights / sums.unit).sqrt().unsqueeze(-1)
            for part in row.split(max(1024, row.shape[1])):
                r = torch.linalg.qr(torch.cat([r, part]), mode="r").R
        return cls(sums, r, len(mean_f))

    def solve(self, choices: Sequence[float]) -> LinearReadout:
        """By singular values; of several penalties by generalised cross-validation."""
        count, size = self.sums.count, self.size
        u, s, v = torch.linalg.svd(self.r[:, :size], full_matrices=False)
        y = self.r[:, size:]
        seen = u.mT @ y
        beyond = (y.square().sum(0) - seen.square().sum(0)).clamp(min=0.0)
        tiny = s.max().clamp(min=torch.finfo(s.dtype).tiny) * torch.finfo(s.dtype).eps * len(s)

        def kept(alpha: float) -> Tensor:
            """Of each direction, how much of what the targets have there is kept."""
            return torch.where(s > tiny, s.square() / (s.square() + alpha), 0.0)

        def error(alpha: float) -> float:
            share = kept(alpha)
            free = count - float(share.sum()) - self.sums.bias
            if free <= 0:
                return math.inf
            residual = beyond + ((1.0 - share).unsqueeze(-1) * seen).square().sum(0)
            return float(count * residual.sum()) / free**2

        alpha = min(choices, key=error)
        if len(choices) > 2 and alpha in (min(choices), max(choices)):
            end = "least" if alpha == min(choices) else "greatest"
            warnings.warn(
                f"alpha: the best of {len(choices)} is the {end}, {alpha:.3g}; others beyond it "
                "may be better",
                RuntimeWarning,
                stacklevel=2,
            )
        scale = torch.where(s > tiny, kept(alpha) / s.clamp(min=tiny), 0.0)
        weight = (v.mT @ (scale.unsqueeze(-1) * seen)).mT
        return self.sums.readout(weight)
