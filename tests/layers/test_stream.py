"""One step at a time is the model over the whole sequence."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

import longlag as ll
from longlag.layers import AverageState, Backward, ReadoutModule
from longlag.layers import stream as streams
from longlag.layers.built_in import LAYERS
from longlag.layers.state_tree import tensors_of
from longlag.storage import ArchiveError

C, H, T = 3, 8, 41  # more steps than lie in memory at once


def series(*front: int, dtype=torch.float64) -> torch.Tensor:
    return torch.randn(*front, T, C, dtype=dtype, generator=torch.Generator().manual_seed(0))


def stepped(stream: ll.Stream, x: torch.Tensor) -> torch.Tensor:
    return torch.stack([stream(step) for step in x.unbind(-2)], -2)


def pickled(stream: ll.Stream) -> ll.Stream:
    return pickle.loads(pickle.dumps(stream))  # noqa: S301


def check(model, x: torch.Tensor, batch: int | None = None, compiled: bool = True) -> ll.Stream:
    """Steps, then a block, then steps, beside the model over all of it."""
    stream = ll.Stream(model, batch)
    assert (stream.reason is None) == compiled, stream.reason
    y = torch.cat(
        [
            stepped(stream, x[..., :20, :]),
            stream.block(x[..., 20:30, :]),
            stepped(stream, x[..., 30:, :]),
        ],
        -2,
    )
    whole = x if batch is not None else x.unsqueeze(-3)
    reduce = getattr(model, "reduce", None)
    with torch.no_grad():
        if reduce is None:
            wanted = model(whole)
            wanted = wanted if isinstance(wanted, torch.Tensor) else wanted[0]
        else:
            wanted = torch.stack([model(whole[..., : t + 1, :]) for t in range(T)], -2)
        run = model.run if isinstance(model, ll.SequenceModel) else model
        _, final = run(whole)
    wanted = wanted if batch is not None else wanted.squeeze(-3)
    close = {"atol": 1e-12, "rtol": 1e-10} if x.dtype == torch.float64 else {}
    torch.testing.assert_close(y, wanted, **close)
    state = stream.state.layer if isinstance(stream.state, AverageState) else stream.state
    for mine, theirs in zip(tensors_of(state), tensors_of(final), strict=True):
        torch.testing.assert_close(mine, theirs, **close)
    assert stream.steps == T
    return stream


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_every_layer(name):
    layer = LAYERS[name](C, H, seed=0, dtype=torch.float64)
    check(layer, series())


@pytest.mark.parametrize("name", ["Elman", "LSTM", "GRU"])
def test_one_sequence_has_the_bits_of_the_whole(name):
    layer = LAYERS[name](C, 33, seed=0)
    x = series(dtype=torch.float32)
    assert torch.equal(stepped(ll.Stream(layer), x), layer(x.unsqueeze(0))[0][0])


@pytest.mark.parametrize(
    "layer",
    [
        ll.Stack(ll.LSTM(C, H, seed=0), ll.Stack(ll.Elman(H, 5, seed=1), ll.GRU(5, H, seed=2))),
        ll.Dilated(ll.GRU, C, H, dilations=(1, 2, 20), seed=0),
        ll.Skip(C, H, delays=(1, 30), seed=0),
        ll.Clockwork(C, H, periods=(1, 2, 4, 8), seed=0, dilation=2),
        ll.GRU(C, 40, density=0.2, seed=0),
        ll.EchoState(C, 40, seed=0),
    ],
    ids=["stack", "dilated", "skip", "clockwork", "sparse", "echo"],
)
@pytest.mark.parametrize("batch", [None, 6])
def test_what_layers_are_made_of(layer, batch):
    front = () if batch is None else (batch,)
    check(layer.double(), series(*front), batch)


def test_replicas():
    layer = ll.LSTM(C, H, replicas=2, seed=0, dtype=torch.float64)
    check(layer, series(2))
    for x, batch in ((series(2), None), (series(2, 5), 5)):
        check(ll.SequenceModel(layer, 2, reduce=None, direct=True, seed=0), x, batch)


def test_many_sequences_on_several_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        check(ll.Elman(C, 64, seed=0, dtype=torch.float64), series(200), 200)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("reduce", [None, "last", "mean", "share", "share_max"])
@pytest.mark.parametrize("batch", [None, 4])
def test_every_readout(reduce, batch):
    front = () if batch is None else (batch,)
    model = ll.SequenceModel(
        ll.GRU(C, H, seed=0, dtype=torch.float64), 2, reduce=reduce, direct=True, squares=True,
        output_activation="sigmoid", seed=1,
    )  # fmt: skip
    check(model, series(*front), batch)


def test_a_readout_of_ones_own():
    class Two(ReadoutModule):
        input_size, output_size, direct_size = H, 1, C

        def forward(self, h, x=None):
            return (h.sum(-1) * x.prod(-1)).unsqueeze(-1)

        def config(self):
            return {"type": "Two"}

    check(ll.SequenceModel(ll.Elman(C, H, seed=0).double(), readout=Two(), reduce=None), series())


def test_a_fitted_reservoir_and_one_without_units():
    x = series(1)
    for layer, compiled in ((ll.EchoState(C, 30, seed=0), True), (ll.NextGeneration(C), False)):
        model = ll.SequenceModel(layer.double(), 1, reduce=None).double()
        ll.fit(model, (x[:, :-1], x[:, 1:, :1]), method=ll.Ridge(1e-3), progress=False)
        check(model, x[0], compiled=compiled)


def test_a_network_that_reads_nothing():
    layer = ll.Elman(0, H, seed=0)
    stream = ll.Stream(layer)
    stream.state = (torch.ones(1, H),)
    stepped(stream, torch.zeros(5, 0))
    torch.testing.assert_close(stream.state.h, layer(torch.zeros(1, 5, 0), torch.ones(1, H))[1].h)


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (ll.GRU(C, H, backend="reference", seed=0), "reference"),
        (ll.GRU(C, H, seed=0, dtype=torch.bfloat16), "float32 and float64"),
    ],
)
def test_what_is_not_compiled_says_why_and_does_the_same(layer, why):
    x = series(dtype=layer.like.dtype)[:5]
    stream = ll.Stream(layer)
    assert why in stream.reason
    torch.testing.assert_close(stepped(stream, x), layer(x.unsqueeze(0))[0][0])
    assert stream(x[0].float().numpy()).dtype == np.float32


def test_a_wide_layer_is_called_for_many_sequences_alone(monkeypatch):
    """A call packs the weights anew at each step, which takes longer than the steps of a few."""
    monkeypatch.setattr(streams, "HEAVY", 100)
    layer = ll.Elman(C, 20, seed=0)
    for batch in (None, streams.FEW - 1, streams.FEW):
        x = series(*([] if batch is None else [batch]), dtype=torch.float32)[..., :5, :]
        stream = ll.Stream(layer, batch)
        assert ("multiply-adds" in (stream.reason or "")) == (batch == streams.FEW)
        with torch.no_grad():
            wanted = layer(x if batch else x.unsqueeze(0))[0]
        torch.testing.assert_close(stepped(stream, x), wanted if batch else wanted[0])


def test_numbers_come_back_as_they_came():
    stream = ll.Stream(ll.SequenceModel(ll.Elman(C, H, seed=0), 2, seed=0))
    one = stream(torch.ones(C, requires_grad=True))
    assert not one.requires_grad
    stream.reset()
    for x in (np.ones(C), [1, 1, 1], np.ones(C, np.int32)):
        y = stream(x)
        assert isinstance(y, np.ndarray)
        assert y.dtype == np.float32
        np.testing.assert_array_equal(y, one.numpy())
        stream.reset()
    kept = stream([1, 1, 1])
    stream([2, 2, 2])
    np.testing.assert_array_equal(kept, one.numpy())  # no memory that the next step writes
    assert isinstance(stream.block(np.ones((4, C))), np.ndarray)
    assert stream.block(torch.ones(0, C)).shape == (0, 2)


@pytest.mark.parametrize("reduce", ["last", "mean"])
def test_a_saved_state_goes_on(tmp_path, reduce):
    path = tmp_path / "state.longlag"
    layer = ll.Stack(ll.LSTM(C, H, seed=0), ll.Skip(H, H, delays=(1, 3), seed=1))
    model, x = ll.SequenceModel(layer, 2, reduce=reduce, seed=2), series(dtype=torch.float32)
    stream, other = ll.Stream(model), ll.Stream(model)
    stepped(stream, x[:19])
    stream.save(path)
    other.load(path)
    assert other.steps == 19
    assert torch.equal(stepped(stream, x), stepped(other, x))
    other.state, other.steps = stream.state, stream.steps
    assert torch.equal(stepped(stream, x), stepped(other, x))
    other.reset()
    assert torch.equal(stepped(other, x), stepped(ll.Stream(model), x))


def test_a_state_of_something_else_is_refused(tmp_path):
    path, x = tmp_path / "state.longlag", torch.ones(C)
    stream = ll.Stream(ll.GRU(C, H, seed=0))
    stream(x)
    stream.save(path)
    for other, message in (
        (ll.Stream(ll.GRU(C, H, seed=1)), "another model"),
        (ll.Stream(ll.GRU(C, H, seed=0), 3), "its batch is None"),
    ):
        before = other.state.h
        with pytest.raises(ArchiveError, match=message):
            other.load(path)
        assert torch.equal(other.state.h, before)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="damaged"):
        stream.load(path)
    ll.save(ll.GRU(C, H), path)
    with pytest.raises(ArchiveError, match="'model', and a 'stream'"):
        stream.load(path)
    with pytest.raises(ValueError, match=r"state\.h: got shape"):
        stream.state = (torch.zeros(2, H),)
    with pytest.raises(TypeError, match="expected an AverageState"):
        ll.Stream(ll.SequenceModel(ll.GRU(C, H), 1, reduce="mean")).state = (torch.zeros(1, H),)


def test_the_model_may_change_later():
    layer = ll.GRU(C, H, seed=0, recurrent_dropout=0.5, input_dropout=0.5).train()
    x = series(dtype=torch.float32)
    wanted = layer.eval()(x.unsqueeze(0))[0][0]
    stream = ll.Stream(layer.train())
    with torch.no_grad():
        layer.weight_hh.zero_()
    assert torch.equal(stepped(stream, x), wanted)
    assert layer.training


@pytest.mark.parametrize(
    "model",
    [
        ll.Bidirectional(ll.GRU(C, H)),
        Backward(ll.GRU(C, H)),
        ll.SequenceModel(ll.Stack(ll.GRU(C, H), ll.Bidirectional(ll.GRU(H, H))), 1),
    ],
)
def test_what_reads_backward_is_refused(model):
    with pytest.raises(ValueError, match=r"reads backward.*(Bidirectional|Backward)"):
        ll.Stream(model)


def test_other_mistakes_say_what_is_expected():
    with pytest.raises(TypeError, match=r"got LSTM, expected .*from_torch"):
        ll.Stream(nn.LSTM(C, H))
    with pytest.raises(ValueError, match="batch: got 0"):
        ll.Stream(ll.GRU(C, H), 0)
    one, two = ll.Stream(ll.GRU(C, H)), ll.Stream(ll.GRU(C, H, backend="reference"), 2)
    for stream, shape in ((one, r"\(3,\)"), (two, r"\(2, 3\)")):
        for x in (torch.zeros(4), np.zeros((1, 3)), 1.0):
            with pytest.raises(ValueError, match=f"x: got shape .*, expected {shape}: one step"):
                stream(x)
    with pytest.raises(TypeError, match=r"got torch.float64 .*, expected torch.float32"):
        one(torch.zeros(C, dtype=torch.float64))
    with pytest.raises(TypeError, match="expected real"):
        one(np.zeros(C, complex))
    with pytest.raises(ValueError, match=r"expected \(2, T, 3\)"):
        two.block(torch.zeros(5, C))
    assert one.steps == 0


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
@pytest.mark.parametrize("make", [lambda: ll.LSTM(C, H, seed=0), lambda: ll.MinGRU(C, H, seed=0)])
@pytest.mark.parametrize("reduce", ["last", "mean"])
def test_a_copy_goes_on_by_itself(copied, make, reduce):
    """To look ahead and come back, or in another process."""
    model = ll.SequenceModel(make(), 2, reduce=reduce, seed=1)
    stream, x = ll.Stream(model, batch=2), series(2, dtype=torch.float32)
    stepped(stream, x[:, :9])
    other = copied(stream)
    ahead = stepped(other, x[:, 9:])
    assert (stream.steps, other.steps) == (9, T)
    assert torch.equal(stepped(stream, x[:, 9:]), ahead)
