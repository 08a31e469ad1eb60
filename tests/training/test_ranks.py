"""Processes that torchrun starts train as one does; each start takes seconds, so there are few."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.training import ranks

import longlag as ll
from longlag.batch import Batch
from longlag.training import CheckpointMismatchError
from longlag.training.ranks import Ranks

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="PyTorch without distributed"
)
ROOT = Path(__file__).parents[2]


def torchrun(*words, cwd):
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone"]
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return subprocess.run(
        [*command, "--nproc_per_node", "2", *map(str, words)],
        cwd=cwd, capture_output=True, text=True, timeout=240, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": path},
    )  # fmt: skip


def test_every_row_is_one_process_part_and_its_weights_add_up_to_one():
    for count in (1, 2, 5, 9):
        x = torch.arange(float(count)).reshape(count, 1, 1)
        target = x.masked_fill(x == 1, float("nan"))
        parts = [Ranks(number, 3).part(Batch(x, target), ll.training.mse) for number in range(3)]
        assert sum(weight for _, weight in parts) == pytest.approx(1)
        if count >= 3:
            assert torch.cat([part.x for part, _ in parts]).equal(x)
        else:
            assert all(part.x.equal(x) for part, _ in parts)


def test_a_part_weighs_as_its_classes_do():
    batch = Batch(torch.zeros(4, 5, 1), torch.tensor([0, 1, 1, -100]))
    loss = ll.training.WeightedCrossEntropy((1, 2))
    assert [Ranks(n, 2).part(batch, loss)[1] for n in range(2)] == pytest.approx([0.6, 0.4])


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path):
    alone = {name: ranks.run(case, tmp_path) for name, case in ranks.CASES.items()}
    (tmp_path / "of 1").rename(tmp_path / "of one")
    done = torchrun(ranks.__file__, tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((tmp_path / f"rank {n}.json").read_text()) for n in range(2))
    assert first == second  # every bit: they agree on records, early stopping and weights
    alone["apart"] = alone["stacked"]
    alone["over"] = ranks.run(lambda _: ranks.arrays(_, early_stopping=None), tmp_path)
    for name, whole in alone.items():
        for part, value in whole["weights"].items():
            wanted, got = torch.tensor(value), torch.tensor(first[name]["weights"][part])
            torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6, msg=f"{name} {part}")
        torch.testing.assert_close(
            torch.tensor(first[name]["losses"]), torch.tensor(whole["losses"]), rtol=0, atol=1e-6
        )
        assert len(first[name]["records"]) == len(whole["records"]), name
        assert (first[name]["step"], first[name]["reason"]) == (whole["step"], whole["reason"])
    steps = {name: result["step"] for name, result in first.items()}
    assert [n for n, step in steps.items() if step == "eager"] == ["rtrl"]

    # What two processes began, one goes on with; not within the sequences of a stream.
    network, data, options = ranks.arrays(tmp_path, early_stopping=None)
    history = ll.fit(network, data, progress=False, checkpoint=tmp_path / "of 2", **options)
    assert len(history) == len(alone["over"]["losses"])
    for name, value in network.state_dict().items():
        wanted = torch.tensor(alone["over"]["weights"][name], dtype=torch.float64)
        torch.testing.assert_close(value, wanted, rtol=0, atol=1e-6)
    network, data, options = ranks.streams(tmp_path, checkpoint=tmp_path / "streams of 2")
    with pytest.raises(CheckpointMismatchError, match=r"of 2 processes .* there are 1 now"):
        ll.fit(network, data, progress=False, **options)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_job_with_its_reason(tmp_path):
    done = torchrun(ranks.__file__, tmp_path, "dies", cwd=tmp_path)
    assert done.returncode != 0
    assert "the disk of the second machine is full" in done.stderr
    assert not list(tmp_path.glob("rank*"))
    told = [(tmp_path / f"told by {n}").read_text() for n in range(2)]
    assert "process 1 of this job has ended" in told[0]
    assert told[1] == "this rate is not to be had"


@pytest.mark.long
def test_longlag_train_speaks_and_writes_once(tmp_path):
    rows = [f"s{n},{t},{(n * 7 + t * 3) % 5},{'ab'[n % 2]}" for n in range(20) for t in range(4)]
    (tmp_path / "my.csv").write_text("\n".join(["series,time,step,target", *rows]) + "\n")
    train = ["-m", "longlag", "train", "my.csv", "--task", "classification", "--hidden", "4"]
    more = ["--epochs", "2", "--checkpoint", "run", "--history", "curves.png"]
    done = torchrun(*train, *more, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("saved: model.longlag") == 1
    assert ll.load(tmp_path / "model.longlag").output_size == 2
    assert (tmp_path / "run" / "checkpoint.longlag").exists()
