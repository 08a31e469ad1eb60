import json
import math
import pickle

import numpy as np
import pytest
from matplotlib.figure import Figure
from tests.training.helpers import Net, signs

from longlag.storage import from_document, to_document
from longlag.training import History, Record, fit


@pytest.fixture
def history():
    history = History()
    for step in range(6):
        history.append(10.0 ** (1 - step), 2.0)
    history.records = [
        Record(1, 3, 0.5, 0.1, 4.0, 3.0, {"accuracy": 0.5}),
        Record(2, 6, 1.25, 0.01, 0.04, math.nan, {"accuracy": 0.75}),
    ]
    history.stopped, history.best_step = "epochs", 3
    return history


def test_it_survives_a_dictionary_and_a_document(history):
    state = history.to_dict()
    document, tensors = to_document(state)
    document = json.loads(json.dumps(document, allow_nan=False))
    again = History.from_dict(from_document(document, tensors))
    assert again == history
    assert again.records[0] == history.records[0]
    np.testing.assert_array_equal(again.losses, history.losses)
    np.testing.assert_array_equal(again.gradient_norms, history.gradient_norms)
    assert (again.stopped, again.best_step, len(again)) == ("epochs", 3, 6)
    again.append(1.0, 1.0)
    assert len(history) == 6
    assert again != history


def test_equality_is_blind_to_times_only(history):
    other = History.from_dict(history.to_dict())
    slow = Record(1, 3, 99.0, 0.1, 4.0, 3.0, {"accuracy": 0.5})
    other.records[0] = slow
    assert other == history
    for changed in (
        Record(1, 3, 0.5, 0.1, 4.1, 3.0, {"accuracy": 0.5}),
        Record(1, 3, 0.5, 0.1, 4.0, 3.0, {"accuracy": 0.6}),
        Record(1, 3, 0.5, 0.2, 4.0, 3.0, {"accuracy": 0.5}),
    ):
        other.records[0] = changed
        assert other != history
    assert history != 3


def test_losses_are_exact():
    history = History()
    history.append(0.1 + 0.2, 1e-300)
    state = History.from_dict(history.to_dict())
    assert state.losses[0] == 0.1 + 0.2
    assert state.gradient_norms[0] == 1e-300


def test_a_record_gives_its_numbers_by_name(history):
    record = history.records[0]
    assert [record.value(n) for n in ("loss", "validation_loss", "accuracy")] == [4.0, 3.0, 0.5]
    with pytest.raises(KeyError):
        record.value("f1")
    with pytest.raises(KeyError):
        Record(1, 1, 0.0, 0.1, 0.0).value("validation_loss")


def test_it_prints_as_a_table(history):
    text = str(history)
    lines = text.splitlines()
    assert "epoch" in lines[1]
    assert "validation loss" in lines[1]
    assert "accuracy" in lines[1]
    cells = lines[3].replace("│", " ").split()
    assert cells == ["1", "3", "0.5", "0.1", "4", "3", "0.5"]
    assert lines[-1] == "6 steps, stopped by epochs, best weights from step 3"
    assert "\x1b" not in text
    assert "validation" not in str(fit(Net(outputs=2), signs(), epochs=1, progress=False))


def test_the_figure_shows_what_it_says(history):
    figure = history.plot()
    assert isinstance(figure, Figure)
    losses, metrics, norms = figure.axes
    assert [each.get_ylabel() for each in figure.axes] == ["loss", "accuracy", "gradient norm"]
    assert norms.get_xlabel() == "step"
    assert [each.get_yscale() for each in figure.axes] == ["log", "linear", "linear"]
    curves = {line.get_label(): line.get_xydata().tolist() for line in losses.lines}
    assert curves["training, mean"] == [[3, 4.0], [6, 0.04]]
    assert curves["training, each step"][:2] == [[1, 10.0], [2, 1.0]]
    assert curves["validation"][0] == [3, 3.0]
    assert metrics.lines[0].get_xydata().tolist() == [[3, 0.5], [6, 0.75]]
    figure.canvas.draw()


def test_the_figure_of_many_steps_and_of_none():
    history = History()
    for step in range(10_001):
        history.append(step % 2, 1.0)
    (line,) = history.plot().axes[0].lines[:1]
    data = line.get_xydata()
    assert len(data) <= 2000
    assert data[0].tolist() == [3.5, 0.5]  # the mean of steps 1 to 6
    History().plot().canvas.draw()


def test_plotting_leaves_no_global_state(history):
    from matplotlib import pyplot

    history.plot()
    assert pyplot.get_fignums() == []


def test_it_can_be_copied_to_another_process(history):
    assert pickle.loads(pickle.dumps(history)) == history  # noqa: S301 - our own bytes
