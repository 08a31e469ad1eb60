"""Graphs beside the models that they were made of, on onnxruntime."""

import numpy as np
import onnx
import pytest
import torch
from tests.onnx.runtime import answer, assert_close, operators, run, session
from tests.scan import cases
from torch import nn
from torch.nn.utils import parametrizations

import longlag as ll
from longlag.layers import Backward, ReadoutModule
from longlag.onnx import ExportError, export, export_onnx, graph, standard
from longlag.onnx.operations import operations
from longlag.recurrence import ARITY

DOUBLE = torch.float64


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def drawn(module, dtype=torch.float32):
    """The same with every parameter random, nothing at 0 or 1."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return module.to(dtype)


def test_a_graph_runs_as_its_model_at_any_n_and_t(tmp_path):
    """Not by the check of the export itself."""
    path = tmp_path / "model.onnx"
    for layer in (ll.Elman(2, 4), ll.LSTM(2, 4), ll.GRU(2, 4), ll.LEM(2, 4), ll.Skip(2, 4)):
        model = drawn(ll.SequenceModel(layer, 3, reduce=None))
        model.layer.backend = "reference"
        export_onnx(model, path, check=False)
        runtime = session(path)
        for rows, steps in ((1, 1), (3, 7), (2, 50)):
            x = random(rows, steps, 2)
            (output, state), ours = model.run(x), answer(runtime, x=x)
            assert_close(ours["output"], output)
            assert_close(ours["final_" + layer.cell.state[-1]].reshape(-1, rows, 4)[0],
                         getattr(state, layer.cell.state[-1]))  # fmt: skip


@pytest.mark.slow
def test_every_cell_and_its_schedule(tmp_path):
    """Compared by the export itself: lengths, states, resets."""
    for number, (name, cell) in enumerate(cases.CELLS.items()):
        hidden = cases.hidden_of(cell, 4)
        layer = cases.layer_of(cell, 2, hidden, backend="reference")
        export_onnx(layer, tmp_path / "model.onnx", resets=number % 2 == 0)
        assert operators(tmp_path / "model.onnx") == ["Scan"], name
        if number % 2:  # every second one in float32 too, where some are standard operators
            layer.float()
            export_onnx(layer, tmp_path / "model.onnx")


def test_cells_of_ones_own(tmp_path):
    for cell in (cases.Mixed(), cases.Staged(), cases.Timed()):
        layer = cases.layer_of(cell, 2, 4, backend="reference")
        export_onnx(layer, tmp_path / "model.onnx", resets=True)


def bidirectional(one, other):
    return ll.Bidirectional(one(2, 4, backend="reference"), other(2, 4, backend="reference"))


COMPOSED = {
    "stack": lambda: ll.Stack(ll.LSTM(2, 4), bidirectional_of(4), ll.Leaky(8, 3)),
    "both": lambda: bidirectional(ll.LSTM, ll.LSTM),
    "both, of two kinds": lambda: bidirectional(ll.GRU, ll.Leaky),
    "both, of stacks": lambda: ll.Bidirectional(ll.Stack(ll.Elman(2, 3), ll.IndRNN(3, 4))),
    "backward": lambda: Backward(ll.GRU(2, 4)),
    "backward, of a Scan": lambda: Backward(ll.LRU(2, 4)),
    "dilated": lambda: ll.Dilated(ll.LSTM, 2, 4, dilations=(1, 2, 4)),
    "dilated, by views": lambda: ll.Elman(2, 4, dilation=3),
    "replicas": lambda: bidirectional_of(2, replicas=2),
    "sparse": lambda: ll.EchoState(2, 30, density=0.2, proximity=0.3, seed=0),
    "sparse and trained": lambda: ll.GRU(2, 6, density=0.5),
    "parametrized": lambda: parametrized(ll.Leaky(2, 4)),
    "next generation": lambda: ll.layers.NextGeneration(2, delays=3, stride=2, degree=(2, 3)),
}


def bidirectional_of(width, **options):
    return ll.Bidirectional(ll.GRU(width, 4, **options), ll.GRU(width, 4, **options))


def parametrized(layer):
    return parametrizations.weight_norm(layer, "weight_ih")


@pytest.mark.parametrize("name", COMPOSED)
def test_what_is_made_of_layers(tmp_path, name):
    module = COMPOSED[name]()
    if "sparse" not in name and name != "parametrized":
        drawn(module)
    for part in module.parts():
        part.layer.backend = "reference"
    for reduce in (None, "last", "mean"):
        model = ll.SequenceModel(module, 2, reduce=reduce, direct=True, squares=reduce is None,
                                 output_activation="tanh", seed=0)  # fmt: skip
        export_onnx(model, tmp_path / "model.onnx")
    if name != "next generation":
        export_onnx(module, tmp_path / "resets.onnx", resets=True)
    else:
        with pytest.raises(ValueError, match="resets: got True, expected False"):
            export_onnx(module, tmp_path / "resets.onnx", resets=True)
        assert not (tmp_path / "resets.onnx").exists()


@pytest.mark.parametrize("reduce", ["share", "share_max", "attention"])
def test_what_is_read_of_a_sequence(tmp_path, reduce):
    """Beside the check of the export itself, with a sequence without a step."""
    path, lengths = tmp_path / "model.onnx", torch.tensor([6, 2, 0, 5])
    for layer in (ll.EchoState(3, 5, bias_scaling=0.5, seed=0), ll.Elman(3, 4, replicas=2)):
        layer.backend = "reference"
        model = ll.SequenceModel(drawn(layer), 2, reduce=reduce, direct=True, seed=0)
        if model.attention is not None:
            drawn(model.attention)
        export_onnx(model, path)
        front = () if layer.replicas is None else (2,)
        x, ends = random(*front, 4, 6, 3), lengths.expand(*front, 4)
        assert_close(run(path, x=x, lengths=ends)["output"], model(x, lengths=ends))


def test_standard_operators_where_they_are_exact(tmp_path):
    path = tmp_path / "model.onnx"
    relu, saturated = (ll.Elman(3, 3, activation=name) for name in ("relu", "saturated"))
    lstm, gru = ll.LSTM(2, 4, peepholes=True), ll.GRU(4, 3, reset_after=False)
    export_onnx(drawn(ll.Stack(lstm, gru, relu, saturated, bidirectional_of(3))), path)
    assert operators(path) == ["LSTM", "GRU", "RNN", "Scan", "GRU"]
    export_onnx(ll.LSTM(2, 4, dtype=DOUBLE), path)
    assert operators(path) == ["Scan"]
    model = onnx.load(path)
    assert (model.ir_version, model.opset_import[0].version) == (graph.IR_VERSION, graph.OPSET)
    assert [value.name for value in model.graph.output] == ["output", "final_h", "final_c"]
    assert [value.name for value in model.graph.input] == [
        "x", "lengths", "initial_h", "initial_c",
    ]  # fmt: skip


STREAMED = {
    "LSTM": lambda: ll.LSTM(2, 4, seed=0),
    "Clockwork": lambda: ll.Clockwork(2, 6, periods=(1, 3), seed=0),
    "Skip": lambda: ll.Skip(2, 4, delays=(1, 5), seed=0),
    "GRU of a stack": lambda: ll.Stack(ll.GRU(2, 4, seed=0), ll.GRU(4, 3, dilation=2, seed=1)),
}


@pytest.mark.parametrize("name", STREAMED)
def test_ten_thousand_single_steps_are_one_pass(tmp_path, name):
    module, path = STREAMED[name](), tmp_path / "model.onnx"
    export_onnx(module, path)
    runtime, x = session(path), random(1, 10_000, 2).numpy()
    whole = answer(runtime, x=x)
    names = [output.name for output in runtime.get_outputs()]
    starts = [name.replace("final", "initial") for name in names[1:]]
    state, outputs = {}, []
    for t in range(x.shape[1]):
        output, *final = runtime.run(names, {"x": x[:, t : t + 1], **state})
        state = dict(zip(starts, final, strict=True))
        outputs.append(output)
    assert_close(np.concatenate(outputs, 1), whole["output"])
    for start, value in state.items():
        assert_close(value, whole[start.replace("initial", "final")])
    with torch.no_grad():
        assert_close(whole["output"], module(torch.from_numpy(x))[0], 1e-4)


def test_padding_even_nan_changes_nothing(tmp_path):
    path, lengths = tmp_path / "model.onnx", torch.tensor([6, 0, 3])
    for layer in (ll.Stack(ll.LSTM(2, 4), ll.Leaky(4, 3)), bidirectional_of(2)):
        model = ll.SequenceModel(layer, 2)
        export_onnx(model, path)
        x = random(3, 6, 2)
        x[1], x[2, 3:] = torch.nan, torch.nan
        assert_close(run(path, x=x, lengths=lengths)["output"], model(x, lengths=lengths))
        more = run(path, x=x[2:, :3])["output"]
        assert_close(run(path, x=x, lengths=lengths)["output"][2:], more)


def test_dropout_is_left_out_and_the_mode_stays(tmp_path):
    layer = ll.Stack(
        ll.LSTM(2, 4, recurrent_dropout=0.5, input_dropout=0.5), ll.GRU(4, 3), dropout=0.5
    )
    export_onnx(layer.train(), tmp_path / "model.onnx")
    assert layer.training


def test_an_operator_that_is_not_the_layer_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setitem(standard.GATES, "GRU", (0, 1, 2))
    path = tmp_path / "model.onnx"
    path.write_bytes(b"kept")
    with pytest.raises(ExportError, match=r"'output' of onnxruntime at N = 3 and T = 7 differs"):
        export_onnx(drawn(ll.GRU(2, 4)), path)
    assert path.read_bytes() == b"kept"
    assert list(tmp_path.iterdir()) == [path]
    export_onnx(drawn(ll.GRU(2, 4)), path, check=False)
    assert operators(path) == ["GRU"]


class OwnLayer(ll.Recurrent):
    pass


class OwnReadout(ReadoutModule):
    def __init__(self):
        super().__init__()
        self.input_size, self.output_size, self.inner = 4, 2, nn.Linear(4, 2)

    def forward(self, h, x=None):
        return self.inner(h)

    def config(self):
        return {}


REFUSED = {
    "model: got LSTM, expected a longlag model": lambda: nn.LSTM(2, 4),
    "model.layers.1: got OwnLayer": lambda: ll.Stack(
        ll.GRU(2, 4), OwnLayer(ll.cells.Elman(), 4, 4)
    ),
    "model.readout: got OwnReadout": lambda: ll.SequenceModel(ll.GRU(2, 4), readout=OwnReadout()),
    "its weights are torch.bfloat16": lambda: ll.GRU(2, 4, dtype=torch.bfloat16),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_exported_is_refused_by_name(tmp_path, message):
    with pytest.raises(TypeError, match=message):
        export_onnx(REFUSED[message](), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_more_than_a_file_holds_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "LARGEST", 1000)
    with pytest.raises(ValueError, match="one file of ONNX holds at most"):
        export_onnx(ll.EchoState(2, 30), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        export_onnx(ll.Elman(2, 3), tmp_path / "none" / "model.onnx")


def test_every_operation_has_a_node():
    assert operations(graph.Graph(np.float32)).keys() == ARITY.keys()
    assert export._TOLERANCE.keys() == export._DTYPES.keys()
