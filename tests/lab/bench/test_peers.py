"""Every peer does what longlag does: output and all gradients, on tiny sizes."""

import time

import pytest

from longlag.lab.bench.check import largest_difference
from longlag.lab.bench.peers import OURS, PEERS, NotApplicable, Unavailable, compiled, prepare
from longlag.lab.bench.problem import Problem
from longlag.lab.bench.rows import CELLS, PASSES, Row

PLAIN = [Row(cell, 3, 7, 2, 5) for cell in CELLS]
RAGGED = [Row(cell, 3, 7, 2, 5, ragged=True) for cell in ("elman", "lstm", "gru")]
REPLICAS = [Row("elman", 1, 7, 2, 5, replicas=3)]
WHERE = {
    OURS: PLAIN + RAGGED + REPLICAS,
    "torch.nn": [row for row in PLAIN if row.cell in ("elman", "lstm", "gru")] + REPLICAS,
    "packed": RAGGED,
    "padded": RAGGED,
    "elman": [row for row in PLAIN if row.cell == "own"],
    "loop": [row for row in PLAIN if row.cell in ("leaky", "own")],
    "jax": PLAIN + RAGGED + REPLICAS,
}
"""By contender, the rows that it is for."""


@pytest.mark.parametrize("pass_name", PASSES)
@pytest.mark.parametrize(
    ("name", "row"),
    [pytest.param(n, row, id=f"{n}-{row.name}") for n, rows in WHERE.items() for row in rows],
)
def test_a_peer_agrees_with_the_reference(name, row, pass_name):
    if name == "jax":
        pytest.importorskip("jax")
    contender = prepare(name, Problem(row), pass_name)
    found = contender.result(contender.call())
    right = contender.problem.reference
    assert set(found) == ({"output"} if pass_name == "forward" else set(right))
    assert largest_difference(found, right).value < 3e-6
    if name == "elman":
        assert contender.problem.row.cell == "elman"
    else:
        assert contender.problem.row == row


@pytest.mark.parametrize("name", [name for name in WHERE if name != "jax"])
def test_a_peer_refuses_what_it_is_not_for(name):
    refused = [row for row in PLAIN + RAGGED + REPLICAS if row not in WHERE[name]]
    for row in refused:
        with pytest.raises(NotApplicable):
            prepare(name, Problem(row), "forward")
    assert len(refused) == 9 - len(WHERE[name])


@pytest.mark.parametrize("row", PLAIN + RAGGED + REPLICAS, ids=lambda row: row.name)
def test_the_scan_alone_gives_the_output(row):
    scan = prepare(OURS, Problem(row), "scan")
    assert largest_difference(scan.result(scan.call()), scan.problem.reference).accepted


def test_longlag_runs_on_its_kernels():
    problem = Problem(PLAIN[0])
    prepare(OURS, problem, "forward").call()
    assert problem.layer.backend_used == "cpu"


def test_what_is_not_installed_is_unavailable(monkeypatch):
    monkeypatch.setitem(PEERS, "jax", "no_such_peer")
    with pytest.raises(Unavailable, match="not installed"):
        prepare("jax", Problem(PLAIN[0]), "forward")


def test_torch_compile_is_left_out_for_long_sequences():
    with pytest.raises(Unavailable, match="beyond T = 200"):
        prepare("compile", Problem(Row("own", 1, 201, 2, 3)), "forward")
    with pytest.raises(NotApplicable):
        prepare("compile", Problem(Row("lstm", 1, 5, 2, 3)), "forward")


def test_a_compilation_that_takes_too_long_is_given_up(monkeypatch):
    monkeypatch.setattr(compiled, "SECONDS", 0.05)

    def forever(function, **options):
        return lambda *arguments, **named: time.sleep(30)

    monkeypatch.setattr(compiled.torch, "compile", forever)
    started = time.perf_counter()
    with pytest.raises(Unavailable, match=r"more than 0\.05 s"):
        prepare("compile", Problem(PLAIN[-1]), "forward")
    assert time.perf_counter() - started < 5


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # torch.compile's own
@pytest.mark.parametrize("pass_name", PASSES)
def test_torch_compile_agrees_with_the_reference(pass_name):
    contender = prepare("compile", Problem(Row("own", 3, 3, 2, 5)), pass_name)
    found = contender.result(contender.call())
    assert largest_difference(found, contender.problem.reference).value < 3e-6
