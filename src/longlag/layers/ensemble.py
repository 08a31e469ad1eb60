"""Several models that answer together."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from longlag.layers.sequence_model import SequenceModel


class Ensemble(nn.Module):
    r"""The mean of what models put out.

    .. math:: y = \frac1R \sum_r y^{(r)}, \quad\text{or of classes}\quad
        y = \log \frac1R \sum_r \mathrm{softmax}(y^{(r)})

    Models that were trained from different initial weights err in different places; their mean errs
    less. It is saved and loaded as any model, by :func:`save` and :func:`load`.

    Args:
        models: R networks that read as many inputs, and put out as many numbers as often.
        classes: whether outputs are logits of classes. Then the probabilities are averaged, and
            the output is their logarithm, to which cross-entropy and argmax apply as before.

    Raises:
        ValueError, TypeError: there are none, or they do not fit together.

    Cost: that of all models, one after the other.

    Source: L. K. Hansen and P. Salamon, Neural network ensembles, IEEE PAMI 12(10), 1990.

    Example:
        >>> import longlag as ll
        >>> models = [ll.SequenceModel(ll.GRU(3, 8, seed=n), 2, seed=n) for n in range(4)]
        >>> ensemble, x = Ensemble(models), torch.randn(5, 7, 3)
        >>> mean = torch.stack([model(x) for model in models]).mean(0)
        >>> torch.equal(ensemble(x), mean)
        True
    """

    def __init__(self, models: Iterable[SequenceModel], *, classes: bool = False) -> None:
        super().__init__()
        models = list(models)
        if not models:
            raise ValueError("models: got none, expected at least one SequenceModel")
        for number, model in enumerate(models):
            if not isinstance(model, SequenceModel):
                raise TypeError(
                    f"models[{number}]: got {type(model).__name__}, expected a SequenceModel"
                )
            sizes = [
                (one.layer.input_size, one.readout.output_size, one.reduce is None)
                for one in (models[0], model)
            ]
            if sizes[0] != sizes[1]:
                raise ValueError(
                    f"models[{number}]: has (inputs, outputs, an output at every step) "
                    f"{sizes[1]}, and models[0] has {sizes[0]}; expected the same of all"
                )
        self.models = nn.ModuleList(models)
        if not isinstance(classes, bool):
            raise TypeError(f"classes: got {classes!r}, expected True or False")
        self.classes = classes

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, resets: Tensor | None = None
    ) -> Tensor:
        """Outputs: x (N, T, C) to (N, T, K), or (N, K) for many-to-one."""
        outputs = torch.stack([model(x, lengths=lengths, resets=resets) for model in self.models])
        if not self.classes:
            return outputs.mean(0)
        return outputs.log_softmax(-1).logsumexp(0) - math.log(len(outputs))

    def config(self) -> dict[str, Any]:
        """What :func:`longlag.load` needs to build the ensemble again, as plain data."""
        models: Any = self.models
        return {
            "type": "Ensemble",
            "models": [model.config() for model in models],
            "classes": self.classes,
        }
