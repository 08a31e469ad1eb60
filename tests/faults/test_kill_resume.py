"""A training process is killed at random moments and gives the same bits as one that was not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")

DRIVER = Path(__file__).with_name("driver.py")


def drive(*words):
    done = subprocess.run(
        [sys.executable, DRIVER, *map(str, words)], capture_output=True, text=True, timeout=540
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.long)])
def test_kills_change_no_bit(tmp_path, kills):
    found, _ = drive("kill", tmp_path, kills)
    assert found["kills"] == kills
    assert found["code"] == 0
    assert found["equal"]
    assert found["went_back"] == 0  # a step that was saved is never lost
    assert found["files"][-1] == 2
    assert found["steps_at_last_kill"] >= 2 * kills  # the kills were spread over the run
    if kills == 50:
        assert found["while_writing"] >= 5  # some of them hit a half-written temporary file
    assert found["left"] == ["checkpoint.longlag", "checkpoint.longlag.previous"]


@pytest.mark.long
def test_signals_stop_after_a_step_and_the_run_goes_on(tmp_path):
    found, errors = drive("stop", tmp_path)
    for name, code in (("SIGINT", 130), ("SIGTERM", 143)):
        for moment in ".v":
            result = found[f"{name} {moment}"]
            assert result["code"] == code
            assert 3 <= result["steps"] < 30
            assert result["again"] == 0
            assert result["equal"]
    # A process that KeyboardInterrupt ends dies by the signal, as the shell expects.
    assert found["twice"]["code"] == -2
    assert found["twice"]["waited_for_the_step"]
    assert found["twice"]["seconds"] < 10
    assert found["no checkpoint"]["code"] == 143
    assert "not saved; pass checkpoint=folder" in errors
