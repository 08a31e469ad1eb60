"""DistributedDataParallel over the compiled kernels: two processes train as one does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

PROCESS = """
import sys
import torch
import torch.distributed as dist
from safetensors.torch import save_file
import longlag as ll

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)

def save(model, name):
    parameters = {key: value.detach() for key, value in model.named_parameters()}
    save_file(parameters, f"{folder}/{name}.safetensors")

model = ll.SequenceModel(ll.LSTM(3, 9, seed=0, backend="cpu"), 2, reduce="last", seed=1)
x = torch.randn(8, 11, 3, generator=torch.Generator().manual_seed(2))
lengths = torch.tensor([11, 4, 7, 0, 11, 2, 9, 11])
parallel = torch.nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.SGD(parallel.parameters(), lr=0.5)
mine = slice(4 * rank, 4 * rank + 4)
for _ in range(3):
    optimizer.zero_grad()
    parallel(x[mine], lengths=lengths[mine]).square().mean().backward()
    optimizer.step()
assert model.layer.backend_used == "cpu"
save(model, rank)

if rank == 0:  # the same in one process
    model = ll.SequenceModel(ll.LSTM(3, 9, seed=0, backend="cpu"), 2, reduce="last", seed=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        model(x, lengths=lengths).square().mean().backward()
        optimizer.step()
    save(model, "one")
dist.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch without distributed")
def test_two_processes_train_as_one_does(tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PROCESS, str(rank), str(tmp_path)],
            cwd=Path(__file__).parents[3],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    first, second, one = (load_file(tmp_path / f"{name}.safetensors") for name in ("0", "1", "one"))
    for key, alone in one.items():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], alone, rtol=1e-5, atol=1e-6)
