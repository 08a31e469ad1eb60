r"""A regulariser that keeps the error's norm on its way back through time.

Reference:
    R. Pascanu, T. Mikolov and Y. Bengio (2013), "On the difficulty of training recurrent neural
    networks", ICML, section 3.3, equations 9 and 10; arXiv 1211.5063.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from longlag.arguments import check_optional
from longlag.gradients.method import Accumulated, Backward, Loss, Options
from longlag.gradients.parameters import add_gradients
from longlag.gradients.refusals import refuse_without_autograd
from longlag.gradients.runs.layer_run import EVERYTHING, STATES_ONLY, LayerRun, add_by_name
from longlag.gradients.runs.model_run import ModelRun
from longlag.layers.computed import plain_model
from longlag.layers.inputs import Inputs
from longlag.scan.step import outer, times

AT_ONCE = 1 << 22
"""Numbers of drives that are linearised at once: it bounds the scratch memory."""


@dataclass(frozen=True)
class Omega:
    r"""The regulariser of Pascanu, Mikolov and Bengio, whose weight fights vanishing gradients.

    With the error :math:`\delta_t = \partial E/\partial s_t` of the state of a layer (all its
    states as one vector) and :math:`J_t = \partial s_t/\partial s_{t-1}`,

    .. math:: q_t = \frac{\lVert J_t^\top \delta_t \rVert}{\lVert \delta_t \rVert}, \qquad
        \Omega = \frac{1}{N} \sum_{n=1}^{N} \sum_{t=1}^{T} (q_t - 1)^2

    which is 0 where the error keeps its norm from step to step, neither vanishing nor exploding, in
    the direction that matters for E. States, errors and the pointwise derivatives are constants: of
    J only the matrix W that it holds is varied (the immediate derivative), so

    .. math:: \frac{\partial\Omega}{\partial W_g} = \frac{1}{N} \sum_{n, t}
        2 (q_t - 1)\; d^g_t \, u_t^\top, \qquad
        u_t = \frac{J_t^\top \delta_t}{\lVert J_t^\top \delta_t \rVert}, \qquad
        d^g_t = \frac{1}{\lVert \delta_t \rVert} \sum_k \delta^k_t
        \frac{\partial \phi^k}{\partial r^g_t}

    Each layer of a stack has its own Omega; they are added, as are those of replicas. Left out are
    the padding, steps whose state is reset before, and steps whose error is below the floor.

    Biased, on purpose: it is no gradient of the loss. It adds to W, ``weight_hh``, alone. Recurrent
    weights of one number per unit (IndRNN) are in the ratio but not moved, and what the error does
    not pass (the truncated matrices of LSTM1997) has a zero.

    As a training method (:meth:`accumulate`) it is BPTT with Omega beside it: one forward and one
    backward pass, and three products with W over all steps at once. Time: 2 to 5 times that of BPTT
    with compiled cells, most of it these products. Memory: as BPTT, and the errors, S numbers a
    step and unit for S states.

    Args:
        weight: what Omega is multiplied by, >= 0. The paper's temporal order task has 4.
        squared: the form of the authors' programs: q_t is the ratio of the squared norms, and the
            terms are averaged over all steps and sequences that count, instead of summed over t.
        floor: a term counts where :math:`\lVert \delta_t \rVert^2` is at least this, > 0.
        decay: None, or ``"1/t"``: the weight at update t = 1, 2, .. is ``weight / t``. The paper
            finds that natural tasks, other than artificial ones, need it. ``fit`` counts the
            updates; elsewhere the update's number must be given.

    Raises:
        ValueError, TypeError: an argument out of range.

    >>> import longlag as ll
    >>> orthogonal = ll.Elman(2, 3, activation="identity", seed=0)
    >>> model = ll.SequenceModel(orthogonal, 1, seed=1)
    >>> x, target = torch.ones(4, 50, 2), torch.zeros(4, 1)
    >>> bool(Omega().value(model, x, target, nn.functional.mse_loss) < 1e-10)
    True
    """

    weight: float = 1.0
    squared: bool = False
    floor: float = 1e-20
    decay: Literal["1/t"] | None = None

    def __post_init__(self) -> None:
        for name, value in (("weight", self.weight), ("floor", self.floor)):
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name}: got {value!r}, expected a number")
        if not (self.weight >= 0 and math.isfinite(self.weight)):
            raise ValueError(f"weight: got {self.weight}, expected a finite number >= 0")
        if not (self.floor > 0 and math.isfinite(self.floor)):
            raise ValueError(f"floor: got {self.floor}, expected a finite number > 0, as 1e-20")
        if self.decay not in (None, "1/t"):
            raise ValueError(f"decay: got {self.decay!r}, expected None or '1/t'")

    def weight_at(self, update: int | None = None) -> float:
        """The weight at an update.

        Args:
            update: its number, from 1; only ``decay`` needs it.

        Raises:
            ValueError, TypeError: it is needed and not there, or no whole number >= 1.

        >>> Omega(4.0, decay="1/t").weight_at(8)
        0.5
        """
        check_optional("update", update, 1)
        if self.decay is None:
            return self.weight
        if update is None:
            raise ValueError(
                "update: not given, but with decay='1/t' the weight depends on it; give the number "
                "of the update, from 1"
            )
        return self.weight / update

    def value(
        self, model: nn.Module, x: Tensor, target: Tensor, loss: Loss, **options: Unpack[Options]
    ) -> Tensor:
        """Omega itself, a scalar, not multiplied by the weight.

        Args:
            model: a recurrent layer, a stack of such, or a `SequenceModel` around either.
            x, target, loss, options: as for :meth:`BPTT.gradients`.

        Raises:
            TypeError: the model is none of these.
            ValueError: it reads in both directions, or drops out units; an argument does not fit;
                the loss is no scalar; a cell multiplies a matrix with a new value (delay=0).
        """
        refuse_without_autograd("Omega")
        run = ModelRun(model, Inputs(x, **options), "Omega", joint=True)
        run.backward(run.explicit(run.read(loss, target)), STATES_ONLY)
        return torch.stack([self._of_layer(layer_run).value for layer_run in run.layers]).sum()

    def gradients(
        self,
        model: nn.Module,
        x: Tensor,
        target: Tensor,
        loss: Loss,
        *,
        update: int | None = None,
        **options: Unpack[Options],
    ) -> dict[str, Tensor]:
        """The gradient of Omega alone, times the weight, by name of the recurrent matrix.

        Args:
            model, x, target, loss, options: as for :meth:`value`.
            update: the number of the update, from 1; needed for ``decay``.

        Raises:
            TypeError, ValueError: as for :meth:`value`; no layer has a matrix W; no ``update``.
        """
        refuse_without_autograd("Omega")
        weight = self.weight_at(update)
        plain = plain_model(model)
        run = ModelRun(plain.model, Inputs(x, **options), "Omega", joint=True)
        _has_matrix(run)
        run.backward(run.explicit(run.read(loss, target)), STATES_ONLY)
        sums: dict[str, Tensor] = {}
        self._add(run, weight, sums)
        return plain.by_original(sums)

    def accumulate(
        self,
        model: nn.Module,
        x: Tensor,
        target: Tensor,
        loss: Loss,
        backward: Backward,
        *,
        update: int | None = None,
        **options: Unpack[Options],
    ) -> Accumulated:
        """Add the gradient of the loss, and of Omega times the weight, to `.grad`.

        Args:
            model, x, target, loss, options: as for :meth:`value`.
            backward: starts a backward pass, for example `torch.Tensor.backward`.
            update: the number of the update, from 1; needed for ``decay``.

        Returns:
            The loss, without Omega, and the output, cut off from the graph.

        Raises:
            TypeError, ValueError: as for :meth:`gradients`.
        """
        refuse_without_autograd("Omega")
        weight = self.weight_at(update)
        plain = plain_model(model)
        run = ModelRun(plain.model, Inputs(x, **options), "Omega", joint=True)
        _has_matrix(run)
        error, sums = run.read(loss, target), {}
        run.backward(run.explicit(error, sums), EVERYTHING, sums)
        self._add(run, weight, sums)
        add_gradients(model, plain.by_original(sums), backward)
        return error.accumulated()

    def _add(self, run: ModelRun, weight: float, sums: dict[str, Tensor]) -> None:
        for layer_run in run.layers:
            matrix = self._of_layer(layer_run).matrix
            if matrix is not None:
                add_by_name(run.model, layer_run.layer, {"weight_hh": weight * matrix}, sums)

    @torch.no_grad()
    def _of_layer(self, layer_run: LayerRun) -> "_Term":
        """Omega of one layer and its gradient by the layer's recurrent matrix."""
        replicated = layer_run.layer.replicas is not None
        if layer_run.step.lowered.inner:
            raise ValueError(
                f"model: {layer_run.layer.recurrence.name} multiplies a matrix with a new value "
                "(delay=0), and Omega varies matrices of the step before only; use BPTT()"
            )
        step, front = layer_run.step, layer_run.x.shape[1:-1]
        # Sums over steps and sequences, by replica.
        total = layer_run.x.new_zeros(front[:-1])
        count = layer_run.x.new_zeros(front[:-1])
        blocks = step.blocks(layer_run.weights)
        d_blocks = [torch.zeros_like(block) for block in blocks]
        for block in _blocks_of(layer_run):
            valid, deltas = self._normalised(layer_run, block)
            partials = layer_run.partials(block)
            d_drives = layer_run.by_drives(partials, deltas)
            sent = [
                layer_run.by_symbol(partials, deltas, symbol)
                for symbol in layer_run.layer.recurrence.state_symbols
            ]
            for product, weights in zip(step.products, blocks, strict=True):
                if not product.truncated:
                    back = times(step.reached(d_drives, product.gates), weights)
                    sent[product.source] = sent[product.source] + back
            norm = torch.linalg.vector_norm(torch.cat(sent, -1), dim=-1, keepdim=True)
            ratio = norm.square() if self.squared else norm
            total += ((ratio - 1).square() * valid).sum((0, -2, -1))
            count += valid.sum((0, -2, -1))
            # d (q - 1)^2 / d (J^T delta), but for the vector itself; of a norm of 0 it is 0.
            slope = 4 * (ratio - 1) if self.squared else 2 * (norm - 1) / norm
            slope = slope.masked_fill((norm == 0) | (valid == 0), 0.0)
            for product, d_block in zip(step.products, d_blocks, strict=True):
                if not product.truncated:
                    reached = step.reached(d_drives, product.gates)
                    d_block += outer(reached, slope * sent[product.source], replicated)
        divisor = count if self.squared else torch.full_like(count, front[-1])
        divisor = divisor.clamp(min=1)
        d_blocks = [d_block / divisor[..., None, None] for d_block in d_blocks]
        matrix = step.by_row(d_blocks, layer_run.weights.entries)
        return _Term((total / divisor).sum(), matrix)

    def _normalised(self, layer_run: LayerRun, block: slice) -> tuple[Tensor, list[Tensor]]:
        """Where a term counts, (T, N, 1), and the errors of the states there, of joint norm 1.

        The ratio does not depend on the error's length; so it cannot overflow by it.
        """
        joint = torch.cat([delta[block] for delta in layer_run.deltas], -1)
        largest = joint.abs().amax(-1, keepdim=True)
        joint = joint / torch.where(largest == 0, 1.0, largest)
        norm = torch.linalg.vector_norm(joint, dim=-1, keepdim=True)
        # Not (below the floor), so that an error that is no number is not passed over.
        valid = ~(largest * norm < math.sqrt(self.floor))
        for part in (layer_run.schedule.active, layer_run.schedule.keep):
            if part is not None:
                valid = valid & part[block]
        joint = (joint / torch.where(norm == 0, 1.0, norm)).masked_fill(~valid, 0.0)
        hidden = layer_run.layer.hidden_size
        return valid.to(joint.dtype), list(joint.split(hidden, -1))


class _Term(NamedTuple):
    """Omega of a layer, and its gradient by the recurrent matrix; None where it has none."""

    value: Tensor
    matrix: Tensor | None


def _has_matrix(run: ModelRun) -> None:
    if all(layer_run.layer.weight_hh is None for layer_run in run.layers):
        raise ValueError(
            "model: no layer has a recurrent matrix W (weight_hh), which is all that Omega trains; "
            "use BPTT(), or a layer with one such as ll.Elman"
        )


def _blocks_of(layer_run: LayerRun) -> Iterator[slice]:
    """The steps of a pass, some at a time."""
    steps = layer_run.x.shape[0]
    size = max(1, AT_ONCE // max(1, layer_run.drive[:1].numel()))
    for first in range(0, steps, size):
        yield slice(first, min(first + size, steps))
