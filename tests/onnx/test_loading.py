"""Standard recurrent nodes as layers: ONNX's own cases, exporters, and files that are none."""

from __future__ import annotations

import contextlib
import warnings

import numpy as np
import onnx
import onnx.backend.test.case.node as node_cases
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case.node import gru, lstm, rnn  # noqa: F401  (each adds its cases)
from tests.onnx.runtime import assert_close, run
from tests.onnx.test_export import drawn, random
from torch import nn

import longlag as ll
from longlag.layers import Backward
from longlag.onnx import LoadError, export_onnx, from_onnx

CASES = {case.name: case for case in node_cases._NodeTestCases}


def with_constants(case):
    """The graph of a case with its weights as constants, and the inputs that are left."""
    model, ((inputs, outputs),) = onnx.ModelProto(), case.data_sets
    model.CopyFrom(case.model)
    infos = list(model.graph.input)
    del model.graph.input[:]
    left = {}
    for info, value in zip(infos, inputs, strict=True):
        if info.name in ("W", "R", "B", "P"):
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), info.name))
        else:
            model.graph.input.append(info)
            left[info.name] = torch.from_numpy(np.asarray(value))
    return model, left, {out.name: v for out, v in zip(model.graph.output, outputs, strict=True)}


def test_onnx_has_these_cases():
    assert len(CASES) >= 12  # 18 from onnx 1.23 on
    kinds = [case.model.graph.node[0].op_type for case in CASES.values()]
    assert all(kinds.count(kind) >= 4 for kind in ("RNN", "LSTM", "GRU"))


@pytest.mark.parametrize("name", CASES)
def test_a_case_of_onnx_itself(tmp_path, name):
    model, inputs, expected = with_constants(CASES[name])
    onnx.save(model, tmp_path / "case.onnx")
    module = from_onnx(tmp_path / "case.onnx")
    attributes = {attribute.name: attribute.i for attribute in model.graph.node[0].attribute}
    batch_first = attributes.get("layout", 0) == 1
    x = inputs["X"] if batch_first else inputs["X"].transpose(0, 1)
    output, state = module(x, lengths=inputs.get("sequence_lens"))
    states = [state.forward, state.backward] if hasattr(state, "forward") else [state]
    results = {"Y": output.unflatten(-1, (len(states), -1))}
    if not batch_first:
        results["Y"] = results["Y"].permute(1, 2, 0, 3)
    for name, part in (("Y_h", "h"), ("Y_c", "c")):
        if hasattr(states[0], part):
            results[name] = torch.stack([getattr(s, part) for s in states], int(batch_first))
    for name, value in expected.items():
        np.testing.assert_allclose(results[name].detach(), value, rtol=1e-4, atol=1e-6)


ROUND = {
    "Elman": lambda: ll.Elman(2, 4, activation="sigmoid", bias=False),
    "GRU": lambda: ll.GRU(2, 4),
    "GRU before": lambda: ll.GRU(2, 4, reset_after=False),
    "GRU without bias": lambda: ll.GRU(2, 4, bias=False),
    "LSTM with peepholes": lambda: ll.LSTM(2, 4, peepholes=True),
    "Backward": lambda: Backward(ll.LSTM(2, 4)),
    "both": lambda: ll.Bidirectional(ll.Elman(2, 4, activation="relu"), ll.Elman(2, 4)),
    "both, of two kinds": lambda: ll.Bidirectional(ll.GRU(2, 4), ll.LSTM(2, 3)),
    "Stack": lambda: ll.Stack(ll.GRU(2, 4), ll.Bidirectional(ll.LSTM(4, 5)), ll.Elman(10, 2)),
}


@pytest.mark.parametrize("name", ROUND)
def test_there_and_back_is_the_same_to_the_bit(tmp_path, name):
    module, path = drawn(ROUND[name]()), tmp_path / "model.onnx"
    x, lengths = random(3, 6, 2), torch.tensor([6, 0, 3])
    export_onnx(module, path, check=False)
    again = from_onnx(path)
    assert type(again) is type(module)
    for part, other in zip(module.parts(), again.parts(), strict=True):
        ours, theirs = part.layer.state_dict(), other.layer.state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    for reduce in (None, "last", "mean"):
        model = ll.SequenceModel(module, 2, reduce=reduce, output_activation="sigmoid")
        export_onnx(model, path, check=False)
        loaded = from_onnx(path)
        assert loaded.config() == model.config()
        assert torch.equal(loaded(x, lengths=lengths), model(x, lengths=lengths))


