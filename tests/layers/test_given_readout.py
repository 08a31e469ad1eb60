"""A readout that is given to a `SequenceModel`: sizes, gradients, summary, file."""

import numpy as np
import pytest
import torch
from torch import nn

import longlag as ll
from longlag.layers import Readout, ReadoutModule
from longlag.storage import ArchiveError, read_archive, write_archive
from longlag.training import mse


class Hidden(ReadoutModule):
    """A readout with a hidden layer, and a direct look at x if that is asked for."""

    def __init__(self, input_size, output_size, direct_size=None, dtype=torch.float64):
        super().__init__()
        self.input_size, self.output_size = input_size, output_size
        self.direct_size = direct_size
        self.inner = nn.Linear(input_size + (direct_size or 0), 5, dtype=dtype)
        self.outer = nn.Linear(5, output_size, dtype=dtype)

    def forward(self, h, x=None):
        seen = h if x is None else torch.cat([h, x], -1)
        return self.outer(self.inner(seen).tanh())

    def config(self):
        return {"type": "Hidden"}


def problem(reduce, direct):
    torch.manual_seed(0)
    layer = ll.GRU(3, 4, seed=1, dtype=torch.float64)
    model = ll.SequenceModel(layer, readout=Hidden(4, 2, 3 if direct else None), reduce=reduce)
    x = torch.randn(3, 9, 3, dtype=torch.float64)
    shape = (3, 9, 2) if reduce is None else (3, 2)
    return model, x, torch.randn(shape, dtype=torch.float64), torch.tensor([9, 6, 4])


METHODS = [
    ll.BPTT(),
    ll.TruncatedBPTT(k1=4, k2=99),
    ll.CheckpointedBPTT(budget=3),
    ll.RTRL(),
]


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("reduce", [None, "last", "mean"])
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_every_method_finds_its_gradient(method, reduce, direct):
    model, x, target, lengths = problem(reduce, direct)
    if isinstance(method, ll.TruncatedBPTT):
        method = ll.TruncatedBPTT(k1=99, k2=99)  # one window: the whole error
    if reduce is None:
        target[torch.arange(9) >= lengths[:, None]] = torch.nan
    found = method.gradients(model, x, target, mse, lengths=lengths)
    output = model(x, lengths=lengths)
    due = ~target.isnan()
    loss = (output[due] - target[due]).square().mean()
    expected = torch.autograd.grad(loss, list(model.parameters()))
    assert list(found) == [name for name, _ in model.named_parameters()]
    assert {"readout.inner.weight", "readout.outer.bias"} <= set(found)
    for mine, theirs in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_it_is_read_out_in_stretches_as_the_linear_one_is():
    readout = Hidden(4, 2)
    h = torch.randn(3, 3000, 4, dtype=torch.float64)
    size = readout.stretch(3)
    parts = torch.cat([readout(part) for part in h.split(size, 1)], 1)
    assert size < 3000
    assert torch.equal(readout.by_step(h), parts)


def test_it_learns_online():
    model, x, target, _ = problem(None, True)
    learner = ll.RTRL(online=True).start(model, 0.05)
    rows = np.array([0])

    def errors_of_a_pass():
        total = 0.0
        learner.reset(rows)
        for seen, wanted in zip(x[0].numpy(), target[0].numpy(), strict=True):
            said = learner.step(seen[None], wanted[None])
            total += float(np.square(said - wanted).sum())
        return total

    first = errors_of_a_pass()
    assert [errors_of_a_pass() for _ in range(20)][-1] < 0.7 * first


def test_the_summary_shows_it():
    model, *_ = problem("last", False)
    lines = str(model.summary()).splitlines()
    assert "readout (Hidden)" in lines[3]
    assert "(N, 2)" in lines[3]
    assert lines[3].endswith(" 37")
    count = sum(part.numel() for part in model.parameters())
    assert lines[-1].endswith(f"+ 37 = {count} parameters, {count} of them trained")


