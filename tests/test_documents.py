"""What the README and the examples show is run."""

import json
import os
import re
import runpy
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import longlag as ll
from longlag.lab.compare import FAMILIES

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(([^)#]+)\)")
PAGES = [  # chunker.md is in tests/chunker/test_document.py
    "cells.md",
    "choosing.md",
    "coming_from.md",
    "data.md",
    "estimators.md",
    "gradients.md",
    "keras.md",
    "kernels.md",
    "layers.md",
    "many.md",
    "memory.md",
    "onnx.md",
    "pytorch.md",
    "reservoirs.md",
    "streaming.md",
    "training.md",
    "turing.md",
    "vanishing.md",
    "which-memory.md",
]
LONG = (
    "choosing.md", "coming_from.md", "estimators.md", "gradients.md", "many.md", "memory.md",
    "vanishing.md",
)  # fmt: skip
"""Pages that train for longer; `make test-long` runs them."""

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def run(code: list[str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *code],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def run_here(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    one_thread: None,
) -> Callable[[Path], str]:
    """Runs a script in an empty folder, and not in a process of its own: that takes seconds to
    start."""

    def run_it(script: Path) -> str:
        monkeypatch.chdir(tmp_path)
        with torch.random.fork_rng(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            runpy.run_path(str(script), run_name="__main__")
        return capsys.readouterr().out

    return run_it


def code_of(document: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


def documents() -> list[Path]:
    folders = ("docs", "benchmarks", "experiments", "src")
    within = (path for name in folders for path in (ROOT / name).rglob("*.md"))
    return [*ROOT.glob("*.md"), *(path for path in within if "_build" not in path.parts)]


def without_numbers(text: str) -> str:
    return re.sub(r"\d+", "#", text)


@pytest.mark.slow
def test_the_readme_runs_in_order(tmp_path, run_here):
    first, *others = code_of("README.md")
    assert len([line for line in first.splitlines() if line]) == 6
    assert len(others) >= 2
    seeded = "import torch\ntorch.manual_seed(0)\n"
    script = tmp_path / "readme.py"
    script.write_text(seeded + "\n".join([first, *others]))
    shown = run_here(script)
    assert "512" not in shown  # that is Elman's; this is an LSTM with 4 gates
    assert "2,048 + 136 = 2,184 parameters" in shown
    assert r"\begin{align*}" in shown
    assert (tmp_path / "model.longlag").exists()
    assert (tmp_path / "report.html").exists()

    # The verdict of a network that has drawn other numbers has another horizon, and the same words.
    verdict = re.search(r"^Memory horizon: (\d+) steps .*; the task's lag is 59\..*$", shown, re.M)
    assert verdict is not None, shown
    assert 10 <= int(verdict[1]) < 59
    printed = [without_numbers(line) for line in shown.splitlines()]
    (block,) = re.findall(
        r"```\n(Memory horizon.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    for line in block.splitlines():
        assert without_numbers(line) in printed


@pytest.mark.parametrize("readme", ["README.md", "README.es.md"])
def test_the_speed_in_the_readme_is_the_kept_one(readme):
    kept = json.loads((ROOT / "benchmarks" / "results.json").read_text())["results"]
    (timings,) = (
        result["timings"]
        for result in kept
        if result["row"]["name"] == "lstm-32x784x1x128"
        and (result["pass_name"], result["threads"]) == ("forward+backward", 1)
    )
    text = (ROOT / readme).read_text().replace("2,16", "2.16")
    for contender in ("longlag", "torch.nn"):
        assert f"{timings[contender]['seconds']['median'] * 1000:.0f} ms" in text
    assert f" {timings['torch.nn']['ratio']['median']:.2f} " in text


def test_both_readmes_show_the_same():
    english, spanish = (ROOT / name for name in ("README.md", "README.es.md"))

    def shown(path: Path) -> list[str]:
        blocks = re.findall(r"```\w*\n(.*?)```", path.read_text(), re.DOTALL)
        return [re.sub(r" *#.*|\"{3}.*?\"{3}", "", block) for block in blocks]

    def links(path: Path) -> set[str]:
        return {link for link in LINK.findall(path.read_text()) if not link.startswith("README")}

    assert shown(english) == shown(spanish)
    assert links(english) == links(spanish)


def test_every_claim_has_its_command_and_its_kept_result():
    rows = [
        line.strip("| ").split(" | ")
        for line in (ROOT / "docs" / "claims.md").read_text().splitlines()
        if line.startswith("| ") and not line.startswith("| claim")
    ]
    assert len(rows) >= 15
    for claim, result, command, kept in rows:
        assert claim
        assert re.search(r"\d", result), claim
        program, where, *_ = command.strip("`").split()
        assert program in ("python", "pytest", "longlag"), claim
        if program == "longlag":
            assert where in ("bench", "reproduce"), claim
        else:
            assert (ROOT / where).exists(), claim
        assert LINK.search(kept), claim


def test_claims_say_what_the_kept_results_say():
    claims = (ROOT / "docs" / "claims.md").read_text()

    def kept(path: str):
        return json.loads((ROOT / path).read_text())

    digits = kept("experiments/sequential_digits/results.json")["runs"]
    accuracies = ", ".join(f"{run['test_accuracy']:.1%}".rstrip("%") for run in digits)
    assert f"{accuracies} %" in claims
    horizon = kept("experiments/memory_horizon/results.json")
    assert f"right about {horizon['right']} of {horizon['networks']}" in claims
    folder = "experiments/reservoirs"
    rows = {row["name"]: row for row in kept(f"{folder}/mackey_glass.json")["rows"]}
    for name in (
        "tau 17, 3,000 steps, 400 units, h and its squares",
        "tau 17, 21,000 steps, 400 units, h and its squares",
        "tau 17, 3,000 steps, 1000 units, h",
    ):
        row = rows[f"Mackey-Glass, {name}"]
        assert row["reached"], name
        assert f"{row['median']:.6f}" in claims
    (lorenz,) = kept(f"{folder}/lorenz.json")["rows"]
    assert f"{lorenz['median']:.1f} Lyapunov times" in claims
    checkpointed = kept("benchmarks/checkpointed.json")
    assert f"{checkpointed['memory_of_nn_over_ours']:.0f} times less memory" in claims
    megabytes = checkpointed["contenders"]["CheckpointedBPTT"]["megabytes"]
    assert f"{megabytes:.0f} MB in place of" in claims
    streams = kept("benchmarks/streams.json")
    assert f"{streams['disk_speed_of_memory']:.2f} of the speed" in claims
    jacobians = kept("benchmarks/jacobians.json")
    assert f"{jacobians['memory_report, seconds']:.1f} s on one thread" in claims
    assert f"{jacobians['times as fast']['functional']:.0f} times as fast" in claims
    assert f"{jacobians['times as fast']['func']:.0f} times as fast" in claims
    worst = kept("benchmarks/recorder.json")["worst_ratio"] - 1
    assert f"to {worst:.1%}".replace("%", " %") in claims


def test_the_table_of_cells_is_that_of_the_experiment():
    folder = ROOT / "experiments" / "reproduce" / "solved-now"
    trials: dict[str, list[str]] = {}
    for line in (folder / "table.md").read_text().splitlines()[2:]:
        row, _, _, solved, sequences, *_ = line.strip("| ").split(" | ")
        count = solved.split(" of 5")[0]
        trials.setdefault(row.split(": ")[1], []).append(
            count if count == "0" else f"{count}: {sequences}"
        )
    page = (ROOT / "docs" / "choosing.md").read_text()
    assert len(trials) == 6
    for cell, cells in trials.items():
        assert f"| {cell} | {' | '.join(cells)} |" in page


def test_the_tables_of_families_are_those_of_the_comparison():
    text = (ROOT / "experiments" / "compare" / "table.json").read_text()
    page = (ROOT / "docs" / "which-memory.md").read_text()
    rows: dict[str, list[str]] = {}
    for case in json.loads(text)["cases"]:
        if case["task"] == "adding":
            count = case["solved"].split(" of 5")[0]
            number = "" if case["sequences"] is None else f": {case['sequences']:,.0f}"
            beyond = "+" if case["horizon"] == case["steps"] else ""
            row = rows.setdefault(case["family"], [f"{case['weights']:,}"])
            row += [count + number, f"{case['horizon']:.0f}{beyond}"]
    assert len(rows) == len(FAMILIES)
    for family, cells in rows.items():
        assert f"| {family} | {' | '.join(cells)} |" in page


@pytest.mark.slow
def test_the_cell_of_ones_own_learns(run_here):
    example = ROOT / "examples" / "own_cell.py"
    assert len(example.read_text().splitlines()) < 40
    shown = run_here(example)
    assert "backend: cpu" in shown  # as fast as a built-in cell
    assert "leaks after training" in shown


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name in LONG)) for name in PAGES]
)
def test_the_code_of_a_page_runs(tmp_path, name, run_here):
    blocks = code_of(f"docs/{name}")
    assert blocks
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks))
    run_here(script)


