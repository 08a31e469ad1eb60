"""longlag without lengths: the padding is read like data, and no error comes back there."""

from longlag.lab.bench.peers.contender import Contender, NotApplicable, torch_contender
from longlag.lab.bench.problem import Problem


def prepare(problem: Problem, pass_name: str) -> Contender:
    """The same layer on the whole padded batch: what the lengths save."""
    if problem.lengths is None:
        raise NotApplicable("all sequences have one length")
    return torch_contender(problem, pass_name, lambda: problem.layer(problem.x)[0])
