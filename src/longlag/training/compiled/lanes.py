"""Several networks at once: numbers of each, side by side, in place of one network's.

Calls are made as for one network, by its tensors. Pieces and kernels that are compiled for L
networks see as one number what is a vector of L in memory, so only the memory is to be exchanged:
where that of one network begins, L times as much begins. Sizes and strides, which count numbers,
stay. No instruction takes a number from one lane to another, so each network has the bits that it
has among any others.
"""

import struct
from collections.abc import Sequence

import torch
from torch import Tensor

from longlag.batch import Batch
from longlag.recurrence.lowered import lower
from longlag.scan.cpu.passes import Noted
from longlag.training.compiled.network import Network
from longlag.training.compiled.piece import full_lanes

WEIGHTS = 1 << 10
"""Parameters of layers and attention up to which networks go side by side: as many vectors stay in
the first cache or near it, from where each step reads them all. Where units fill vectors by
themselves, sequences times parameters: what networks gain there is that they wait less."""

KEPT = 1 << 17
"""Numbers that layers and attention keep for a backward pass, of all steps of a batch, up to which
they do: those of a vector of networks are then some megabytes."""

_ALIGNED = 128
"""Bytes: a vector of doubles for each number of a vector of floats."""


def networks_at_once(network: Network, data: Batch[Tensor], size: int) -> int:
    """How many networks go side by side in batches of a size; 1 where they take turns.

    It depends on their form alone, not on how many there are.
    """
    x, layers = data.x, network.layers
    kept = weights = 0
    for layer in layers:
        lowered = lower(layer.recurrence)
        kept += layer.hidden_size * (len(lowered.stored) + len(lowered.residuals.values))
        weights += sum(parameter.numel() for parameter in layer.parameters())
    if network.attention is not None:
        kept += 2 * network.attention.size
        weights += sum(parameter.numel() for parameter in network.attention.parameters())
    lanes = full_lanes(x.dtype == torch.float64)
    full = all(layer.hidden_size % lanes == 0 for layer in layers)
    small = weights * (size if full else 1) <= WEIGHTS and kept * size * x.shape[1] <= KEPT
    plain = data.lengths is None and data.resets is None and not network.draws
    one_way = all(len(level) == 1 for level in network.levels) and isinstance(network.loss, str)
    return lanes if plain and one_way and small else 1


class Lanes:
    """The memory of L networks side by side, by that of one.

    Args:
        networks: L; the memory of one is that of the tensors.
    """

    def __init__(self, networks: int) -> None:
        self.networks = networks
        # By where it begins, the memory of one, which must not become another's, and that of all.
        self._known: dict[int, tuple[Tensor, Tensor]] = {}

    def of(self, tensor: Tensor) -> Tensor:
        """What is in place of a tensor without gaps: (*shape, L), at first L times what it has."""
        whole, first = self._whole(tensor), tensor.storage_offset()
        return whole[first : first + tensor.numel()].view(*tensor.shape, self.networks)

    def address(self, tensor: Tensor) -> int:
        """Where that begins."""
        if self.networks == 1:
            return tensor.data_ptr()
        whole = self._whole(tensor)
        before = int(tensor.storage_offset()) * self.networks
        return whole.data_ptr() + before * whole.element_size()

    def own(self, *tensors: Tensor) -> None:
        """Note whole numbers of which each network has its own."""
        for tensor in tensors:
            self._whole(tensor)

    def _whole(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        known = self._known.get(storage.data_ptr())
        if known is None:
            one = tensor.new_empty(0).set_(storage)
            known = self._known[storage.data_ptr()] = one, self._for_all(one)
        return known[1]

    def _for_all(self, one: Tensor) -> Tensor:
        if self.networks == 1:
            return one.unsqueeze(1)
        size, item = one.numel() * self.networks, one.element_size()
        room = one.new_empty(size + _ALIGNED // item)
        first = -room.data_ptr() % _ALIGNED // item
        every = room[first : first + size].view(-1, self.networks)
        return every.copy_(one.unsqueeze(1))

    def exchanged(self, calls: Sequence[Noted], shared: Sequence[Tensor]) -> list[Noted]:
        """Calls with this memory in place of one network's.

        Whole numbers are the same for all networks, but for those of :meth:`own`.

        Args:
            calls: as they were made for one.
            shared: what all networks read.
        """
        if self.networks == 1:
            return [*calls]
        stays = {tensor.untyped_storage().data_ptr() for tensor in shared}

        def place(word: int, memory: Sequence[Tensor]) -> int:
            for tensor in memory if word else ():
                storage = tensor.untyped_storage()
                first = storage.data_ptr()
                if first <= word < first + storage.nbytes():
                    numbers = tensor.is_floating_point() and first not in stays
                    if not numbers and first not in self._known:
                        return word
                    return self._whole(tensor).data_ptr() + (word - first) * self.networks
            assert not word, "a call reads memory that it does not name"
            return 0

        def moved(call: Noted) -> Noted:
            words = struct.Struct(f"={len(call.parameters) // 8}q")
            numbers = list(words.unpack(call.parameters))
            for number in call.places:
                numbers[number] = place(numbers[number], call.memory)
            return call._replace(parameters=words.pack(*numbers))

        return [moved(call) for call in calls]
