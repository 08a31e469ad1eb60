"""The experiments as data, and what is made of their outcomes."""

import json

import pytest

from longlag.lab.reproduce import EXPERIMENTS, Effort, Experiment, Outcome, Published, Row
from longlag.lab.reproduce.figure import draw
from longlag.lab.reproduce.record import as_document, markdown, outcomes_of, table

ROWS = [(each, row) for each in EXPERIMENTS.values() for row in each.rows]


def test_the_experiments_of_the_papers_are_there():
    assert list(EXPERIMENTS) == [
        "long-lag-table", "long-lag-2b", "long-lag-2c", "adding", "temporal-order", "reber",
        "solved-now",
    ]  # fmt: skip
    for name, experiment in EXPERIMENTS.items():
        assert experiment.name == name
        names = [row.name for row in experiment.rows]
        assert len(set(names)) == len(names)
        assert any(row.quick for row in experiment.rows)


@pytest.mark.parametrize(("experiment", "row"), ROWS, ids=lambda each: each.name)
def test_a_row_has_its_budgets(experiment, row):
    assert row.budget >= row.quick >= 0
    assert row.trials >= row.quick_trials >= 1
    assert row.extent(Effort()) == (row.trials, row.budget)
    assert row.extent(Effort(trials=3, quick=True, most=7)) == (3, min(7, row.quick))


def test_the_published_table():
    rows = {row.name: row.published for row in EXPERIMENTS["long-lag-table"].rows}
    assert rows["RTRL, p = 4, rate 1"] == Published(78, 1_043_000)
    assert rows["RTRL, p = 4, rate 4"] == Published(56, 892_000)
    assert rows["RTRL, p = 4, rate 10"] == Published(22, 254_000)
    assert rows["CH, p = 100, rate 1"] == Published(33, 32_400)
    assert rows["LSTM, p = 100"] == Published(100, 5_040)


@pytest.fixture
def made():
    def never(*_):
        raise AssertionError

    experiment = Experiment(
        "made", "A title", "About it.", "A paper", "no error",
        (
            Row("all", never, 100, 10, published=Published(78, 1_043_000), differs="in a way"),
            Row("some", never, 100, 10, published=Published(0, None, "none")),
            Row("not run", never, 100, 10),
        ),
    )  # fmt: skip
    outcomes = {
        "all": Outcome(36, (20, 40, 30), 100, 61.0, ((10, 0.1, 0.2, 0.3), (20, 0.0, 0.1, 0.2))),
        "some": Outcome(144, (None, 50, None), 100, 4000.0, notes={"a": [1, None]}),
    }
    return experiment, outcomes


def test_the_table_says_what_was_published_found_and_stopped(made):
    lines = markdown(*made).splitlines()
    assert lines[2:] == [
        "| all | 36 | 78 %, 1,043,000 | 3 of 3 (100 %) | 30 | 100 | 1 min 1 s |",
        "| some | 144 | 0 %, none | 1 of 3 (33 %) | 50 | 100, stopped by it | 1 h 6 min |",
    ]
    assert table(*made).row_count == 2


def test_a_document_can_be_read_back(made):
    experiment, outcomes = made
    document = as_document(experiment, outcomes, Effort(seed=5), "longlag reproduce made")
    document = json.loads(json.dumps(document))
    assert document["seed"] == 5
    assert document["command"] == "longlag reproduce made"
    assert [row["stopped_by_budget"] for row in document["rows"]] == [False, True]
    assert [row["mean_sequences"] for row in document["rows"]] == [30, 50]
    assert outcomes_of(document) == outcomes


def test_the_figure_has_a_line_for_every_row(made):
    drawing = draw(*made)
    done, curves = drawing.axes
    steps = [line for line in done.lines if line.get_drawstyle() == "steps-post"]
    assert [line.get_label() for line in steps] == ["all: 3 of 3", "some: 1 of 3"]
    assert list(steps[0].get_ydata())[-1] == 1
    assert list(steps[1].get_xdata())[-1] == 100
    assert len(curves.lines) == 1


def test_an_outcome_counts():
    outcome = Outcome(1, (4, None, 2), 9, 0.0)
    assert (outcome.trials, outcome.solved, outcome.mean) == (3, [2, 4], 3)
    assert outcome.percent == pytest.approx(200 / 3)


def test_networks_by_tasks_are_drawn_as_a_table():
    from longlag.lab.reproduce.now import EXPERIMENT

    solved = Outcome(10, (1000, 2000), 4000, 1.0, (), "largest error")
    stopped = Outcome(10, (None, None), 4000, 1.0, (), "largest error")
    drawing = draw(EXPERIMENT, {"2a, p = 100: LSTM": solved, "2b, p = 100: Elman": stopped})
    (axes,) = drawing.axes
    assert [text.get_text() for text in axes.texts] == ["2 of 2\n1,500", "0 of 2\nin 4,000"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["LSTM", "Elman"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["2a, p = 100", "2b, p = 100"]
