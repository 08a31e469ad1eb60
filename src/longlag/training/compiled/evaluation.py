"""The outputs for validation data, without PyTorch around each batch."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from longlag.batch import Batch
from longlag.training.compiled.cells import Cells, Places
from longlag.training.compiled.network import Network
from longlag.training.compiled.outputs import Outputs
from longlag.training.compiled.program import Program
from longlag.training.ranks import Ranks


class CompiledOutputs:
    """The outputs of a model, batch by batch.

    Args:
        model: what is run.
        data: all sequences; x is as the model reads it.
        batch_size: sequences in a batch; the last may be smaller.
        ranks: the processes that share each batch.
    """

    def __init__(
        self, model: nn.Module, data: Batch[Tensor], batch_size: int, ranks: Ranks
    ) -> None:
        self.model, self.batch_size, self._ranks = model, batch_size, ranks
        self.data = data._replace(
            x=data.x.contiguous(),
            lengths=None if data.lengths is None else data.lengths.contiguous(),
            resets=None if data.resets is None else data.resets.contiguous(),
        )
        self._cells, self._places = Cells(None, 0), Places(model)
        self._known: dict[int, tuple[Outputs, Program]] = {}

    def of(self, network: Network) -> Iterator[Tensor]:
        """The outputs of this process's rows of each batch: (N, K), or (N, T, K) where each step is
        read out."""
        count, self._places = len(self.data.x), Places(self.model)
        for first in range(0, count, self.batch_size):
            rows = range(first, min(first + self.batch_size, count))
            rows = rows[self._ranks.rows(len(rows))]
            size = len(rows)
            outputs, program = self._prepared(network, size)
            torch.arange(rows.start, rows.stop, out=outputs.order[0])
            program.run(0, 1)
            y = outputs.y
            if network.reduce is None:
                y = y.view(-1, size, y.shape[1]).transpose(0, 1)
            yield y.clone(memory_format=torch.contiguous_format)

    def _prepared(self, network: Network, size: int) -> tuple[Outputs, Program]:
        known = self._known.get(size)
        if known is None or known[0].places != self._places.now():
            outputs = Outputs(self.model, network, self.data, self._cells, size)
            known = self._known[size] = outputs, outputs.program()
        return known
