"""MemoryRecorder: what it measures, when, and that training does not see it."""

import json
import math
import random
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

import longlag as ll
from longlag.memory import error_flow, horizon, jacobian_norms

mse = nn.functional.mse_loss
C, H, T, N = 2, 5, 12, 6
DOUBLE = {"dtype": torch.float64}


def data(dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(N, T, C, generator=generator, dtype=dtype)
    return x, x.mean((1, 2)).unsqueeze(-1)


class Net(nn.Module):
    """A recurrent module of torch.nn, normalised, dropped from, and read out."""

    def __init__(self, kind="LSTM", reads="output", **options):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.core = getattr(nn, kind)(C, H, batch_first=True, **options)
            width = H * (2 if options.get("bidirectional") else 1)
            self.normal, self.drop = nn.BatchNorm1d(width), nn.Dropout(0.3)
            self.readout = nn.Linear(width, 1)
        self.reads = reads

    def forward(self, x):
        output, state = self.core(x)
        last = output[:, -1]
        if self.reads == "h_n":
            last = (state[0] if isinstance(state, tuple) else state)[-1]
        return self.readout(self.drop(self.normal(last)))


def loop(model, x, target, told, updates=4):
    """A loop of one's own; all bits that it ends with."""
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    found = []
    for _ in range(updates):
        optimizer.zero_grad()
        output = model(x + 0.01 * torch.randn_like(x))
        mse(output, target).backward()
        optimizer.step()
        if told is not None:
            told.step()
        found += [output.detach().clone(), *[p.grad.clone() for p in model.parameters()]]
    found += [torch.get_rng_state(), *(each.clone() for each in model.state_dict().values())]
    return [*found, torch.tensor([random.random(), np.random.rand()])]  # noqa: NPY002


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_training_does_not_see_it(kind):
    x, target = data()
    model = Net(kind, num_layers=2, dropout=0.2)
    calls = []
    model.core.register_forward_hook(lambda *_: calls.append(1))
    weight = model.core.weight_hh_l0
    weight.register_hook(lambda g: calls.append("slope"))
    kept = ll.MemoryRecorder(model, x, target, every=1)
    assert not calls
    watched = ll.watch(model)
    threads = torch.get_num_threads()
    told = loop(model, x, target, kept)
    assert watched["core"].x.shape[0] == N  # and not the recorder's four
    plain = loop(Net(kind, num_layers=2, dropout=0.2), x, target, None)
    assert all(torch.equal(a, b) for a, b in zip(told, plain, strict=True))
    assert len(calls) == 8
    assert [record.step for record in kept.records] == [0, 1, 2, 3, 4]
    assert torch.get_num_threads() == threads
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad and p.is_leaf for p in model.parameters())
    assert torch.is_grad_enabled()
    one, last = kept.records[0], kept.records[-1]
    assert one.log_norms != last.log_norms
    assert one.gradient_norm is None
    norms = [p.grad.double().norm() for p in model.parameters()]
    assert last.gradient_norm == pytest.approx(float(torch.stack(norms).norm()), rel=1e-5)


@pytest.mark.slow
def test_fit_does_not_see_it():
    def run(callbacks):
        layer = ll.Stack(ll.GRU(C, 4, seed=0), ll.Elman(4, 3, seed=1), dropout=0.3)
        model = ll.SequenceModel(layer, 1, seed=2)
        made = [each(model) for each in callbacks]
        history = ll.fit(
            model, data(), epochs=2, batch_size=2, callbacks=made, progress=False, step="eager"
        )
        return history, [*model.parameters()], made

    plain, told = run([]), run([lambda model: ll.MemoryRecorder(model, *data(), every=2)])
    assert told[0] == plain[0]
    assert all(torch.equal(a, b) for a, b in zip(told[1], plain[1], strict=True))
    records = told[2][0].records
    assert [record.step for record in records] == [0, 2, 4, 6]
    assert all(record.gradient_norm > 0 for record in records[1:])
    assert list(records[0].horizon) == ["layer.layers.0", "layer.layers.1"]


