"""The comparison: every family on every task, counted and measured as it says."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import longlag as ll
from longlag import cells
from longlag.lab.compare import FAMILIES, PROBLEMS, Case, Setup, cases, record
from longlag.lab.compare.cases import horizon, middle
from longlag.lab.compare.figure import draw
from longlag.lab.reproduce.experiment import Outcome
from longlag.lab.reproduce.recipes import adam
from longlag.lab.reproduce.trials import Recipe, train

ADDING = PROBLEMS["adding"]


def outcome(*sequences, horizons=(5, 3), errors=(0.5, None)):
    notes = {"steps": 5, "batch": 16, "horizons": list(horizons), "errors": list(errors)}
    return Outcome(10, sequences, 320, 1.5, notes=notes)


@pytest.mark.slow
def test_every_family_makes_networks_side_by_side_that_are_like_one_alone():
    task = ADDING.make(9)
    x = torch.rand(2, 3, 9, 2)
    seen = set()
    for family in FAMILIES.values():
        case = Case(family, ADDING, 9)
        single = case.network(task, 6, None, 0)
        parts = single.layer.layers if family.name == "dilated-gru" else [single.layer]
        seen |= {type(part.cell).__name__ for part in parts}
        if family.reservoir:
            assert single.layer.hidden_size == 60
            continue
        several = case.network(task, 6, 2, 0)
        for number in range(2):
            parts = {name: part[number] for name, part in several.state_dict().items()}
            single.load_state_dict(parts)
            torch.testing.assert_close(single(x[number]), several(x)[number])
    assert seen == set(cells.CELLS.values())


def test_what_follows_from_the_lag_does():
    def layer(name, lag, hidden=8):
        return FAMILIES[name].make(2, hidden, lag, replicas=None, seed=0)

    assert layer("clockwork", 100).cell.periods == (1, 2, 4, 8)  # 7 groups do not divide 8 units
    assert layer("clockwork", 1000).cell.periods == tuple(2**k for k in range(8))
    assert layer("clockwork", 1000, hidden=6).cell.periods == (1, 2, 4, 8, 16, 32)
    assert layer("clockwork", 1, hidden=7).cell.periods == (1,)
    assert layer("skip", 80).cell.delays == (1, 10)
    assert float(layer("leaky", 100).unit("leak").min()) == pytest.approx(0.01)
    assert float(layer("echo", 100).unit("leak").min()) == pytest.approx(0.01)
    assert float(layer("indrnn", 100).weight_hh_diagonal.detach().min()) ** 100 >= 0.499
    open_for = layer("lstm-chrono", 100).bias.detach()[8:16]
    assert float(open_for.max()) <= math.log(99)
    for lag in (1, 2, 3, 10_000):
        for family in FAMILIES.values():
            if family.name != "skip":  # a state for each step of the delay
                family.make(2, 4, lag, replicas=None, seed=0)


def test_tasks_are_made_for_their_lags_and_solved_as_they_say():
    for problem in PROBLEMS.values():
        task = problem.make(problem.fixed or 12)
        assert task.batch(2, 0, 0).x.shape[1:] == (task.steps, task.input_size)
    adding = ADDING.make(20)

    def off_by(error):
        def predict(x, lengths):
            return (x[..., 0] * x[..., 1]).sum(1, keepdims=True) + error

        return adding.success(predict, sequences=500)

    assert off_by(0.09).success  # 0.0081
    assert not off_by(0.11).success
    assert not off_by(math.nan).success
    assert "mean square < 0.01" in str(off_by(0.09))

    delay = PROBLEMS["delay"].make(3)
    batch = delay.batch(2, 0, 0)
    for step in range(7):
        expected = np.full((2, 1), np.nan) if step < 3 else batch.x[:, step - 3]
        np.testing.assert_array_equal(batch.target[:, step], expected)
    assert delay.describe(batch).endswith(f"{batch.x[0, 3, 0]:+.2f}")
    assert not delay.success(lambda x, lengths: 0.0 * x).success


def test_cases_are_in_order_and_a_task_without_a_lag_comes_once():
    chosen = [FAMILIES["gru"], FAMILIES["elman"]]
    order = cases(chosen, [ADDING, PROBLEMS["digits"]], [100, 20])
    assert [(case.lag, case.problem.name) for case in order[::2]] == [
        (20, "adding"), (64, "digits"), (100, "adding"),
    ]  # fmt: skip
    assert [case.family.name for case in order[:2]] == ["gru", "elman"]


@pytest.mark.slow
def test_a_reservoir_is_fitted_on_as_many_sequences_as_it_needs():
    case = Case(FAMILIES["echo"], PROBLEMS["long-lag"], 5)
    told = []
    setup = Setup(seeds=2, hidden=5, sequences=250)
    result = case.run(setup, lambda *said: told.append(said))
    assert len(result.solved) == 2
    assert result.weights == 6 * 51
    assert told[-1][1] == 2
    assert record.row(case, result)["updates"] is None
    few, again = (case.run(replace(setup, seeds=1, sequences=3)) for _ in range(2))
    assert few.budget == 3
    assert replace(few, seconds=0.0) == replace(again, seconds=0.0)


@pytest.mark.slow
def test_networks_are_trained_and_looked_at():
    case = Case(FAMILIES["elman"], PROBLEMS["temporal-order"], 10)
    result = case.run(Setup(seeds=2, hidden=4, sequences=64))
    assert result.budget == 64
    assert result.weights == 4 * (6 + 4 + 1) + 4 * 5
    assert len(result.notes["horizons"]) == len(result.notes["errors"]) == 2
    assert all(1 <= steps <= 10 for steps in result.notes["horizons"])
    assert all(0 < error <= 1 for error in result.notes["errors"])


def test_seconds_end_a_training_and_are_what_it_had():
    case = Case(FAMILIES["elman"], ADDING, 6)
    recipe = Recipe(
        lambda task, replicas, seed: case.network(task, 3, replicas, seed), adam(0.01),
        batch_size=2, check_every=5,
    )  # fmt: skip
    result, _ = train(ADDING.make(6), recipe, 2, 10**9, sequences=20, seconds=1e-9)
    assert (result.budget, result.sequences) == (10, (None, None))
    assert result.stopped


def test_the_horizon_is_all_steps_where_it_is_beyond_them_and_none_where_nothing_is_finite():
    task = ADDING.make(12)
    holds = ll.SequenceModel(ll.IndRNN(2, 3, initial_low=0.99, initial_high=1.0, seed=0), 1, seed=1)
    forgets = ll.SequenceModel(
        ll.Elman(2, 3, weight_hh_init=ll.init.Constant(1e-3), seed=0), 1, seed=1
    )
    assert horizon(task, holds, 0) == 12
    near = horizon(task, forgets, 0)
    assert near is not None
    assert near <= 2
    with torch.no_grad():
        forgets.layer.weight_ih.fill_(math.nan)
    assert horizon(task, forgets, 0) is None


def test_the_record_says_medians_and_is_read_again():
    gru, echo = (Case(FAMILIES[name], ADDING, 5) for name in ("gru", "echo"))
    outcomes = {echo: outcome(125, 250), gru: outcome(None, None, horizons=(None, None))}
    outcomes = record.in_order(outcomes)
    assert list(outcomes) == [gru, echo]
    setup = Setup(2, 0, 8, 320, None)
    document = json.loads(json.dumps(record.as_document(outcomes, setup, "longlag compare", "now")))
    assert record.outcomes_of(document) == outcomes
    assert document["comparison"] == {
        "seeds": 2, "seed": 0, "hidden": 8, "sequences": 320, "seconds": None,
    }  # fmt: skip
    row = record.row(echo, outcomes[echo])
    assert (row["success"], row["sequences"], row["error"], row["horizon"]) == (1.0, 187.5, 0.5, 4)
    page = record.markdown(outcomes, "longlag compare", "now")
    assert "`longlag compare`, now" in page
    assert "| adding | 5 | gru | 10 | 0 of 2 | 0 % | over 320 | - | 0.5 | - | 2 |" in page
    assert "| adding | 5 | echo | 10 | 2 of 2 | 100 % | 188 | - | 0.5 | 4 | 2 |" in page
    lines = record.as_csv(outcomes, "longlag compare", "now").splitlines()
    assert lines[0] == "# longlag compare, now"
    assert len(lines) == 4
    solved = record.row(gru, outcome(160, None))
    assert (solved["updates"], solved["success"]) == (10, 0.5)
    with pytest.raises(KeyError):
        record.outcomes_of({"format": 1, "cases": [{"family": "gru", "task": "adding"}]})
    with pytest.raises(ValueError, match="format 2"):
        record.outcomes_of({"format": 2})


def test_the_figure_has_a_table_and_lines_for_each_task():
    outcomes = {
        Case(FAMILIES[family], PROBLEMS[task], lag): outcome(*solved)
        for task, solved in (("adding", (100, None)), ("copy", (None, None)))
        for family in FAMILIES
        for lag in (20, 40)
    }
    drawing = draw(outcomes, "a title")
    shares, lines, _, none = drawing.axes
    assert len(lines.lines) == len(FAMILIES)
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in lines.lines}
    assert len(looks) == len(FAMILIES)
    assert {text.get_text() for text in shares.texts} == {"1 of 2"}
    assert [text.get_text() for text in none.texts] == ["no seed solved it"]
    assert middle([None]) is None
