from dataclasses import dataclass

import pytest
import torch
from tests.scan import cases

import longlag as ll
from longlag.layers.parameters import tied
from longlag.layers.saving import load_with_metadata
from longlag.recurrence import Cell, UnitParameter, sigmoid, tanh
from longlag.storage import ArchiveError, read_archive, write_archive


@dataclass(frozen=True)
class Scaled(Cell):
    """A cell with a field."""

    scale: float = 1.0
    gates = ("a",)
    unit_parameters = {"k": UnitParameter(0.5)}

    def update(self, pre, state, unit):
        return {"h": tanh(self.scale * pre.a) * unit.k}


class Fields(Cell):
    """A cell whose field no file can hold."""

    gates = ("a",)

    def __init__(self, scale):
        self.scale = scale

    def update(self, pre, state, unit):
        return {"h": tanh(self.scale * pre.a)}


MODELS = {
    "Elman": lambda: ll.Elman(2, 3, activation="relu"),
    "Leaky": lambda: ll.Leaky(2, 3, leak=(0.5, 0.2, 0.1), activation="sigmoid"),
    "Leaky trained": lambda: ll.Leaky(2, 3, leak=0.3, train_leak=True, shared_leak=True),
    "Leaky without W": lambda: ll.Leaky(2, 3, recurrent=False, bias=False),
    "Leaky with time scales": lambda: ll.Leaky(2, 3, time_scales=(2, 50), train_leak=True),
    "CoRNN": lambda: ll.CoRNN(2, 3, step=0.1, gamma=2.0, epsilon=0.5),
    "LEM": lambda: ll.LEM(2, 3, step=0.5),
    "GRU before": lambda: ll.GRU(2, 3, reset_after=False),
    "MinGRU": lambda: ll.MinGRU(2, 3, activation="positive"),
    "LRU": lambda: ll.LRU(2, 3, r_min=0.5, r_max=0.6, max_phase=1.0),
    "LSTM": lambda: ll.LSTM(2, 3, forget_bias=0.5, peepholes=True),
    "LSTM1997": lambda: ll.LSTM1997(2, 3, output_gate=False, cell_output="identity"),
    "GRU": lambda: ll.GRU(2, 3, recurrent_bias=False),
    "IndRNN": lambda: ll.IndRNN(2, 3, activation="tanh", initial_low=-1.0),
    "replicas": lambda: ll.GRU(2, 3, replicas=2),
    "dropout": lambda: ll.GRU(2, 3, input_dropout=0.2, recurrent_dropout=0.3, backend="reference"),
    "built-in cell": lambda: ll.Recurrent(ll.cells.Leaky(leak=(0.5, 0.2, 0.1)), 2, 3),
    "own cell": lambda: ll.Recurrent(Scaled(0.7), 2, 3),
    "own cell without fields": lambda: ll.Recurrent(cases.Mixed(), 2, 3),
    "Stack": lambda: ll.Stack(ll.LSTM(2, 3), ll.Recurrent(Scaled(2.0), 3, 4), dropout=0.5),
    "Bidirectional": lambda: ll.Bidirectional(ll.GRU(2, 3), ll.Elman(2, 4)),
    "both": lambda: ll.Stack(ll.Bidirectional(ll.GRU(2, 3)), ll.Bidirectional(ll.GRU(6, 3))),
    "model": lambda: ll.SequenceModel(ll.LSTM(2, 3), 5, reduce="mean", direct=True),
    "model of a stack": lambda: ll.SequenceModel(
        ll.Stack(ll.LSTM(2, 3), ll.GRU(3, 4)),
        5,
        reduce=None,
        bias=False,
        output_activation="sigmoid",
    ),
}
OWN = [Scaled, cases.Mixed]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_what_is_saved_comes_back(make, dtype, tmp_path):
    model, path = make().to(dtype), tmp_path / "model.longlag"
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    ll.save(model, path, metadata={"epoch": 3})
    again, metadata = load_with_metadata(path, cells=OWN)
    assert metadata == {"epoch": 3}
    assert type(again) is type(model)
    assert " object at " in repr(model) or repr(again) == repr(model)
    assert not again.training
    assert model.training
    x = torch.randn(*((2,) if "replicas=2" in repr(model) else ()), 4, 5, 2).to(dtype)
    ours, theirs = model.eval()(x), again(x)
    output, expected = (r if isinstance(r, torch.Tensor) else r[0] for r in (theirs, ours))
    assert output.dtype == dtype
    assert torch.equal(output, expected)
    assert again.config() == model.config()
    for (name, mine), (_, other) in zip(
        again.state_dict().items(), model.state_dict().items(), strict=True
    ):
        assert torch.equal(mine, other), name