def test_numbers_are_those_of_the_library():
    x, target = data(torch.float64)
    x = 2 * x
    model = ll.SequenceModel(ll.LSTM(C, H, seed=0, **DOUBLE), 1, reduce="last", seed=1)
    lengths = torch.tensor([12, 5, 9, 12, 1, 1])
    with torch.no_grad():
        model.layer.weight_hh.mul_(1.3)
    kept = ll.MemoryRecorder(model, x, target, lengths=lengths, sequences=3, lags=[12, 1, 3])
    (record,) = kept.records
    few = {"lengths": lengths[:3]}
    expected = jacobian_norms(model, x[:3], sample="ends", **few).largest.mean
    assert record.lags == (1, 3, 12)
    assert record.log_norms["layer"] == pytest.approx(expected[[1, 3, 12]].tolist(), rel=1e-9)
    (flow,) = error_flow(model, x[:3], target[:3], mse, **few).layers
    assert record.horizon == {"layer": flow.horizon()}
    assert record.horizon["layer"] is not None
    rows = model.layer.weight_hh.detach().split(H)
    names = [f"layer.{gate.name}" for gate in model.layer.recurrence.gates]
    assert list(record.norms) == list(record.radii) == names
    for name, matrix in zip(names, rows, strict=True):
        assert record.norms[name] == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)))
        eigenvalues = torch.linalg.eigvals(matrix).abs().max()
        assert record.radii[name] == pytest.approx(float(eigenvalues))


@pytest.mark.slow
@pytest.mark.parametrize("reads", ["output", "h_n"])
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_a_module_of_torch_is_measured_in_its_place(kind, reads):
    x, target = data(torch.float64)
    model = Net(kind, reads).double()
    (record,) = ll.MemoryRecorder(model, x, target, sequences=None, lags=[1, 7]).records
    reader = ll.from_torch(model.core)
    expected = jacobian_norms(reader, x, sample="ends").largest.mean[[1, 7]]
    assert record.log_norms == {"core": pytest.approx(expected.tolist(), rel=1e-9)}
    model.eval()
    output = reader(x)[0].detach().requires_grad_()
    mse(model.readout(model.normal(output[:, -1])), target).backward()
    flow = error_flow(reader, x, output.grad, lambda o, t: (o * t).sum())
    assert record.horizon == {"core": flow.layers[0].horizon()}


def test_without_a_target_the_horizon_is_of_the_norms():
    x, _ = data(torch.float64)
    layer = ll.Elman(C, H, seed=0, **DOUBLE)
    with torch.no_grad():
        layer.weight_hh.mul_(0.7)
    (record,) = ll.MemoryRecorder(layer, x, sequences=None, lags=range(1, T + 1)).records
    curve = jacobian_norms(layer, x, sample="ends").largest.mean
    assert record.horizon == {"Elman": horizon(curve, logarithmic=True)}
    (few,) = ll.MemoryRecorder(layer, x, sequences=None).records
    assert abs(few.horizon["Elman"] - record.horizon["Elman"]) <= 1
    with torch.no_grad():
        layer.weight_hh.mul_(3)
    (long,) = ll.MemoryRecorder(layer, 0 * x).records
    assert long.horizon == {"Elman": None}


