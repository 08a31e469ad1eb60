"""PackedSequence: torch.nn's way to read sequences of several lengths."""

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from longlag.lab.bench.peers.contender import Contender, NotApplicable
from longlag.lab.bench.peers.torch_nn import module_contender
from longlag.lab.bench.problem import Problem


def prepare(problem: Problem, pass_name: str) -> Contender:
    """Pack, run the module, unpack: from the padded batch to the padded output, as longlag does."""
    lengths = problem.lengths
    if lengths is None:
        raise NotApplicable("all sequences have one length")

    def forward(module: nn.RNNBase) -> Tensor:
        packed = pack_padded_sequence(problem.x, lengths, batch_first=True, enforce_sorted=False)
        output, _ = pad_packed_sequence(
            module(packed)[0], batch_first=True, total_length=problem.row.steps
        )
        return output

    return module_contender(problem, pass_name, forward)
