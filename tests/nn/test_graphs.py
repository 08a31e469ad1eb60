"""torch.compile, torch.export and several processes around the modules of longlag.nn."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("check", "kind"),
    [
        ("exported", "GRU"),
        *(
            pytest.param(check, kind, marks=pytest.mark.long)
            for check, kind in (
                ("compiled", "LSTM"),
                ("compiled", "RNN"),
                ("compiled", "GRU"),
                ("exported", "LSTM"),
            )
        ),
    ],
)
def test_graphs(check, kind):
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("graphs.py")), check, kind],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


PROCESS = """
import sys
import torch
import torch.distributed as dist
import longlag as ll

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
torch.manual_seed(0)
model = torch.nn.GRU(6, 3, bidirectional=True)
alone = torch.nn.GRU(6, 3, bidirectional=True)
alone.load_state_dict(model.state_dict())
ll.accelerate(model)
x = torch.randn(6, 4, 6)

def train(module, x):
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        module(x)[0].square().mean().backward()
        optimizer.step()

train(torch.nn.parallel.DistributedDataParallel(model), x[:, 2 * rank : 2 * rank + 2])
train(alone, x)
assert model.backend_used == "cpu"
torch.testing.assert_close(list(model.parameters()), list(alone.parameters()))
dist.destroy_process_group()
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch without distributed")
def test_two_processes_train_as_one_does(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PROCESS, str(rank), str(tmp_path)],
            cwd=Path(__file__).parents[2],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
