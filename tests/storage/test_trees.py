import json
import math
import random
from collections import Counter, OrderedDict, deque

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from longlag.storage import from_document, to_document


def round_trip(tree):
    document, tensors = to_document(tree)
    return from_document(json.loads(json.dumps(document, allow_nan=False)), tensors)


def same(a, b) -> bool:
    """Equal in type, value, key order and bits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return same(list(a.items()), list(b.items()))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a, math.copysign(1, a)) == (
            b,
            math.copysign(1, b),
        )
    if isinstance(a, torch.Tensor):
        return (
            a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
        )
    if isinstance(a, np.ndarray | np.generic):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return a == b


tensors = st.builds(
    lambda shape, dtype: torch.arange(math.prod(shape)).reshape(shape).to(dtype),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from([torch.float32, torch.float64, torch.int64, torch.bool]),
)
arrays = st.builds(
    lambda shape, dtype: np.arange(math.prod(shape)).reshape(shape).astype(dtype),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(["f4", "f8", "u4", "u8", "i2", "c16", "?", ">i4"]),
)
keys = st.recursive(
    st.text() | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=2).map(tuple),
    max_leaves=3,
)
leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | tensors | arrays
    | st.floats().map(np.float64)
)  # fmt: skip
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
        | st.dictionaries(keys, inner, max_size=3).map(OrderedDict)
    ),
    max_leaves=12,
)


@pytest.mark.slow
@given(trees)
def test_any_state_comes_back_the_same(tree):
    assert same(round_trip(tree), tree)


@pytest.mark.parametrize(
    "tree",
    [
        {"$tensor": "not a tensor"},
        {"$dict": [], "a": {"$float": "inf"}},
        {0: 1, "0": 2, 1.5: 3, (0,): 4},
        {"a": torch.zeros(1), "a/b": torch.ones(1)},
        {"a/b": torch.zeros(1), "a": {"b": torch.ones(1)}},
        {0: torch.zeros(1), "0": torch.ones(1)},
        {"__metadata__": torch.ones(1)},
        torch.ones(()),
        [-0.0, 0.0, math.inf, -math.inf, math.nan, 5e-324, 1e308, 0.1 + 0.2],
        10**40,
        Counter({30: 2, 60: 1}),
        "Ελληνικά \x00 \ud7ff",
    ],
    ids=repr,
)
def test_states_that_look_like_tags_or_share_names(tree):
    assert same(round_trip(tree), tree)


def test_generator_states_continue_the_same():
    numpy_new, numpy_old, python = (
        np.random.default_rng(1),
        np.random.RandomState(1),
        random.Random(1),
    )
    for generator in (numpy_new, numpy_old, python):
        generator.random()
    state = {
        "new": numpy_new.bit_generator.state,
        "old": numpy_old.get_state(),
        "python": python.getstate(),
    }
    expected = [numpy_new.random(), numpy_old.random(), python.random()]
    again = round_trip(state)
    numpy_new.bit_generator.state = again["new"]
    numpy_old.set_state(again["old"])
    python.setstate(again["python"])
    assert [numpy_new.random(), numpy_old.random(), python.random()] == expected


def test_optimizer_state_keeps_its_integer_keys():
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([parameter])
    parameter.grad = torch.ones(2)
    optimizer.step()
    again = round_trip(optimizer.state_dict())
    assert list(again["state"]) == [0]
    assert type(again["param_groups"][0]["betas"]) is tuple
    assert same(again, optimizer.state_dict())


def test_a_parameter_comes_back_as_a_plain_tensor():
    again = round_trip({"w": torch.nn.Parameter(torch.ones(2))})["w"]
    assert type(again) is torch.Tensor
    assert not again.requires_grad


@pytest.mark.parametrize(
    ("tree", "where"),
    [
        ({"optimizer": [1, {"f": lambda: None}]}, "optimizer/1/f"),
        ({"x": (1, {1, 2})}, "x/1"),
        ({"x": deque([1])}, "x"),
        ({"x": {b"k": 1}}, r"x/b'k'"),
        ({"x": object()}, "x"),
        ({"x": np.array(["text"])}, "x"),
        ({"x": np.array([object()])}, "x"),
        ({"x": torch.zeros(2, 2).to_sparse()}, "x"),
        ({"x": torch.zeros(2, device="meta")}, "x"),
        (int, "the top of the tree"),
    ],
)
def test_anything_else_is_refused_by_its_path(tree, where):
    with pytest.raises(TypeError, match=f"^state at {where}: "):
        to_document(tree)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"$tensor": "absent"}, "'absent' that is not beside it"),
        ({"$eval": "1"}, "unknown tag '\\$eval'"),
        ({"$array": "a", "dtype": "O", "shape": [1]}, "only numbers are read"),
        ({"$array": "a", "dtype": "no dtype", "shape": [1]}, "describes no state"),
        ({"$array": "a", "dtype": "f4", "shape": [3]}, "cannot reshape"),
        ({"$array": "a", "dtype": "f4", "shape": "\ud800"}, "describes no state"),
        ({"$array": "a", "dtype": "f4"}, "other entries beside the tag '.array'"),
        ({"$tensor": ["a"]}, "describes no state"),
        ({"$tensor": "a", "b": 1}, "other entries beside the tag '.tensor'"),
        ({"$float": []}, "describes no state"),
        ({"$float": "\ud800"}, "could not convert"),
        ({"$float": 10**400}, "describes no state"),
        ({"$tuple": 3}, "describes no state"),
        ({"$dict": [[1]]}, "not enough values"),
        ({"$dict": [[[], 1]]}, "describes no state"),
        ({"$counter": [[1, 2, 3]]}, "too many values"),
        ([{"a": {"$ordered": None}}], "describes no state"),
    ],
)
def test_a_document_that_names_what_is_not_there(document, message):
    with pytest.raises(ValueError, match=message):
        from_document(document, {"a": torch.zeros(8, dtype=torch.uint8)})