@pytest.mark.slow
def test_modules_of_all_kinds():
    x, target = data()
    both = Net("GRU", bidirectional=True, num_layers=2)
    (record,) = ll.MemoryRecorder(both, x, target).records
    ways = [f"core.layers.{n}.{way}_layer" for n in (0, 1) for way in ("forward", "backward")]
    assert list(record.log_norms) == list(record.horizon) == ways
    two = nn.ModuleDict({"a": nn.GRU(C, 3, batch_first=True), "b": ll.LSTM(3, 4, seed=0)})
    two.forward = lambda x: two["b"](two["a"](x)[0])[0][:, -1, :1]
    with pytest.raises(ValueError, match="it ran none of its recurrent modules"):
        ll.MemoryRecorder(two, x, target)  # of the original, and not of what is measured

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = two["a"], two["b"]

        def forward(self, x):
            return self.b(self.a(x)[0])[0][:, -1, :1]

    whole = Two()
    (record,) = ll.MemoryRecorder(whole, x, target).records
    watched = ll.watch(whole)
    mse(whole(x[:4]), target[:4]).backward()
    assert list(record.log_norms) == ["a", "b"]
    for name, lag in record.horizon.items():
        assert lag == watched[name].flow().layers[0].horizon()
        norms = watched[name].norms(sample="ends", lags=record.lags).largest.mean
        assert record.log_norms[name] == pytest.approx(norms.tolist(), rel=1e-5)

    late = nn.GRU(C, H)  # reads (T, N, C)
    (record,) = ll.MemoryRecorder(late, x.transpose(0, 1), sequences=2).records
    reader = ll.from_torch(late, batch_first=True)
    expected = jacobian_norms(reader, x[:2], sample="ends").largest.mean[list(record.lags)]
    assert record.log_norms["GRU"] == pytest.approx(expected.tolist(), rel=1e-5)

    many = ll.SequenceModel(ll.Elman(C, H, replicas=3, seed=0), 1, seed=1)
    given = x.expand(3, *x.shape), target.expand(3, *target.shape)
    (record,) = ll.MemoryRecorder(many, *given, loss=mse).records
    expected = jacobian_norms(many, given[0][:, :4], sample="ends").largest.mean.mean(0)
    assert record.log_norms["layer"] == pytest.approx(
        expected[list(record.lags)].tolist(), rel=1e-5
    )

    frozen = ll.SequenceModel(ll.Elman(C, H, seed=0).requires_grad_(False), 1, seed=1)
    (record,) = ll.MemoryRecorder(frozen, x, target).records
    (flow,) = error_flow(frozen, x[:4], target[:4], mse).layers
    assert record.horizon == {"layer": flow.horizon()}


@pytest.mark.slow
def test_weights_that_are_not_finite_give_no_error():
    x, target = data()
    for model in (Net(), Net(bidirectional=True), ll.SequenceModel(ll.GRU(C, H, seed=0), 1)):
        kept = ll.MemoryRecorder(model, x, target)
        with torch.no_grad():
            next(model.parameters())[0, 0] = math.nan
            list(model.parameters())[1][0, 0] = math.nan
        record = kept.measure()
        assert all(math.isnan(each) for by in record.log_norms.values() for each in by)
        assert set(record.horizon.values()) == {None}
        assert any(math.isnan(each) for each in record.norms.values())
        json.dumps(kept.to_dict(), allow_nan=False)
        kept.plot()
    layer = ll.Elman(C, H, activation="relu", seed=0)
    with torch.no_grad():
        layer.weight_hh.fill_(1e30)
    (record,) = ll.MemoryRecorder(layer, 1e20 * x.abs()).records
    assert record.horizon == {"Elman": None}