class OfTorch(nn.Module):
    """What people export: a recurrent module, and a readout of a part of what it says."""

    def __init__(self, recurrent, part, readout):
        super().__init__()
        self.recurrent, self.part = recurrent, part
        width = recurrent.hidden_size * (2 if recurrent.bidirectional else 1)
        self.readout = nn.Linear(width, 2) if readout else nn.Identity()

    def forward(self, x):
        output, state = self.recurrent(x)
        state = state[0] if isinstance(state, tuple) else state
        read = {"all": lambda: output, "last": lambda: output[:, -1], "state": lambda: state[-1],
                "states": lambda: torch.cat([state[-2], state[-1]], -1),
                "mean": lambda: output.mean(1)}  # fmt: skip
        return self.readout(read[self.part]())


def of_torch(model, path, *inputs, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no further package is the old one
        torch.onnx.export(model.eval(), inputs, path, dynamo=False, opset_version=17, **options)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_what_torch_exports(tmp_path, kind):
    path, x = tmp_path / "model.onnx", random(3, 6, 2)
    axes = {"x": {0: "N", 1: "T"}}
    for part, both, layers, readout in (
        ("all", False, 2, True),
        ("last", False, 1, True),
        ("last", False, 2, False),
        ("state", False, 2, True),
        ("mean", True, 1, True),
        ("states", True, 2, True),
        ("all", True, 1, False),
    ):
        recurrent = kind(2, 4, num_layers=layers, bidirectional=both, batch_first=True)
        model = OfTorch(recurrent, part, readout)
        of_torch(model, path, x[:1], input_names=["x"], dynamic_axes=axes)
        loaded = from_onnx(path)
        answer = loaded(x)
        if not readout:
            answer = answer[0] if part == "all" else loaded.last(answer[0])
        torch.testing.assert_close(answer, model(x), rtol=0, atol=1e-6)


def test_what_torch_exports_with_states_and_time_first(tmp_path):
    path, x, state = tmp_path / "model.onnx", random(6, 3, 2), random(2, 3, 4)
    model = nn.GRU(2, 4, num_layers=2)
    of_torch(model, path, x, state)
    loaded = from_onnx(path)
    output, final = loaded(x.transpose(0, 1), [(state[0],), (state[1],)])
    expected, last = model(x, state)
    torch.testing.assert_close(output.transpose(0, 1), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.stack([part.h for part in final]), last, rtol=0, atol=1e-6)
    both = nn.LSTM(2, 4, bidirectional=True, batch_first=True)
    of_torch(OfTorch(both, "last", True), path, x[:1])
    with pytest.raises(LoadError, match="takes the last step of a backward reading"):
        from_onnx(path)


def written(path, nodes, constants, **outputs):
    """A file of nodes, by hand; outputs with their ranks."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None] * 3)
    shown = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank)
        for name, rank in outputs.items()
    ]
    tensors = [numpy_helper.from_array(np.asarray(value), k) for k, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [x], shown, tensors)
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def numbers(*shape, seed=0):
    return random(*shape, seed=seed).numpy()


GATED = {"W": numbers(1, 12, 2), "R": numbers(1, 12, 4, seed=1), "B": numbers(1, 24, seed=2)}


def node(kind, inputs, *outputs, **options):
    return helper.make_node(kind, inputs, outputs, **options)


def gated(*outputs, **options):
    return [
        node("Transpose", ["x"], "time_first", perm=(1, 0, 2)),
        node("GRU", ["time_first", "W", "R", "B"], *outputs, hidden_size=4, **options),
    ]


def test_what_exporters_of_keras_write(tmp_path):
    path, x = tmp_path / "model.onnx", random(3, 6, 2)
    dense = {"V": numbers(4, 2, seed=3), "b": numbers(2, seed=4)}
    written(
        path,
        [
            *gated("", "Y_h", linear_before_reset=1),
            node("Squeeze", ["Y_h", "along"], "h"),
            node("MatMul", ["h", "V"], "product"),
            node("Add", ["product", "b"], "sum"),
            node("Sigmoid", ["sum"], "y"),
        ],
        {**GATED, **dense, "along": [0]},
        y=2,
    )
    loaded = from_onnx(path)
    assert (loaded.reduce, loaded.readout.activation) == ("last", "sigmoid")
    assert_close(run(path, x=x)["y"], loaded(x))
    written(
        path,
        [
            *gated("Y"),
            node("Slice", ["Y", "minus", "end", "along"], "last"),
            node("Squeeze", ["last"], "h"),
            node("Gemm", ["h", "V", "b"], "y", alpha=0.5, beta=2.0),
        ],
        {**GATED, **dense, "along": [0], "minus": [-1], "end": [2**62]},
        y=2,
    )
    loaded = from_onnx(path)
    assert not loaded.layer.cell.reset_after
    assert_close(run(path, x=x)["y"], loaded(x))


def bad(nodes, constants=(), **outputs):
    return lambda path: written(path, nodes, {**GATED, **dict(constants)}, **outputs or {"Y": 4})


LSTM = {"W": numbers(1, 16, 2), "R": numbers(1, 16, 4)}
REFUSED = {
    "has clip = 3.0": bad(gated("Y", clip=3.0)),
    "has input_forget = 1": bad(
        [node("LSTM", ["x", "W", "R"], "Y", hidden_size=4, input_forget=1)], LSTM
    ),
    r"has the activations \['sigmoid', 'relu'\]": bad(gated("Y", activations=["Sigmoid", "Relu"])),
    "has a W that is no constant": bad([node("RNN", ["x", "x", "R"], "Y", hidden_size=4)]),
    "has a constant initial_h that is not zero": bad(
        [node("GRU", ["x", "W", "R", "B", "", "h"], "Y", hidden_size=4)], {"h": numbers(1, 3, 4)}
    ),
    "has weights of shape": bad(gated("Y"), {"R": numbers(1, 9, 4)}),
    "has hidden_size = 5": bad([node("GRU", ["x", "W", "R"], "Y", hidden_size=5)]),
    "neither float32 nor float64": bad(
        [node("GRU", ["x", "W", "R"], "Y", hidden_size=4)],
        {name: GATED[name].astype(np.float16) for name in "WR"},
    ),
    r"'Y' \(GRU\) reads a constant": bad([node("GRU", ["W", "W", "R"], "Y", hidden_size=4)]),
    r"'y' \(Softmax\) is done to the output h": bad([*gated("Y"), node("Softmax", ["Y"], "y")]),
    r"\(Mul\) is done to the output h \(T, D, N, F\)": bad(
        [*gated("Y"), node("Mul", ["Y", "Y"], "y")]
    ),
    "its output 'time_first' comes of no RNN": bad(gated("Y"), time_first=3),
    "it puts out 2 results": bad([*gated("Y"), node("Identity", ["Y"], "y")], Y=4, y=4),
    "uses constants of the file again": bad(
        [*gated("Y"), *(node("Concat", [f"c{n}"] * 2, f"c{n + 1}", axis=0) for n in range(40))],
        {"c0": numbers(10)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_what_no_layer_has_is_refused_by_name(tmp_path, message):
    path = tmp_path / "model.onnx"
    REFUSED[message](path)
    with pytest.raises(LoadError, match=message) as caught:
        from_onnx(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_what_a_scan_makes_is_refused(tmp_path):
    path = tmp_path / "model.onnx"
    export_onnx(ll.Leaky(2, 4), path, check=False)
    with pytest.raises(LoadError, match=r"\(\w+\) is (done|of)"):
        from_onnx(path)


def test_a_file_that_is_none(tmp_path):
    path = tmp_path / "model.onnx"
    export_onnx(ll.GRU(2, 4), path, check=False)
    data = path.read_bytes()
    for broken in (b"", b"\x00" * 50, data[: len(data) // 2], data[:-3], b"PK\x03\x04" + data):
        path.write_bytes(broken)
        with pytest.raises(LoadError, match=r"model\.onnx: "):
            from_onnx(path)
    generator = np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(data)
        for place in generator.integers(0, len(data), 3):
            broken[place] = generator.integers(0, 256)
        path.write_bytes(broken)
        with contextlib.suppress(LoadError):
            from_onnx(path)
    with pytest.raises(FileNotFoundError):
        from_onnx(tmp_path / "none.onnx")


def test_weights_in_files_of_the_folder_and_of_no_other(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    layer, path, outside = drawn(ll.LSTM(2, 40)), folder / "model.onnx", tmp_path / "outside"
    export_onnx(layer, path, check=False)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="data.bin", size_threshold=0)
    assert torch.equal(from_onnx(path).weight_hh, layer.weight_hh)
    (folder / "data.bin").rename(outside)
    with pytest.raises(LoadError, match=r"are in 'data\.bin', where there is no file"):
        from_onnx(path)
    (folder / "data.bin").symlink_to(outside)
    with pytest.raises(LoadError, match="expected a file in the folder of the graph"):
        from_onnx(path)
    model = onnx.load(path, load_external_data=False)
    for location in ("../outside", str(outside)):
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                entry.value = location if entry.key == "location" else entry.value
        path.write_bytes(model.SerializeToString())
        with pytest.raises(LoadError, match="expected a file in the folder of the graph"):
            from_onnx(path)
