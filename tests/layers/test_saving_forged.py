"""Files whose digest is right and whose content is not: they load, or are an ArchiveError."""

import copy
import random
import time

import pytest
import torch
from tests.layers.test_saving import MODELS, OWN, tied_stack
from tests.scan import cases

import longlag as ll
from longlag.layers.saving import load_with_metadata
from longlag.storage import ArchiveError, read_archive, write_archive

SPARSE = {
    "sparse": lambda: ll.GRU(2, 6, density=0.5, replicas=2),
    "sparse stack": lambda: ll.Stack(ll.Elman(2, 4, density=0.3), ll.Elman(4, 4)),
    "Skip": lambda: ll.Skip(2, 3, delays=(1, 3)),
    "tied": tied_stack,
    "Clockwork": lambda: ll.Clockwork(2, 4, periods=(1, 2)),
}
MAKE = {**MODELS, **SPARSE}
SOME = [
    pytest.param(name, marks=pytest.mark.slow if number % 4 else ())
    for number, name in enumerate(MAKE)
]
VALUES = (
    None, True, -1, 0, 7, 6000, 10**12, 10**30, 10**400, 0.5, "", "meta", "cuda", "os.system",
    "\ud800", "a" * 10_000, [], [1], [[]], {}, {"type": "GRU"}, {"\udfff": None},
)  # fmt: skip
"""What may stand where something else should."""


def places(tree, path=()):
    """The paths of all that a document consists of."""
    if path:
        yield path
    for key in tree if isinstance(tree, dict) else range(len(tree)) if type(tree) is list else ():
        yield from places(tree[key], (*path, key))


def changed(document, path, change):
    """A copy of a document, something in it changed."""
    document = copy.deepcopy(document)
    part = document
    for key in path[:-1]:
        part = part[key]
    change(part, path[-1])
    return document


def put(value):
    return lambda part, key: part.__setitem__(key, value)


def rename(part, key):
    if isinstance(part, dict):
        part[f"{key}\ud800"] = part.pop(key)
    else:
        part.append(part[key])


def mutants(document):
    for path in places(document):
        yield f"{path}: removed", changed(document, path, lambda part, key: part.pop(key))
        yield f"{path}: renamed", changed(document, path, rename)
        for value in VALUES:
            yield f"{path}: {value!r:.40}", changed(document, path, put(value))


def load_or_refuse(path, document, tensors, case):
    """Load; whatever is wrong is an ArchiveError that can be printed, at once."""
    write_archive(path, "model", document, tensors)
    start = time.perf_counter()
    try:
        model, _ = load_with_metadata(path, cells=OWN)
    except Exception as error:
        if not isinstance(error, ArchiveError):
            pytest.fail(f"{case}: {error!r:.300}")
        message = str(error)
    else:
        message = None
        assert not any(tensor.is_meta for tensor in model.state_dict().values()), case
        assert sum(tensor.numel() for tensor in model.state_dict().values()) < 10_000, case
    if message is not None:
        assert str(path) in message, case
        assert message.encode(), case
        assert len(message) < 2000, case
    assert time.perf_counter() - start < 5, case


@pytest.fixture
def saved(tmp_path, request):
    """A path, and the document and tensors of a good file there."""
    path = tmp_path / "model.longlag"
    ll.save(MAKE[request.param](), path, metadata={"epoch": 3})
    return path, *read_archive(path, "model")


@pytest.mark.parametrize("saved", SOME, indirect=True)
def test_some_wrong_documents(saved, request):
    path, document, tensors = saved
    generator = random.Random(request.node.name)
    for case, mutant in generator.sample([*mutants(document)], 20):
        load_or_refuse(path, mutant, tensors, case)


@pytest.mark.long
@pytest.mark.parametrize("saved", MAKE, indirect=True)
def test_all_wrong_documents(saved):
    path, document, tensors = saved
    for case, mutant in mutants(document):
        load_or_refuse(path, mutant, tensors, case)


