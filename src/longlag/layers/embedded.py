"""Learned vectors in the place of categories, before a recurrent module."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from longlag.arguments import check_whole
from longlag.layers.base import LayerPart, RecurrentModule, check_recurrent
from longlag.layers.init import as_generator

LARGEST = 50
"""The most numbers of a vector whose size is not given."""


def embedding_size(categories: int) -> int:
    """The numbers of a vector for one of K categories: 1.6 K^0.56, at most K and at most 50.

    Source: `emb_sz_rule` of fastai, found there by trial and error.

    >>> [embedding_size(count) for count in (2, 7, 100, 1000)]
    [2, 5, 21, 50]
    """
    return min(LARGEST, categories, round(1.6 * categories**0.56))


class Embedded(RecurrentModule):
    r"""A recurrent module that reads categories as learned vectors.

    .. math:: h = \text{layer}(z), \qquad z_t = (\text{numbers}, E^{(1)}_{k_t}, E^{(2)}_{l_t}, ...)

    Of the C features of x some hold the number k of a category, 0 to K - 1, as a float. In their
    place the module below reads row k of a (K, d) matrix E, which is trained with the network. It
    reads the other features first, in their order, then the vectors. Any other number, such as -1
    or NaN, is a category that is not known: a vector of zeros.

    For a few categories an input for each (one-hot) does as well; vectors are for many, where they
    are fewer weights and fewer numbers in memory: one a step in place of K.

    Args:
        layer: the module that reads the numbers and the vectors.
        categories: by the position of such a feature in x, how many categories it has, K >= 1.
        sizes: by position, d >= 1, the numbers of a vector; of others as :func:`embedding_size`
            says: 1.6 K^0.56, at most K and at most 50.
        seed: for E, drawn from a normal distribution of deviation :math:`1 / \sqrt d`, so that a
            vector is about as long as a one-hot one.

    Raises:
        ValueError: the layer does not read as many numbers as there are, has replicas, or a
            position is not among the features.

    Cost: of a forward pass K d numbers for each feature beside the layer's own; training goes by
    PyTorch's operations, as its compiled step has none for vectors.

    Source: C. Guo, F. Berkhahn (2016), "Entity embeddings of categorical variables",
    arXiv:1604.06737; the size: :func:`embedding_size`.

    Example:
        >>> import longlag as ll
        >>> machine = 1  # the second of three features says which of 100 machines it is
        >>> layer = Embedded(ll.GRU(2 + 21, 8, seed=0), {machine: 100}, seed=1)
        >>> model = ll.SequenceModel(layer, 2, seed=2)
        >>> x = torch.randn(4, 6, 3)
        >>> x[..., machine] = torch.tensor([0.0, 7.0, 99.0, -1.0])[:, None]
        >>> model(x).shape, layer.input_size, layer.vectors[0].shape
        (torch.Size([4, 2]), 3, torch.Size([100, 21]))
    """

    def __init__(
        self,
        layer: RecurrentModule,
        categories: Mapping[int, int],
        sizes: Mapping[int, int] | None = None,
        *,
        seed: int | torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_recurrent("layer", layer)
        if layer.replicas is not None:
            raise ValueError(
                f"layer: got replicas={layer.replicas}, expected None; ll.fit_replicas trains "
                "models that are each one network"
            )
        if embeds(layer):
            raise ValueError("layer: it has vectors of its own; give all categories to one of them")
        sizes = dict(sizes or {})
        if not isinstance(categories, Mapping) or not categories:
            raise ValueError(
                f"categories: got {categories!r:.80}, expected how many categories there are by "
                "position, such as {0: 12}"
            )
        for at in sizes.keys() - categories.keys():
            raise ValueError(f"sizes: position {at} is not among those of categories")
        self.categories = {
            check_whole("categories: position", at, 0): check_whole(
                f"categories[{at}]", categories[at], 1, 2**24
            )
            for at in sorted(categories)
        }
        self.sizes = {
            at: check_whole(f"sizes[{at}]", sizes.get(at, embedding_size(count)), 1)
            for at, count in self.categories.items()
        }
        width = sum(self.sizes.values())
        numbers = layer.input_size - width
        if numbers < 0:
            raise ValueError(
                f"layer: reads {layer.input_size} numbers, expected {width} or more, those of the "
                "vectors and of the other features"
            )
        self.layer = layer
        self.input_size, self.output_size = numbers + len(self.categories), layer.output_size
        self.replicas = None
        last = max(self.categories)
        if last >= self.input_size:
            raise ValueError(
                f"categories: got position {last}, but the layer reads {layer.input_size} numbers, "
                f"{width} of them from vectors, so that x has {self.input_size} features, 0 to "
                f"{self.input_size - 1}"
            )
        like = layer.like
        self.vectors = nn.ParameterList(
            [
                nn.Parameter(torch.empty(count, size, dtype=like.dtype, device=like.device))
                for count, size in zip(self.categories.values(), self.sizes.values(), strict=True)
            ]
        )
        self._draw(seed)

    @property
    def causal(self) -> bool:  # noqa: D102
        return self.inner.causal

    @property
    def inner(self) -> RecurrentModule:
        """The module that reads numbers and vectors."""
        assert isinstance(self.layer, RecurrentModule)
        return self.layer

    def embed(self, x: Tensor) -> Tensor:
        """What the module below reads of x (..., T, C): (..., T, C - number of categories + d)."""
        if x.shape[-1] != self.input_size:
            raise ValueError(
                f"x: got shape {tuple(x.shape)}, expected {self.input_size} features at the end"
            )
        numbers = [at for at in range(self.input_size) if at not in self.categories]
        parts = [x[..., numbers]]
        for at, vectors in zip(self.categories, self.vectors, strict=True):
            code, count = x[..., at], len(vectors)
            row = torch.where((code >= 0) & (code < count), code, count).long()
            # The last row, of no category, is zero.
            rows = torch.cat([vectors, vectors.new_zeros(1, vectors.shape[1])])
            parts.append(nn.functional.embedding(row, rows))
        return torch.cat([part.to(parts[-1].dtype) for part in parts], dim=-1)

    def parts(self, state: Any = None) -> Iterator[LayerPart]:  # noqa: D102
        yield from (part.inside("layer") for part in self.inner.parts(state))

    def forward(
        self,
        x: Tensor,
        state: Any = None,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """Read sequences; as :meth:`Recurrent.forward`, with the state of the module below."""
        return self.layer(self.embed(x), state, lengths=lengths, resets=resets)

    def last(self, output: Tensor, lengths: Tensor | None = None) -> Tensor:  # noqa: D102
        return self.inner.last(output, lengths)

    def reset_parameters(self, seed: int | torch.Generator | None = None) -> None:  # noqa: D102
        generator = as_generator(seed, "embedded")
        self.inner.reset_parameters(generator)
        self._draw(generator)

    def _draw(self, seed: int | torch.Generator | None) -> None:
        generator = as_generator(seed, "vectors")
        with torch.no_grad():
            for vectors in self.vectors:
                if vectors.device.type != "meta":
                    drawn = torch.randn(vectors.shape, generator=generator, dtype=torch.float64)
                    vectors.copy_(drawn / math.sqrt(vectors.shape[1]))

    def config(self) -> dict[str, Any]:  # noqa: D102
        categories = [[at, count, self.sizes[at]] for at, count in self.categories.items()]
        return {"type": "Embedded", "layer": self.inner.config(), "categories": categories}


def embeds(module: nn.Module) -> bool:
    """Whether a module has vectors in the place of categories."""
    return any(isinstance(part, Embedded) for part in module.modules())
