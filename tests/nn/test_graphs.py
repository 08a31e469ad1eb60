"""Graphs of torch.compile and torch.export, and several processes, around modules of longlag.nn."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import longlag as ll

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning"),  # of the compiler's own parts
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
X = torch.randn(6, 4, 6, generator=torch.Generator().manual_seed(0))


class Tagger(nn.Module):
    """A recurrent module with a head."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(0)
        self.read = getattr(ll.nn, kind)(6, 3, 2, bidirectional=True)
        self.head = nn.Linear(6, 1)

    def forward(self, x):
        output, _ = self.read(x)
        return self.head(output)


def gradients(model, x):
    model.zero_grad()
    model(x).sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


def test_torch_compile():
    model = Tagger("LSTM")
    wanted = gradients(model, X)
    torch._dynamo.reset()
    torch.testing.assert_close(gradients(torch.compile(model), X), wanted)
    assert model.read.backend_used == "cpu"  # as torch.nn's, it stands outside of the graph
    torch._dynamo.reset()
    with torch._dynamo.config.patch(allow_rnn=True):
        whole = torch.compile(model, fullgraph=True, backend="aot_eager")
        for x in (X, torch.cat([X, X])):
            torch.testing.assert_close(whole(x), model(x))
        torch.testing.assert_close(gradients(whole, X), wanted)


@pytest.mark.parametrize("kind", ["GRU", pytest.param("RNN", marks=pytest.mark.long)])
def test_an_exported_program_reads_any_number_of_steps(kind):
    model = Tagger(kind)
    steps = torch.export.Dim("steps", min=2, max=1000)
    for strict in (False, True):
        program = torch.export.export(model, (X,), dynamic_shapes=({0: steps},), strict=strict)
        assert any("longlag.scan" in str(node.target) for node in program.graph.nodes)
        for x in (X, X[:2], torch.cat([X, X])):
            torch.testing.assert_close(program.module()(x), model(x))


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
