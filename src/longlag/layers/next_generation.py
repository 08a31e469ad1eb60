"""The next-generation reservoir: delayed inputs and their monomials, without a weight."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from longlag.arguments import check_whole
from longlag.layers.base import LayerPart, RecurrentModule
from longlag.layers.checks import check_input, check_lengths, check_resets

MOST_FEATURES = 10**6
"""More are taken for a mistake."""


class NextGenerationState(NamedTuple):
    """What a next-generation reservoir goes on from.

    Attributes:
        inputs: (N, (k - 1) s + 1, C), the latest inputs, the last one last; zero where there was
            none.
    """

    inputs: Tensor


class NextGeneration(RecurrentModule):
    r"""Next-generation reservoir computing: the latest inputs, and products of them.

    .. math:: h_t = l_t \oplus \lceil l_t^{\otimes p} \rceil, \qquad
        l_t = x_t \oplus x_{t-s} \oplus \dots \oplus x_{t-(k-1)s}

    where the second part has each product of p numbers of l once, in the order of
    ``itertools.combinations_with_replacement``. It is a nonlinear vector autoregression (NVAR):
    nothing is drawn at random, and a readout fitted by :class:`~longlag.Ridge` is all there is. The
    constant of the source is the readout's bias. All steps are computed at once.

    Args:
        input_size: C, features per step.
        delays: k, how many inputs are seen: x_t and k - 1 before it.
        stride: s, how many steps they are apart.
        degree: p >= 2, or several such; () for the inputs alone.
        device, dtype: of what it reads, as in torch.nn.

    Attributes:
        output_size: k C + the sum over p of binomial(k C + p - 1, p).

    Raises:
        ValueError, TypeError: for an argument out of range.

    Source: D. J. Gauthier, E. Bollt, A. Griffith and W. A. S. Barbosa, Next generation reservoir
    computing, Nature Communications 12, 5564, 2021.

    Example:
        >>> layer = NextGeneration(3, delays=2)
        >>> output, state = layer(torch.zeros(1, 50, 3))
        >>> output.shape, state.inputs.shape
        (torch.Size([1, 50, 27]), torch.Size([1, 2, 3]))
    """

    replicas = None
    computed = ()

    def __init__(
        self,
        input_size: int,
        *,
        delays: int = 2,
        stride: int = 1,
        degree: int | Sequence[int] = 2,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.input_size = check_whole("input_size", input_size, 1)
        self.delays = check_whole("delays", delays, 1)
        self.stride = check_whole("stride", stride, 1)
        degrees = degree if isinstance(degree, Sequence) else [degree]
        self.degree = tuple(sorted({check_whole("degree", number, 2) for number in degrees}))
        seen = input_size * delays
        small = seen <= MOST_FEATURES and max(self.degree, default=2) <= 100
        counts = [math.comb(seen + number - 1, number) for number in self.degree] if small else []
        if not small or seen + sum(counts) > MOST_FEATURES:
            raise ValueError(
                f"degree: got {degree} for {delays} delays of {input_size} features, which makes "
                f"more than {MOST_FEATURES} products; expected fewer or lower degrees, or delays"
            )
        self.output_size = seen + sum(counts)
        self._places: dict[torch.device, list[Tensor]] = {}
        self.register_buffer("_like", torch.empty(0, device=device, dtype=dtype), persistent=False)

    @property
    def like(self) -> Tensor:  # noqa: D102
        like = self._buffers["_like"]
        assert like is not None
        return like

    @property
    def span(self) -> int:
        """How many inputs the state holds: those from the oldest that is seen to the latest."""
        return (self.delays - 1) * self.stride + 1

    def parts(self, state: Any = None) -> Iterator[LayerPart]:  # noqa: D102
        yield LayerPart("", self, state)

    def reset_parameters(self, seed: int | torch.Generator | None = None) -> None:
        """There are none."""

    def forward(
        self,
        x: Tensor,
        state: Any = None,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, NextGenerationState]:
        """Read sequences; as :meth:`Recurrent.forward`.

        Returns:
            The features (N, T, H), zero in the padding, and the latest inputs of each sequence.
        """
        x = check_input(x, self.input_size, None, self.like)
        steps, span = x.shape[1], self.span
        at = torch.arange(steps, device=x.device)
        past = self._past(state, x)
        inside = last = None
        if lengths is not None:
            lengths = check_lengths(lengths, x)
            inside = at < lengths.unsqueeze(-1)
            x = x.masked_fill(~inside.unsqueeze(-1), 0.0)  # padding may hold anything, even NaN
        if resets is not None:
            resets = check_resets(resets, x)
            resets = resets if inside is None else resets & inside
            first = at.new_full((len(x), 1), -span)  # before all that is seen
            last = torch.cat([first, torch.where(resets, at, -span)], 1).cummax(1).values
        history = torch.cat([past, x], 1)
        seen = []
        for lag in self._lags():
            part = history[:, span - lag : span - lag + steps]
            if last is not None:
                part = part.masked_fill((at - lag < last[:, 1:]).unsqueeze(-1), 0.0)
            seen.append(part)
        output = self._features(torch.cat(seen, -1))
        if inside is not None:
            output = output.masked_fill(~inside.unsqueeze(-1), 0.0)
        places = torch.arange(span, device=x.device).expand(len(x), -1)
        places = places + (steps if lengths is None else lengths.unsqueeze(-1))
        final = history.gather(1, places.unsqueeze(-1).expand(-1, -1, self.input_size))
        if last is not None:
            final = final.masked_fill((places < last[:, -1:] + span).unsqueeze(-1), 0.0)
        return output, NextGenerationState(final)

    def output_of(self, state: Any) -> Tensor:
        """What it put out at the last step before a state, (N, H)."""
        (inputs,) = state
        last = self.span - 1
        return self._features(torch.cat([inputs[:, last - lag] for lag in self._lags()], -1))

    def _lags(self) -> range:
        return range(0, self.span, self.stride)

    def _features(self, seen: Tensor) -> Tensor:
        """The products beside what is seen, (..., k C) to (..., H)."""
        parts = [seen]
        for places in self.products(seen.device):
            product = seen[..., places[0]]
            for factor in places[1:]:
                product = product * seen[..., factor]
            parts.append(product)
        return torch.cat(parts, -1)

    def products(self, device: torch.device) -> list[Tensor]:
        """For each degree p, which numbers are multiplied: (p, M)."""
        if device not in self._places:
            width = range(self.input_size * self.delays)
            self._places[device] = [
                torch.tensor(list(itertools.combinations_with_replacement(width, p))).mT.to(device)
                for p in self.degree
            ]
        return self._places[device]

    def _past(self, state: Any, x: Tensor) -> Tensor:
        expected = (len(x), self.span, self.input_size)
        if state is None:
            return x.new_zeros(expected)
        inputs = state if isinstance(state, Tensor) else None
        if isinstance(state, (tuple, list)) and len(state) == 1:
            inputs = state[0]
        if not isinstance(inputs, Tensor) or inputs.shape != expected or inputs.dtype != x.dtype:
            got = type(state).__name__
            if isinstance(inputs, Tensor):
                got = f"{tuple(inputs.shape)} of {inputs.dtype}"
            raise ValueError(
                f"state.inputs: got {got}, expected {expected} of {x.dtype}: the latest inputs of "
                "each sequence of x"
            )
        return inputs

    def config(self) -> dict[str, Any]:  # noqa: D102
        return {
            "type": "NextGeneration",
            "input_size": self.input_size,
            "delays": self.delays,
            "stride": self.stride,
            "degree": self.degree,
        }

    def extra_repr(self) -> str:  # noqa: D102
        return (
            f"{self.input_size}, delays={self.delays}, stride={self.stride}, degree={self.degree}"
        )