class Clock:
    """Time that passes where it is told to."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(recorder_module, "_clock", lambda: self.now)


recorder_module = sys.modules["longlag.memory.watch.recorder"]


def measured(monkeypatch, costs):
    """A recorder whose measurements take the given times, then the last of them again."""
    clock, costs = Clock(monkeypatch), list(costs)
    found = sys.modules["longlag.memory.watch.fixed_sequences"].Measurement(
        lags=(1,), log_norms={"a": (0.0,)}, horizon={"a": 1}
    )

    def measure(self):
        clock.now += costs.pop(0) if len(costs) > 1 else costs[0]
        return found

    monkeypatch.setattr(recorder_module.FixedSequences, "measure", measure)
    return clock


@pytest.mark.parametrize("share", [0.04, 0.2])
def test_the_share_of_the_time_is_kept_at_each_update(monkeypatch, share):
    clock = measured(monkeypatch, [0.9, 0.05])  # the first compiles
    kept = ll.MemoryRecorder(nn.RNN(1, 1), torch.ones(1, 1, 1), share=share)
    assert kept.spent == 0
    began = clock.now
    for _ in range(5000):
        kept.step()
        assert kept.spent <= share * (clock.now - began) + 1e-12
        clock.now += 0.002
    assert kept.spent > 0.9 * share * (clock.now - began)
    assert len(kept.records) == 1 + round(kept.spent / 0.05)
    assert kept.records[-1].seconds == pytest.approx(clock.now - began, abs=2.0)


def test_a_long_first_measurement_is_made_once(monkeypatch):
    clock = measured(monkeypatch, [4.0])
    ll.MemoryRecorder(nn.RNN(1, 1), torch.ones(1, 1, 1))
    assert clock.now == 104.0


def test_a_measurement_that_takes_longer_is_made_up_for(monkeypatch):
    clock = measured(monkeypatch, [0.01, 0.01, 0.01, 1.0, 0.01])
    kept = ll.MemoryRecorder(nn.RNN(1, 1), torch.ones(1, 1, 1), share=0.1)
    began = clock.now
    for _ in range(300):
        kept.step()
        clock.now += 0.1
    assert kept.spent <= 0.1 * (clock.now - began)
    gaps = np.diff([record.seconds for record in kept.records[1:]])
    assert gaps.max() > 9  # the long one is waited off


def test_no_more_than_so_many_records_are_kept(monkeypatch):
    clock = measured(monkeypatch, [0.001])
    monkeypatch.setattr(recorder_module, "MOST", 16)
    kept = ll.MemoryRecorder(nn.RNN(1, 1), torch.ones(1, 1, 1), share=1.0)
    for _ in range(1000):
        kept.step()
        clock.now += 0.01
        assert len(kept.records) < 16
    steps = [record.step for record in kept.records]
    assert len(steps) >= 8
    assert steps[0] == 0
    gaps = np.diff(steps)
    assert gaps.max() <= 4 * gaps.min() + 1  # spread over the whole run
    assert steps[-1] > 850
    each = ll.MemoryRecorder(nn.RNN(1, 1), torch.ones(1, 1, 1), every=1)
    for _ in range(20):
        each.step()
    assert len(each.records) == 21


class Fake:
    def __init__(self):
        self.seen = {}

    def add_scalar(self, tag, value, step):
        self.seen.setdefault(tag, []).append((step, value))


def test_a_writer_gets_all_numbers():
    x, target = data()
    model, writer = Net("RNN"), Fake()
    kept = ll.MemoryRecorder(model, x, target, every=2, lags=[1, 4], writer=writer)
    loop(model, x, target, kept)
    for tag, values in {
        "memory/log_norm/lag_4": [record.log_norms["core"][1] for record in kept.records],
        "memory/norm/core.candidate": [r.norms["core.candidate"] for r in kept.records],
        "memory/radius/core.candidate": [r.radii["core.candidate"] for r in kept.records],
        "memory/horizon/core": [record.horizon["core"] for record in kept.records],
    }.items():
        assert writer.seen[tag] == list(zip([0, 2, 4], values, strict=True))
    assert [step for step, _ in writer.seen["memory/gradient_norm"]] == [2, 4]
    assert len(writer.seen) == 6
    stack = Fake()
    ll.MemoryRecorder(Net("GRU", bidirectional=True), x, lags=[3], writer=stack)
    assert "memory/log_norm/core.backward_layer/lag_3" in stack.seen
    with pytest.raises(TypeError, match="writer: got int, expected a folder, or an object"):
        ll.MemoryRecorder(model, x, writer=3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_folder_gets_a_summary_writer(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    x, target = data()
    with ll.MemoryRecorder(Net(), x, target, lags=[2], writer=str(tmp_path)) as kept:
        kept.after_update(7)
        kept.measure()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    found = events.Scalars("memory/log_norm/lag_2")
    assert [each.step for each in found] == [0, 7]
    assert found[1].value == pytest.approx(kept.records[1].log_norms["core"][0], rel=1e-5)


def test_without_tensorboard_a_folder_is_refused(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
    with pytest.raises(ImportError, match=r'pip install "longlag\[tensorboard\]"'):
        ll.MemoryRecorder(Net(), data()[0], writer=tmp_path)


@pytest.mark.parametrize("name", ["lightning.pytorch", "pytorch_lightning"])
def test_a_callback_for_lightning(monkeypatch, name):
    for each in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, each, None)
    kept = ll.MemoryRecorder(Net(), data()[0], every=1)
    with pytest.raises(ImportError, match="pip install lightning"):
        kept.lightning()
    fake = types.ModuleType(name)
    fake.Callback = type("Callback", (), {})
    if name == "lightning.pytorch":
        monkeypatch.setitem(sys.modules, "lightning", types.ModuleType("lightning"))
    monkeypatch.setitem(sys.modules, name, fake)
    callback = kept.lightning()
    assert isinstance(callback, fake.Callback)
    for step, zero in ((0, True), (1, True), (1, True), (2, False), (3, True)):
        trainer = types.SimpleNamespace(global_step=step, is_global_zero=zero)
        callback.on_train_batch_end(trainer, kept.model, None, None, batch_idx=step)
    assert [record.step for record in kept.records] == [0, 1, 3]


@pytest.mark.filterwarnings("ignore")
def test_lightning_itself(tmp_path):
    pl = pytest.importorskip("pytorch_lightning")

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = Net()

        def training_step(self, batch):
            return mse(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    module = Module()
    kept = ll.MemoryRecorder(module.net, *data(), every=1)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data()), 2)
    trainer = pl.Trainer(
        max_epochs=2, accumulate_grad_batches=3, callbacks=[kept.lightning()], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu",
        default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, loader)
    assert [record.step for record in kept.records] == [0, 1, 2]
    assert all(record.gradient_norm > 0 for record in kept.records[1:])


def test_records_as_data_and_figure():
    x, target = data()
    model = Net("GRU", num_layers=2)
    kept = ll.MemoryRecorder(model, x, target, every=1)
    loop(model, x, target, kept)
    found = json.loads(json.dumps(kept.to_dict(), allow_nan=False))
    assert [record["step"] for record in found["records"]] == [0, 1, 2, 3, 4]
    assert found["records"][2]["log_norms"]["core"] == list(kept.records[2].log_norms["core"])
    assert found["records"][0]["gradient_norm"] is None
    figure = kept.plot()
    norms, horizons = figure.axes[:2]
    assert norms.get_xscale() == "log"
    assert len(norms.lines) == 5 + 1
    curve = np.array(kept.records[4].log_norms["core"]) / math.log(10)
    np.testing.assert_allclose(norms.lines[4].get_ydata(), curve)
    labels = [text.get_text() for text in horizons.get_legend().get_texts()]
    assert labels == ["core.layers.0", "core.layers.1"]
    assert repr(kept) == "MemoryRecorder(Net, 5 records, 4 updates)"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"every": 0}, ValueError, "every: got 0, expected at least 1"),
        ({"share": 0}, ValueError, r"share: got 0, expected a number in \(0, 1\]"),
        ({"sequences": 1.5}, TypeError, r"sequences: got 1\.5"),
        ({"lags": [0, 2]}, ValueError, r"lags: got \[0, 2\], expected whole numbers >= 1"),
        ({"lags": [13]}, ValueError, "lags: got 13, expected at most 12, the steps"),
        ({"loss": mse}, ValueError, "target: got None, and a loss; expected both"),
        ({"target": torch.ones(N, 1), "loss": "best"}, ValueError, "loss is 'best'; expected"),
        ({"target": torch.ones(())}, ValueError, r"target: got shape \(\), expected sequences"),
    ],
)
def test_arguments_that_do_not_fit_are_named(options, error, message):
    with pytest.raises(error, match=message):
        ll.MemoryRecorder(Net(), data()[0], **options)


def test_models_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="model: found no recurrent module in Linear"):
        ll.MemoryRecorder(nn.Linear(2, 1), data()[0])

    class Cell(Net):
        def forward(self, x):
            return self.readout(self.core(x)[1][1][-1])

    with pytest.raises(ValueError, match="core: part of the error entered by a final state"):
        ll.MemoryRecorder(Cell(), *data())
