import io
import re

import pytest
from rich.console import Console
from tests.training.helpers import Net, Stream, sums

from longlag.training import Record, fit, progress
from longlag.training.progress import make_reporter


@pytest.fixture
def screen(monkeypatch):
    """What a terminal would get."""
    buffer = io.StringIO()
    monkeypatch.setattr(
        progress,
        "Console",
        lambda stderr: Console(file=buffer, force_terminal=True, width=120, legacy_windows=False),
    )
    return buffer


def test_off_means_silence(capfd, screen):
    fit(Net(), sums(), epochs=2, progress=False)
    assert capfd.readouterr() == ("", "")
    assert screen.getvalue() == ""


@pytest.mark.slow
def test_no_terminal_means_lines_on_standard_error(capsys):
    fit(Net(), sums(), validation=sums(), metrics="mae", epochs=200)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    number = r"[\d.e-]+"
    pattern = rf"epoch (\d+)/200  step \d+  {number} s  loss {number}  validation loss {number}"
    matches = [re.match(pattern + rf"  mae {number}$", line) for line in lines]
    assert all(matches)
    assert matches[0][1] == "1"
    assert matches[-1][1] == "200"
    assert len(lines) < 100  # at most one a second
    assert "\x1b" not in err


def test_a_terminal_means_a_bar(screen):
    history = fit(Net(), sums(), validation=sums(), metrics="mae", epochs=3)
    text = screen.getvalue()
    assert "epoch 3/3" in text
    assert "6/6" in text
    record = history.records[-1]
    assert f"loss {record.loss:.4g}" in text
    assert f"mae {record.metrics['mae']:.4g}" in text
    assert "0:00:0" in text  # the time left


def test_the_bar_is_drawn_ten_times_a_second_at_most(screen, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    reporter = make_reporter(True, None)
    reporter.start(100_000, 0)
    drawn = []
    monkeypatch.setattr(reporter.bar, "refresh", lambda: drawn.append(0))
    for step in range(10_000):
        now[0] += 0.001
        reporter.step(1, step, 0.5)
    assert 90 <= len(drawn) <= 101
    reporter.record(Record(1, 10_000, 1.0, 0.1, 0.5))
    assert len(drawn) <= 102
    reporter.stop()


def test_the_bar_is_closed_after_an_error(screen):
    def fail(record, model):
        raise RuntimeError("callback")

    with pytest.raises(RuntimeError, match="callback"):
        fit(Net(), sums(), epochs=3, callbacks=[fail])
    assert screen.getvalue().rstrip("\n").endswith("\x1b[?25h")  # the cursor is shown again


def test_a_stream_shows_steps(capsys):
    fit(Net(), Stream(), steps=5)
    assert re.fullmatch(r"epoch 1  step 5 .*\n", capsys.readouterr().err)
