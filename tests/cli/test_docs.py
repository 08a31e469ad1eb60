"""Every command of docs/cli.md runs, in its order, and says what is shown."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def run_page(page, longlag, folder):
    """How many commands of a page ran, and how many of them failed, as it says."""
    ran = failed = 0
    names = {"__name__": "__main__"}
    for kind, block in re.findall(r"```(\w+)\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        if kind == "python":
            exec(compile(block, page.name, "exec"), names)  # noqa: S102
        elif kind == "yaml":
            (folder / block.split("\n")[0].removeprefix("# ")).write_text(block)
        elif kind == "console":
            for shown in block.removeprefix("$ longlag ").split("\n$ longlag "):
                words, *lines = shown.strip().split("\n")
                quiet = ["--logger", "none"] if words.startswith("train ") else []
                quiet = [] if "--logger" in words else quiet  # else TensorBoard, where it is
                done = longlag(*shlex.split(words), *quiet)
                expected = 2 if lines[0].startswith("longlag:") else 0
                assert done.status == expected, words + "\n" + done.err
                said = (done.out + done.err).splitlines()
                assert [line for line in lines if line not in [*said, "..."]] == [], words
                ran, failed = ran + 1, failed + (expected == 2)
    return ran, failed


@pytest.mark.slow
def test_the_commands_shown_were_run(longlag, folder):
    assert run_page(DOCS, longlag, folder) == (14, 3)
    for name in ("arrays.npz", "predictions.csv", "lstm.png", "config.longlag", "long.longlag"):
        assert (folder / name).exists()


@pytest.mark.slow
def test_the_commands_of_a_sweep_were_run(longlag, folder):
    pytest.importorskip("optuna", reason="a sweep needs the extra sweep")
    assert run_page(DOCS.with_name("sweep.md"), longlag, folder) == (4, 1)


def test_the_formats_shown_can_be_read(folder):
    from longlag.data import read

    table, series, *_ = re.findall(r"```text\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert len(table.splitlines()) == len(series.splitlines()) == 6
    Path("pumps.csv").write_text(table)
    data = read("pumps.csv", task="classification")
    assert data.names == ("pump 1", "pump 2")
    assert data.lengths.tolist() == [2, 3]
    assert data.feature_names == ("pressure", "flow")
    Path("pumps.ts").write_text(series)
    data = read("pumps.ts", task="classification")
    np.testing.assert_allclose(data.x, [[[1.02, 0.31], [1.07, 0.33]]], rtol=1e-6)
    assert data.target is not None
    assert data.target.tolist() == ["good"]
