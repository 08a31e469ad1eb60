"""G1: every backend equals reference to 1e-12 in float64, for outputs, states and all gradients."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.scan import cases

SIZES = st.fixed_dictionaries(
    {
        "N": st.integers(0, 4),
        "T": st.integers(0, 7),
        "H": st.integers(1, 5),
        "C": st.integers(1, 3),
        "R": st.none() | st.integers(1, 3),
    }
)


@st.composite
def problems(draw):
    sizes = draw(SIZES)
    n, t, r = sizes["N"], sizes["T"], sizes["R"]
    front = (n,) if r is None else (r, n)
    count = n * (r or 1)
    lengths = resets = None
    if draw(st.booleans()):
        drawn = draw(st.lists(st.integers(0, t), min_size=count, max_size=count))
        lengths = torch.tensor(drawn, dtype=torch.int64).view(front)
    if draw(st.booleans()):
        size = count * t
        drawn = draw(st.lists(st.booleans(), min_size=size, max_size=size))
        resets = torch.tensor(drawn, dtype=torch.bool).view(*front, t)
    return {
        **sizes,
        "front": front,
        "schedule": {"lengths": lengths, "resets": resets},
        "dropout": draw(st.sampled_from([0.0, 0.5])),
        "bias": draw(st.booleans()),
        "layout": draw(st.sampled_from(["plain", "time first", "every other", "reversed"])),
        "state": draw(st.booleans()),
        "seed": draw(st.integers(0, 99)),
    }


def laid_out(layout, front, t, c, seed):
    """x (N, T, C), in memory as a user may happen to have it."""
    if layout == "time first":
        return cases.random(t, *front, c, seed=seed).movedim(0, -2)
    if layout == "every other":
        return cases.random(*front, 2 * t, 2 * c, seed=seed)[..., ::2, ::2]
    if layout == "reversed":
        return cases.random(c, t, *front[::-1], seed=seed).permute(*range(len(front) + 1, -1, -1))
    return cases.random(*front, t, c, seed=seed)


EVERY_CELL = pytest.mark.parametrize("cell", cases.CELLS.values(), ids=cases.CELLS)
USUAL = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.every_cell("slow")
@EVERY_CELL
@settings(USUAL, max_examples=6)
@given(problem=problems())
def test_every_backend_is_reference(cell, problem):
    agrees(cell, problem, *cases.BACKENDS[1:])


@pytest.mark.long
@EVERY_CELL
@settings(USUAL, max_examples=50)
@given(problem=problems())
def test_so_it_is_for_many_more(cell, problem):
    agrees(cell, problem, *cases.BACKENDS[1:])


def agrees(cell, problem, *backends):
    """Assert that backends give what the reference gives."""
    hidden = cases.hidden_of(cell, problem["H"])
    options = {"recurrent_dropout": problem["dropout"]} if cell.recurrence.dense_gates else {}
    layer = cases.layer_of(
        cell,
        problem["C"],
        hidden,
        problem["seed"],
        bias=problem["bias"],
        replicas=problem["R"],
        **options,
    )
    x = laid_out(problem["layout"], problem["front"], problem["T"], problem["C"], problem["seed"])
    lengths = problem["schedule"]["lengths"]
    if lengths is not None:
        padding = torch.arange(problem["T"]) >= lengths.unsqueeze(-1)
        x = x.masked_fill(padding.unsqueeze(-1), float("nan"))
    state = None
    if problem["state"]:
        state = cases.states_of(cell, problem["front"], hidden)
    results = [
        cases.run(layer, x, state, backend, problem["seed"], **problem["schedule"])
        for backend in ("reference", *backends)
    ]
    assert all(torch.isfinite(result).all() for result in results[0].values())
    for result in results[1:]:
        cases.assert_same(result, results[0])
