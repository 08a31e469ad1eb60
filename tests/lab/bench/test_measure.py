"""A result that is wrong has no time."""

from dataclasses import replace

import pytest

from longlag.lab.bench.measure import contenders, measure
from longlag.lab.bench.peers import OURS, NotApplicable, Unavailable, prepare
from longlag.lab.bench.problem import Problem
from longlag.lab.bench.rows import PASSES, Row
from longlag.lab.bench.timing import Effort

EFFORT = Effort(seconds=0.0, rounds=(3, 3), turn=0.0)


@pytest.fixture(scope="module")
def problem():
    return Problem(Row("elman", 2, 6, 3, 4))


def wrong(tensor):
    """longlag with a thousandth added to one number of one tensor."""

    def prepare_wrong(problem, pass_name):
        right = prepare(OURS, problem, pass_name)

        def result(found):
            named = {name: each.clone() for name, each in right.result(found).items()}
            named[tensor][(0,) * named[tensor].dim()] += 1e-3 * named[tensor].abs().max()
            return named

        return replace(right, result=result)

    return prepare_wrong


@pytest.mark.slow
@pytest.mark.parametrize("tensor", ["output", "weight_ih", "weight_hh", "bias"])
def test_a_wrong_peer_is_refused_and_the_others_are_timed(problem, tensor):
    chosen = {**contenders(["torch.nn"]), "wrong": wrong(tensor)}
    result = measure(problem, "forward+backward", 1, chosen, EFFORT)
    assert set(result.timings) == {OURS, "torch.nn"}
    assert result.differs["wrong"].tensor == tensor
    assert 5e-4 < result.differs["wrong"].value < 2e-3


def test_where_longlag_is_wrong_nothing_is_timed(problem):
    chosen = {**contenders(["torch.nn"]), OURS: wrong("bias")}
    result = measure(problem, "forward+backward", 1, chosen, EFFORT)
    assert result.timings == {}
    assert set(result.differs) == {OURS}
    assert result.of_limit is None


def test_who_is_not_for_a_row_is_not_named_and_who_fails_is_with_the_reason(problem):
    def not_for_it(problem, pass_name):
        raise NotApplicable("another kind of row")

    def fails(problem, pass_name):
        raise Unavailable("it is not installed")

    chosen = {**contenders([]), "a": not_for_it, "b": fails}
    result = measure(problem, "forward", 1, chosen, EFFORT)
    assert set(result.timings) == {OURS}
    assert result.skipped == {"b": "it is not installed"}


@pytest.mark.slow
@pytest.mark.parametrize("pass_name", PASSES)
def test_a_row_has_times_ratios_and_shares(problem, pass_name):
    result = measure(problem, pass_name, 1, contenders(["torch.nn"]), EFFORT)
    ours, theirs = result.timings[OURS], result.timings["torch.nn"]
    assert ours.turns == theirs.turns == 3
    assert ours.ratio.median == 1.0
    assert theirs.seconds.low <= theirs.seconds.median <= theirs.seconds.high
    assert list(result.peers) == ["torch.nn"]
    assert result.backend == "cpu"
    assert result.limit is not None
    assert result.of_limit == pytest.approx(result.limit / ours.seconds.median)
    assert (result.scan_of_peak is not None) == (pass_name == "forward")