def test_it_trains():
    model, x, target, lengths = problem("last", True)
    history = ll.fit(model, (x, target, lengths), steps=30, progress=False)
    assert history.losses[-1] < 0.9 * history.losses[0]


@pytest.mark.parametrize(
    ("readout", "message"),
    [
        (lambda: Hidden(5, 2), "it reads 5 numbers, expected 4, the output_size of the layer"),
        (lambda: Hidden(4, 2, 2), "it sees 2 inputs directly, expected 3, the input_size"),
        (lambda: Readout(4, 2, replicas=3), "got replicas=3, expected None"),
        (lambda: Hidden(4, 2, dtype=torch.float32), "expected one dtype; use readout.to"),
        (lambda: nn.Linear(4, 2), "readout: got Linear, expected a ReadoutModule; derive"),
    ],
)  # fmt: skip
def test_one_that_does_not_fit_is_refused(readout, message):
    with pytest.raises((TypeError, ValueError), match=message):
        ll.SequenceModel(ll.GRU(3, 4, dtype=torch.float64), readout=readout())


@pytest.mark.parametrize("more", [{"output_size": 2}, {"direct": True}, {"seed": 1}])
def test_it_is_given_or_described_but_not_both(more):
    with pytest.raises(ValueError, match="readout: got one together with output_size"):
        ll.SequenceModel(ll.GRU(3, 4), readout=Readout(4, 2), **more)


def test_neither_is_refused():
    with pytest.raises(TypeError, match="output_size: got None"):
        ll.SequenceModel(ll.GRU(3, 4))


def test_a_linear_one_is_saved_and_read_again(tmp_path):
    readout = Readout(4, 2, direct_size=3, bias=False, activation="tanh", seed=3)
    model = ll.SequenceModel(ll.GRU(3, 4, seed=1), readout=readout, reduce=None).eval()
    ll.save(model, tmp_path / "model.longlag")
    again = ll.load(tmp_path / "model.longlag")
    x = torch.randn(2, 5, 3)
    assert torch.equal(again(x), model(x))
    assert again.config() == model.config()
    assert again.direct


def test_a_file_of_version_0_1_describes_a_linear_one(tmp_path):
    model = ll.SequenceModel(
        ll.GRU(3, 4, seed=1), 2, reduce=None, direct=True, output_activation="tanh", seed=2
    ).eval()
    config = {
        "type": "SequenceModel", "layer": model.layer.config(), "output_size": 2, "reduce": None,
        "direct": True, "bias": True, "output_activation": "tanh",
    }  # fmt: skip
    document = {"model": config, "dtype": "float32", "metadata": {}}
    write_archive(tmp_path / "old.longlag", "model", document, model.state_dict())
    x = torch.randn(2, 5, 3)
    assert torch.equal(ll.load(tmp_path / "old.longlag")(x), model(x))


def test_one_of_your_own_is_not_saved(tmp_path):
    model, *_ = problem("last", False)
    with pytest.raises(TypeError, match="got Hidden, a class of your own, which load could not"):
        ll.save(model, tmp_path / "model.longlag")


def test_the_table_of_readouts_is_closed(tmp_path):
    path = tmp_path / "model.longlag"
    ll.save(ll.SequenceModel(ll.GRU(3, 4), 2), path)
    document, tensors = read_archive(path, "model")
    document["model"]["readout"]["type"] = "Elsewhere"
    write_archive(path, "model", document, tensors)
    with pytest.raises(ArchiveError, match="it names the readout 'Elsewhere'; known: Readout"):
        ll.load(path)


def test_only_the_linear_one_is_linear():
    model, *_ = problem("last", False)
    with pytest.raises(TypeError, match="got a Hidden, expected the linear Readout"):
        _ = model.linear_readout
    assert isinstance(ll.SequenceModel(ll.GRU(3, 4), 2).linear_readout, Readout)
