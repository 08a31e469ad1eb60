"""On a GPU: every layer runs as plain operations, says so once, and cuDNN's layers stay.

No GPU is needed: fake tensors have a device and no numbers, and refuse what mixes devices.
"""

import warnings

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves

import longlag as ll
from longlag.layers.built_in import LAYERS
from longlag.scan import backend

OTHERS = {
    "stack": lambda: ll.Stack(ll.LSTM(3, 4), ll.GRU(4, 4), dropout=0.2),
    "both directions": lambda: ll.Bidirectional(ll.LSTM(3, 4)),
    "dropout": lambda: ll.GRU(3, 4, input_dropout=0.1, recurrent_dropout=0.1),
    "orthogonal": lambda: ll.Elman(3, 4, constraint="orthogonal"),
    "model": lambda: ll.SequenceModel(ll.LSTM(3, 4), 2, reduce=None, direct=True, squares=True),
}
MADE = {name: lambda kind=kind: kind(3, 4) for name, kind in LAYERS.items()} | OTHERS
GUARDED = {"Clockwork"}
"""They index by tensors, for which fake tensors ask a PyTorch that has CUDA."""


def moved(module: nn.Module) -> nn.Module:
    """With weights of a GPU's that is not there; inside a mode of fake tensors."""
    for part in module.modules():
        for name, value in part.named_parameters(recurse=False):
            fake = torch.empty(value.shape, dtype=value.dtype, device="cuda")
            part._parameters[name] = nn.Parameter(fake, value.requires_grad)
        for name, value in part.named_buffers(recurse=False):
            part._buffers[name] = torch.empty(value.shape, dtype=value.dtype, device="cuda")
    return module


@pytest.mark.filterwarnings("ignore::longlag.scan.backend.BackendWarning")
@pytest.mark.parametrize("name", sorted(MADE.keys() - GUARDED))
def test_every_layer_runs_on_cuda_and_stays_there(name):
    made = MADE[name]()
    with torch.no_grad(), FakeTensorMode():
        module = moved(made)
        leaves = tree_leaves(module(torch.empty(5, 7, 3, device="cuda")))
        assert {tensor.device.type for tensor in leaves} == {"cuda"}
        parts = [part.backend_used for part in module.modules() if isinstance(part, ll.Recurrent)]
    assert parts
    assert set(parts) <= {"reference", "derived"}


def test_it_is_said_once_for_all_gpus(monkeypatch):
    monkeypatch.setattr(backend, "_SAID", set())
    monkeypatch.setattr(backend, "followed", lambda tensors: False)  # it would speak of the fakes
    with FakeTensorMode(), warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        for device in ("cuda:0", "cuda:0", "cuda:1"):
            like = torch.empty(2, device=device)
            assert not backend.choose("auto", like).compiled
            with pytest.raises(ValueError, match="cannot run this: the tensors are on cuda"):
                backend.choose("cpu", like)
    assert len(heard) == 1
    assert "the tensors are on cuda, not on the CPU" in str(heard[0].message)


def test_accelerate_leaves_cudnns_layers_and_takes_the_others():
    model = nn.ModuleDict({"here": nn.GRU(3, 4), "there": nn.LSTM(3, 4)})
    with torch.no_grad(), FakeTensorMode():
        moved(model["there"])
        report = ll.accelerate(model)
    assert list(report.replaced) == ["here"]
    assert report.kept == {
        "there": "on cuda:0, where torch.nn has cuDNN's kernels; longlag's are for a CPU"
    }
    assert type(model["there"]) is nn.LSTM