def test_a_loaded_model_trains_on(tmp_path):
    ll.save(ll.SequenceModel(ll.GRU(2, 3), 1), tmp_path / "m")
    model = ll.load(tmp_path / "m").train()
    model(torch.ones(2, 3, 2)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_cell_that_is_not_given_is_named(tmp_path):
    ll.save(ll.Recurrent(Scaled(), 2, 3), tmp_path / "m")
    message = (
        r"it uses a cell 'Scaled' that is not built in; import that class and give it: "
        r"load\(path, cells=\[Scaled\]\)$"
    )
    with pytest.raises(ArchiveError, match=message):
        ll.load(tmp_path / "m")


def test_a_cell_named_as_a_built_in_one_is_not_taken_for_it(tmp_path):
    class Elman(Cell):
        gates = ("a",)

        def update(self, pre, state, unit):
            return {"h": sigmoid(pre.a)}

    layer = ll.Recurrent(Elman(), 2, 3)
    ll.save(layer, tmp_path / "m")
    with pytest.raises(ArchiveError, match="it uses a cell 'Elman' that is not built in"):
        ll.load(tmp_path / "m")
    for given in (Elman, {"Elman": Elman}, [Elman()], "Elman"):
        with pytest.raises(TypeError, match=r"cells: got .*, expected a list of classes of cells"):
            ll.load(tmp_path / "m", cells=given)
    x = torch.randn(1, 4, 2)
    again = ll.load(tmp_path / "m", cells=[Elman])
    assert torch.equal(again(x)[0], layer(x)[0])


def test_a_cell_whose_equation_has_changed_is_refused(tmp_path):
    def declare(function):
        class Mine(Cell):
            gates = ("a",)

            def update(self, pre, state, unit):
                return {"h": function(pre.a)}

        return Mine

    ll.save(ll.Recurrent(declare(tanh)(), 2, 3), tmp_path / "m")
    ll.load(tmp_path / "m", cells=[declare(tanh)])
    with pytest.raises(ArchiveError, match="the equations of the cell 'Mine' are not those"):
        ll.load(tmp_path / "m", cells=[declare(sigmoid)])


def test_loading_leaves_the_global_generator_alone(tmp_path):
    ll.save(ll.GRU(2, 3), tmp_path / "m")
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    ll.load(tmp_path / "m")
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("place", [0, 20, 200, -1])
def test_a_damaged_file_is_refused(tmp_path, place):
    path = tmp_path / "m"
    ll.save(ll.GRU(2, 3), path)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=str(path)):
        ll.load(path)
    path.write_bytes(b"")
    with pytest.raises(ArchiveError):
        ll.load(path)


OPTIONS = {
    "input_size": 2, "hidden_size": 3, "bias": True, "input_dropout": 0.0,
    "recurrent_dropout": 0.0, "replicas": None, "backend": "auto",
}  # fmt: skip
GRU = {"type": "GRU", "recurrent_bias": True, **OPTIONS}
SPEEDY = {"type": "Scaled", "built_in": False, "fields": {"speed": 2}, "values": []}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"model": {**GRU, "type": "Transformer"}}, "it names the layer 'Transformer'; known: GRU"),
        ({"model": {**GRU, "type": "os.system"}}, "it names the layer 'os.system'"),
        ({"model": {**GRU, "colour": "red"}}, "describes no model that can be built here"),
        (
            {"model": {**GRU, "hidden_size": 4}},
            r"'bias' is \(9,\) of torch.float32, expected \(12,\)",
        ),
        (
            {"model": {**GRU, "bias": False}},
            "the tensor 'bias', which the model has no place for, is there",
        ),
        ({"model": {**GRU, "backend": "cuda"}}, "backend: got 'cuda'"),
        ({"model": {}}, "describes no model"),
        ({"model": "GRU"}, "describes no model"),
        ({}, "describes no model"),
        ({"dtype": "float99"}, "describes no model"),
        ({"dtype": "save"}, "describes no model"),
        (
            {"model": {**OPTIONS, "type": "Recurrent", "cell": SPEEDY}},
            r"the cell 'Scaled' has no fields \['speed'\]",
        ),
    ],
)
def test_a_file_that_names_what_is_not_there_is_refused(tmp_path, document, message):
    path = tmp_path / "m"
    whole = {"model": GRU, "dtype": "float32", "metadata": {}}
    if document:
        whole |= document
    else:
        del whole["model"]
    write_archive(path, "model", whole, ll.GRU(2, 3).state_dict())
    with pytest.raises(ArchiveError, match=message):
        ll.load(path, cells=OWN)


