"""longlag's own Elman layer of the same size: what a user's cell costs beside a built-in one."""

from longlag.lab.bench.peers import ours
from longlag.lab.bench.peers.contender import Contender, NotApplicable
from longlag.lab.bench.problem import Problem


def prepare(problem: Problem, pass_name: str) -> Contender:
    """The Elman layer; it is checked against the reference of its own equation."""
    if problem.row.cell != "own":
        raise NotApplicable("it is the measure of the user's own cell")
    return ours.prepare(problem.with_cell("elman"), pass_name)