@pytest.mark.parametrize("saved", ["model", "replicas", "sparse", "Leaky", "both"], indirect=True)
def test_wrong_tensors(saved):
    path, document, tensors = saved
    for name, tensor in tensors.items():
        others = {
            "longer": torch.cat([tensor, tensor]),
            "empty": tensor[:0],
            "deeper": tensor[None],
            "double": tensor.double(),
            "whole": tensor.int(),
            "complex": tensor.to(torch.complex64),
        }
        for what, other in others.items():
            write_archive(path, "model", document, {**tensors, name: other})
            with pytest.raises(ArchiveError, match=r"model\.longlag: describes no model"):
                ll.load(path)
            assert what
        for wrong in ({f"{name}\n": tensor}, {}):
            kept = {key: value for key, value in tensors.items() if key != name}
            write_archive(path, "model", document, {**kept, **wrong})
            with pytest.raises(ArchiveError, match=r"model\.longlag: describes no model"):
                ll.load(path)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("weight_hh_indices", [0, 99, 1, 2]),
        ("weight_hh_indices", [0, -1, 1, 2]),
        ("weight_hh_indptr", [0, 4, 3, 2, 4]),
        ("weight_hh_indptr", [0, 2**63 - 1, -(2**63), -1, 4]),
        ("weight_hh_indptr", [0, 1, 2, 3, 4, 4, 4, 4, 4]),
    ],
)
def test_wrong_places_of_a_sparse_matrix(tmp_path, name, numbers):
    path = tmp_path / "model.longlag"
    ll.save(ll.Elman(2, 4, density=0.25), path)
    document, tensors = read_archive(path, "model")
    write_archive(path, "model", document, {**tensors, name: torch.tensor(numbers)})
    with pytest.raises(ArchiveError, match="describes no model"):
        ll.load(path)


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("device", "meta", "GRU: has the unknown entry 'device'"),
        ("seed", 0, "GRU: has the unknown entry 'seed'"),
        ("weight_hh_init", "orthogonal", "GRU: has the unknown entry 'weight_hh_init'"),
        ("bias", "no", "bias: got 'no', and the model has True"),
        ("recurrent_bias", {"a": 1}, "recurrent_bias: got {'a': 1}, expected a bool"),
        ("density", 0.5, "weight_hh: its density is given, and no entries"),
        ("hidden_size", 6000, r"'bias' is \(9,\) of torch.float32, expected \(18000,\)"),
        ("replicas", 10**9, r"'bias' is \(9,\) of torch.float32, expected \(1000000000, 9\)"),
    ],
)
def test_what_is_no_entry_of_a_layer_is_named(tmp_path, entry, value, message):
    path = tmp_path / "model.longlag"
    ll.save(ll.GRU(2, 3), path)
    document, tensors = read_archive(path, "model")
    document["model"][entry] = value
    write_archive(path, "model", document, tensors)
    start = time.perf_counter()
    with pytest.raises(ArchiveError, match=message):
        ll.load(path)
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize("name", ["save", "nn", "distributed", "int64", "complex64", "Tensor", 3])
def test_a_dtype_is_one_of_a_table(tmp_path, name):
    path = tmp_path / "model.longlag"
    ll.save(ll.GRU(2, 3), path)
    document, tensors = read_archive(path, "model")
    write_archive(path, "model", {**document, "dtype": name}, tensors)
    with pytest.raises(ArchiveError, match=f"dtype: got {name!r}, expected one of float64, float3"):
        ll.load(path)


class Unwilling(cases.Mixed):
    """A cell that does not let itself be made again."""

    error: type[Exception] | None = None

    def __init__(self):
        if self.error is not None:
            raise self.error("of the cell")


@pytest.mark.parametrize(
    "error", [AssertionError, KeyError, ZeroDivisionError, OverflowError, NotImplementedError]
)
def test_whatever_a_cell_of_ones_own_raises_names_the_file(tmp_path, monkeypatch, error):
    ll.save(ll.Recurrent(Unwilling(), 2, 3), tmp_path / "m")
    monkeypatch.setattr(Unwilling, "error", error)
    with pytest.raises(ArchiveError, match=r"m: describes no model .*of the cell"):
        ll.load(tmp_path / "m", cells=[Unwilling])


@pytest.mark.parametrize("direct", [False, True])
def test_a_model_of_version_0_1_loads(tmp_path, direct):
    model = ll.SequenceModel(
        ll.LSTM(2, 3), 4, reduce="mean", direct=direct, bias=False, output_activation="tanh"
    )
    layer = model.layer.config()
    del layer["density"]
    document = {
        "model": {
            "type": "SequenceModel", "layer": layer, "output_size": 4, "reduce": "mean",
            "direct": direct, "bias": False, "output_activation": "tanh",
        },
        "dtype": "float32",
        "metadata": {},
    }  # fmt: skip
    write_archive(tmp_path / "m", "model", document, model.state_dict())
    x = torch.randn(2, 5, 2)
    assert torch.equal(ll.load(tmp_path / "m")(x), model(x))
    for case, mutant in mutants(document):
        if "\\ud800" in case or "removed" in case or "meta" in case:
            load_or_refuse(tmp_path / "m", mutant, model.state_dict(), case)


def test_loading_draws_no_number_and_gives_weights_of_their_own(tmp_path):
    ll.save(ll.SequenceModel(ll.GRU(2, 6, density=0.5), 1), tmp_path / "m")
    state = torch.get_rng_state()
    first, second = ll.load(tmp_path / "m"), ll.load(tmp_path / "m")
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    assert all(parameter.any() for parameter in second.parameters() if parameter.dim() > 1)
    second(torch.ones(2, 3, 2)).sum().backward()


def test_the_longest_delay_has_a_limit():
    with pytest.raises(ValueError, match="delays: got 1000000000, expected at most 10000 steps"):
        ll.Skip(2, 3, delays=(1, 10**9))


def test_a_whole_number_may_stand_for_true(tmp_path):
    layer = ll.LSTM(2, 3, peepholes=1, forget_bias=2, seed=0)  # type: ignore[arg-type]
    ll.save(layer, tmp_path / "m")
    x = torch.ones(1, 4, 2)
    assert torch.equal(ll.load(tmp_path / "m")(x)[0], layer(x)[0])