def test_an_archive_of_another_kind_is_refused(tmp_path):
    write_archive(tmp_path / "m", "checkpoint", {}, {})
    with pytest.raises(ArchiveError, match="checkpoint"):
        ll.load(tmp_path / "m")


class Mine(ll.LSTM):
    """A layer class of a user, which no file can name."""


class MineToo(ll.SequenceModel):
    """And a model class."""


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: torch.nn.GRU(2, 3), "model: got GRU, expected a longlag model; for any other"),
        (lambda: Mine(2, 3), "model: got Mine, a class of your own, which load could not build"),
        (lambda: ll.Stack(ll.GRU(2, 3), Mine(3, 3)), "model: got Mine, a class of your own"),
        (lambda: MineToo(ll.GRU(2, 3), 1), "model: got MineToo, a class of your own"),
        (
            lambda: ll.Recurrent(Fields(2.0), 2, 3),
            r"the cell Fields has the fields \['scale'\], which a file cannot hold; declare it",
        ),
        (lambda: ll.Stack(ll.GRU(2, 3), ll.GRU(3, 3).double()), "its weights have several dtypes"),
    ],
)
def test_what_no_file_can_hold_is_refused(tmp_path, model, message):
    with pytest.raises(TypeError, match=message):
        ll.save(model(), tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(OSError, match="nothing"):
        ll.load(tmp_path / "nothing")


def test_what_was_frozen_is_frozen_again(tmp_path):
    model = ll.SequenceModel(ll.Stack(ll.Elman(2, 3), ll.GRU(3, 4)), 1)
    frozen = {"layer.layers.0.weight_hh", "layer.layers.1.bias", "readout.weight"}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    ll.save(model, tmp_path / "model.longlag")
    loaded = ll.load(tmp_path / "model.longlag")
    assert {n for n, p in loaded.named_parameters() if not p.requires_grad} == frozen


def tied_stack():
    stack = ll.Stack(*(ll.LSTM(4, 4, seed=seed) for seed in range(3)))
    stack.layers[2].weight_hh = stack.layers[1].weight_hh
    return stack


def one_layer_twice():
    layer = ll.GRU(4, 2, seed=0)
    return ll.Bidirectional(layer, layer)


def tied_to_the_readout():
    model = ll.SequenceModel(ll.Stack(ll.Elman(4, 4), ll.Elman(4, 4)), 4)
    model.layer.layers[1].weight_ih = model.layer.layers[0].weight_hh
    model.readout.weight = model.layer.layers[0].weight_hh
    return model


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("make", [tied_stack, one_layer_twice, tied_to_the_readout])
def test_what_was_tied_is_tied_again(tmp_path, make, frozen):
    model, x = make(), torch.randn(2, 5, 4)
    model.requires_grad_(not frozen)
    ll.save(model, tmp_path / "model.longlag")
    loaded = ll.load(tmp_path / "model.longlag")
    assert tied(loaded) == tied(model) != {}
    for (name, one), (same, other) in zip(
        model.named_parameters(), loaded.named_parameters(), strict=True
    ):
        assert name == same
        assert torch.equal(one, other)
        assert other.requires_grad is not frozen
    assert torch.equal(*(m(x) if make is tied_to_the_readout else m(x)[0] for m in (model, loaded)))
    ll.save(loaded, tmp_path / "again.longlag")
    assert (tmp_path / "again.longlag").read_bytes() == (tmp_path / "model.longlag").read_bytes()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["layers.1.bias"], "tied: got .* expected an object"),
        ({"layers.1.bias": "layers.0.weight_hh"}, "tied: .* expected two parameters of one shape"),
        ({"layers.1.bias": "layers.7.bias"}, "tied: .* expected two parameters"),
        ({"layers.1": "layers.0"}, "tied: .* expected two parameters"),
        ({"layers.1.bias": ["layers.0.bias"]}, "describes no model"),
    ],
)
def test_ties_that_mean_nothing_are_refused(tmp_path, names, message):
    ll.save(tied_stack(), tmp_path / "model.longlag")
    document, tensors = read_archive(tmp_path / "model.longlag", "model")
    write_archive(tmp_path / "model.longlag", "model", {**document, "tied": names}, tensors)
    with pytest.raises(ArchiveError, match=message):
        ll.load(tmp_path / "model.longlag")
