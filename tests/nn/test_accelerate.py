"""Models of torch.nn whose recurrent modules become longlag's, in place."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm

import longlag as ll

X = torch.randn(6, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
OPTIONS = {"dtype": torch.float64}


class Reader(nn.Module):
    """Two encoders that are one module, a decoder, and a dictionary of further ones."""

    def __init__(self):
        super().__init__()
        self.left = self.right = nn.LSTM(6, 3, bidirectional=True, **OPTIONS)
        self.above = nn.ModuleDict({"gru": nn.GRU(6, 3, **OPTIONS), "rnn": nn.RNN(6, 3, **OPTIONS)})
        self.head = nn.Sequential(nn.Linear(6, 2, **OPTIONS))
        self.aside = [self.left]  # no module for PyTorch, yet the same object

    def forward(self, x):
        left, _ = self.left(x)
        right, _ = self.aside[0](left)
        return self.head(torch.cat([self.above["gru"](right)[0], self.above["rnn"](right)[0]], -1))


def trained(model, optimizer):
    """What two steps give: the errors, then all parameters."""
    errors = []
    for _ in range(2):
        optimizer.zero_grad()
        error = model(X).square().mean()
        error.backward()
        optimizer.step()
        errors.append(error.detach())
    return [*errors, *(parameter.detach() for parameter in model.parameters())]


def test_a_model_trains_on_as_it_would_have():
    torch.manual_seed(0)
    theirs = Reader()
    ours = copy.deepcopy(theirs)
    optimizers = [torch.optim.Adam(model.parameters(), lr=0.1) for model in (theirs, ours)]
    before, left = dict(ours.named_parameters()), ours.left
    report = ll.accelerate(ours)
    assert report.replaced == {
        "left": "LSTM(6, 3, bidirectional=True)",
        "above.gru": "GRU(6, 3)",
        "above.rnn": "RNN(6, 3)",
    }
    assert report.kept == {}
    assert ours.left is ours.right is ours.aside[0] is left
    assert all(now is before[name] for name, now in ours.named_parameters())
    assert list(ours.state_dict()) == list(theirs.state_dict())
    pairs = zip((theirs, ours), optimizers, strict=True)
    numbers = [trained(model, optimizer) for model, optimizer in pairs]
    torch.testing.assert_close(*numbers, rtol=1e-8, atol=1e-10)
    assert [part.backend_used for part in (ours.left, *ours.above.values())] == ["cpu"] * 3
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(theirs(X), ours(X), rtol=1e-10, atol=1e-12)


def test_what_is_on_a_module_stays_on_it():
    module = nn.GRU(6, 3, **OPTIONS).eval().requires_grad_(False)
    module.weight_hh_l0 = nn.Parameter(module.weight_hh_l0.detach())
    module.other_name = module.weight_hh_l0  # tied
    spectral_norm(module, "weight_ih_l0")
    heard = []
    module.register_forward_hook(lambda *_: heard.append("after"))
    wanted, trained = module(X)[0], [p.requires_grad for p in module.parameters()]
    assert ll.accelerate(module).replaced == {"": "GRU(6, 3)"}
    torch.testing.assert_close(module(X)[0], wanted, rtol=1e-10, atol=1e-12)
    assert heard == ["after"] * 2
    assert type(module) is ll.nn.GRU
    assert not module.training
    assert [p.requires_grad for p in module.parameters()] == trained
    assert module.other_name is module.weight_hh_l0


class Own(nn.LSTM):
    def forward(self, x):
        return super().forward(x)[0]


def patched():
    module = nn.GRU(6, 3)
    module.forward = lambda x: x
    return module


STAYS = {
    "projection": (lambda: nn.LSTM(6, 3, proj_size=2), "proj_size=2"),
    "class": (lambda: Own(6, 3), "Own is a class of its own"),
    "patched": (patched, "another forward"),
    "parametrized": (
        lambda: parametrizations.weight_norm(nn.GRU(6, 3), "weight_hh_l0"),
        "accelerate first, then parametrize",
    ),
    "device": (lambda: nn.RNN(6, 3, device="meta"), "on meta, and longlag's kernels are for the"),
    "dtype": (lambda: nn.RNN(6, 3, dtype=torch.bfloat16), "its weights are torch.bfloat16"),
    "cell": (lambda: nn.LSTMCell(6, 3), "LSTMCell is a single step"),
    "ours": (lambda: ll.nn.LSTM(6, 3), "longlag's already"),
}


def test_what_cannot_be_replaced_stays_and_is_told():
    parts = {name: make() for name, (make, _) in STAYS.items()}
    kinds = {name: type(part) for name, part in parts.items()}
    model = nn.ModuleDict({**parts, "head": nn.Linear(3, 1), "replaced": nn.GRU(6, 3)})
    report = ll.accelerate(model)
    assert report.replaced == {"replaced": "GRU(6, 3)"}
    assert list(report.kept) == list(STAYS)
    for name, (_, reason) in STAYS.items():
        assert reason in report.kept[name]
        assert type(model[name]) is kinds[name]
    lines = str(report).splitlines()
    assert lines[0] == "replaced      GRU(6, 3): runs on longlag's kernels"
    assert lines[1] == "projection    stays: proj_size=2, and longlag's LSTM has no projection"
    assert len(lines) == 1 + len(STAYS)


def test_nothing_to_do():
    model = nn.Sequential(nn.Linear(2, 2), nn.GRU(2, 2))
    ll.accelerate(model)
    assert ll.accelerate(model) == ({}, {"1": "longlag's already"})
    assert str(ll.accelerate(nn.Linear(2, 2))) == "no recurrent module of torch.nn"
    with pytest.raises(TypeError, match=r"module: got list, expected a torch\.nn\.Module"):
        ll.accelerate([nn.GRU(2, 2)])


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_torch_jit_takes_torchs_own_pass():
    model = nn.Sequential(nn.GRU(6, 3, **OPTIONS))
    wanted = model(X)[0]
    compiled = torch.jit.script(copy.deepcopy(model))
    assert ll.accelerate(compiled).kept["0"].startswith("compiled by torch.jit")
    ll.accelerate(model)
    traced = torch.jit.trace(model, (X,))
    scripted = torch.jit.script(model)  # its copy of the module is torch.nn's
    for program in (traced, scripted):
        longer = torch.cat([X, X])
        torch.testing.assert_close(program(X)[0], wanted)
        torch.testing.assert_close(program(longer)[0], compiled(longer)[0])


def test_a_graph_of_torch_fx_has_the_module_as_a_whole():
    torch.manual_seed(0)
    model = Taken()
    ll.accelerate(model)
    traced = torch.fx.symbolic_trace(model)
    modules = [node.target for node in traced.graph.nodes if node.op == "call_module"]
    assert modules == ["first", "second.0", "head"]
    for x in (X, torch.cat([X, X])):
        torch.testing.assert_close(traced(x), model(x))
    assert traced.get_submodule("second.0").backend_used == "cpu"


class Taken(nn.Module):
    """A module, and one within another that gets the state of the first."""

    def __init__(self):
        super().__init__()
        self.first = nn.LSTM(6, 3, **OPTIONS)
        self.second = nn.ModuleList([nn.LSTM(3, 3, **OPTIONS)])
        self.head = nn.Linear(3, 1, **OPTIONS)

    def forward(self, x):
        output, state = self.first(x)
        return self.head(self.second[0](output, state)[0])