def test_the_derivation_is_what_the_cells_print():
    page = (ROOT / "docs" / "vanishing.md").read_text()
    for part in ("update", "bptt", "jacobian"):
        assert ll.cells.Elman().latex(part) in page
    of_memory = ll.cells.LSTM().latex("jacobian").splitlines()[-2]
    assert "c_{t-1}" in of_memory
    assert of_memory in page


@pytest.mark.long
def test_the_advice_experiment_runs(tmp_path):
    shown = run([str(ROOT / "experiments" / "advice" / "run.py"), "--quick"], tmp_path)
    assert shown.count("then 5 of 5 solved") == 2
    assert shown.count(": 0 of 5 solved") == 2


@pytest.mark.long
def test_the_chunker_experiment_runs(tmp_path):
    shown = run([str(ROOT / "experiments" / "chunker" / "run.py"), "--quick"], tmp_path)
    assert "chunker      weights (288, 144): 4 of 4 trials" in shown
    assert "conventional weights (288, 144): 0 of 4 trials" in shown


def test_documents_name_files_that_are_there():
    assert ROOT / "README.es.md" in documents()
    for document in documents():
        for link in LINK.findall(document.read_text()):
            if "://" not in link:
                assert (document.parent / link).exists(), f"{document.name} names {link}"


