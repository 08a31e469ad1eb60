"""How many inputs a reservoir tells apart, and how many it does not."""

from typing import Any

import torch

from longlag.arguments import check_number, check_whole
from longlag.layers.base import RecurrentModule
from longlag.layers.evaluation import evaluation_mode
from longlag.reservoirs.driven import check_reservoir, noise, outputs


def kernel_rank(
    layer: RecurrentModule,
    streams: int | None = None,
    *,
    steps: int = 100,
    amplitude: float = 1.0,
    tolerance: float | None = None,
    seed: Any = 0,
) -> int:
    r"""The rank of the states that independent inputs lead to: how many a readout tells apart.

    .. math:: \operatorname{rank} [h_T(u_1), \dots, h_T(u_m)]

    With m = H inputs a linear readout gives each of them whatever output is wanted if it is H.

    Args:
        layer: a module that reads forward; it is not changed.
        streams: m, inputs of independent noise, uniform in ± amplitude; None for H.
        steps: T, of each of them, from a zero state.
        amplitude: of the noise, > 0.
        tolerance: in [0, 1): singular values up to this share of the largest count as 0; None for
            what rounding makes of zeros. What noise hides in practice is seen with a larger one.
        seed: for the noise: a whole number, or a generator.

    Raises:
        TypeError, ValueError: an argument is out of range, a state is not finite, or the layer
            reads no features, reads in both directions or has replicas.

    Cost: a run over m sequences of T steps, and the singular values of a matrix (m, H).

    Source: R. Legenstein and W. Maass, Edge of chaos and prediction of computational performance
    for neural circuit models, Neural Networks 20(3), 2007.

    Example:
        >>> import longlag as ll
        >>> layer = ll.EchoState(1, 10, topology="line", activation="identity", seed=0)
        >>> ll.reservoirs.kernel_rank(layer), ll.reservoirs.kernel_rank(layer, steps=5)
        (10, 5)
    """
    return _rank("kernel_rank", layer, streams, steps, 0, amplitude, tolerance, seed)


def generalisation_rank(
    layer: RecurrentModule,
    streams: int | None = None,
    *,
    steps: int = 100,
    common: int = 10,
    amplitude: float = 1.0,
    tolerance: float | None = None,
    seed: Any = 0,
) -> int:
    """The same rank for inputs whose last steps are common: how much of what differs is kept.

    A reservoir that forgets has a small one, one that is chaotic that of :func:`kernel_rank`; the
    difference of the two is largest where reservoirs compute best.

    Args:
        common: the last steps of the inputs, in 1 .. T, which all of them share.
        layer, streams, steps, amplitude, tolerance, seed: as for :func:`kernel_rank`, and so are
            errors and cost.

    Source: as for :func:`kernel_rank`; inputs with a common end: L. Buesing, B. Schrauwen and
    R. Legenstein, Connectivity, dynamics, and memory in reservoir computing with binary and analog
    neurons, Neural Computation 22(5), 2010.

    Example:
        >>> import longlag as ll
        >>> layer = ll.EchoState(1, 10, topology="line", activation="identity", seed=0)
        >>> ll.reservoirs.generalisation_rank(layer, common=7)  # 3 inputs before, and the end
        4
    """
    check_whole("common", common, 1)
    return _rank("generalisation_rank", layer, streams, steps, common, amplitude, tolerance, seed)


def _rank(
    method: str, layer: RecurrentModule, streams: int | None, steps: int, common: int,
    amplitude: float, tolerance: float | None, seed: Any,
) -> int:  # fmt: skip
    check_reservoir(layer, method)
    streams = check_whole("streams", layer.output_size if streams is None else streams, 1)
    check_whole("steps", steps, max(1, common))
    check_number("amplitude", amplitude, above=0.0)
    if tolerance is not None:
        check_number("tolerance", tolerance, least=0.0, most=1.0)
    x = noise(layer, streams, steps, amplitude, seed, method)
    if common:
        x[1:, -common:] = x[0, -common:]
    states = x.new_empty(0)
    with evaluation_mode(layer):
        for h in outputs(layer, x, method):
            states = h[:, -1]
    values = torch.linalg.svdvals(states)
    if tolerance is None:
        tolerance = max(states.shape) * torch.finfo(x.dtype).eps
    return int((values > values[0] * tolerance).sum())
