"""What a method cannot do, told apart before any work is done."""

from collections.abc import Sequence

import torch
from torch import nn

from longlag.layers.composition import reduction_of
from longlag.layers.recurrent import Recurrent

_DROPOUTS = ("dropout", "input_dropout", "recurrent_dropout")
"""What modules of longlag and torch.nn call the share of what they drop."""

_DROPOUT_LAYERS = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)


def drops_out(model: nn.Module) -> str | None:
    """The name of a part that drops out units now; None where there is none."""
    for name, part in model.named_modules():
        shares = [getattr(part, name_of_share, 0.0) for name_of_share in _DROPOUTS]
        active = isinstance(part, _DROPOUT_LAYERS) and part.p > 0
        active |= any(isinstance(p, float) and p > 0 for p in shares)
        if part.training and active:
            return name or type(part).__name__
    return None


def refuse_dropout(model: nn.Module, method: str) -> None:
    """Raise a ValueError where a second pass over the same steps would draw other masks."""
    name = drops_out(model)
    if name is not None:
        raise ValueError(
            f"model: {name} drops out units in training, and {method} reads the steps twice, each "
            "time with other masks; use model.eval(), or BPTT()"
        )


def refuse_without_autograd(who: str) -> None:
    """Raise a RuntimeError where nothing is recorded that gradients could be found from."""
    if torch.is_inference_mode_enabled():
        mode, fix = "inference_mode()", "inference_mode(False)"
    elif not torch.is_grad_enabled():
        mode, fix = "no_grad()", "enable_grad()"
    else:
        return
    raise RuntimeError(
        f"{who} finds gradients, and is called under torch.{mode}, where nothing is recorded for "
        f"them; call it outside, or under torch.{fix}"
    )


def refuse_computed(layers: Sequence[Recurrent], method: str) -> None:
    """Raise a ValueError where a learner would change weights that follow from others."""
    for layer in layers:
        name = type(layer.cell).__name__
        if layer.recurrence.constrained:
            raise ValueError(
                f"model: weight_hh of {name} is kept {layer.recurrence.constrained} by the cell, "
                f"and {method} changes weights in place; use fit, with BPTT() or RTRL(), or a cell "
                "without the constraint"
            )
        if layer.weights is not None:
            raise ValueError(
                f"model: {name} reads its W rounded to {layer.weights}, and {method} changes "
                "weights in place; use fit, with BPTT() or RTRL(), or set its weights = None"
            )
        if layer.computed:
            raise ValueError(
                f"model: {layer.computed[0]} of {name} is computed from other "
                f"parameters, and {method} changes weights in place; use fit, with BPTT() or "
                f"RTRL(), or make it a parameter with torch.nn.utils"
            )


def refuse_reduced(model: nn.Module) -> None:
    """Raise a ValueError where a window has no error, as there is one output a sequence."""
    reduce = reduction_of(model)
    if reduce is not None:
        raise ValueError(
            f"model: has one output a sequence (reduce={reduce!r}), and no error before its end; "
            "call accumulate() with whole sequences"
        )