def test_documents_name_places_that_are_there():
    place = re.compile(r"(?<![\w/])(?:src|tests|benchmarks|experiments|examples|tools)/[\w./-]*\w")
    for document in documents():
        for name in place.findall(document.read_text()):
            assert (ROOT / name).exists(), f"{document.name} names {name}"


def test_every_page_is_in_its_index():
    docs = ROOT / "docs"
    for folder, index in (
        (docs, docs / "index.md"),
        (docs / "guides", docs / "index.md"),
        (docs / "es", docs / "index.md"),
        (docs / "decisions", docs / "decisions" / "README.md"),
    ):
        linked = {Path(link).name for link in LINK.findall(index.read_text())}
        pages = {page.name for page in folder.glob("*.md")} - {index.name}
        assert pages <= linked, f"{index} does not link {pages - linked}"


def test_documents_name_what_longlag_has():
    for document in documents():
        for name in re.findall(r"\bll\.((?:\w+\.)*\w+)", document.read_text()):
            part = ll
            for word in name.split("."):
                assert hasattr(part, word), f"{document.name} names ll.{name}"
                part = getattr(part, word)


def test_the_glossary_gives_each_word_one_meaning():
    words = re.findall(r"^\| ([^|`]+?) \|", (ROOT / "docs" / "glossary.md").read_text(), re.M)
    words = [word for cell in words if cell not in ("word", "letter") for word in cell.split(", ")]
    assert len(words) >= 60
    assert len(set(words)) == len(words)
