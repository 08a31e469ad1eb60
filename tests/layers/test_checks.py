"""Every message of checks.py: the argument, what came, what was expected, the fix."""

import re

import pytest
import torch

import longlag as ll
from longlag.layers import checks

X = torch.zeros(2, 5, 3)


def read(x=X, state=None, **schedule):
    return ll.LSTM(3, 4)(x, state, **schedule)


REFUSED = {
    "x, list": (
        lambda: read([[1.0]]),
        TypeError,
        "x: got list, expected a torch.Tensor; torch.as_tensor(x) makes one",
    ),
    "x, one sequence": (
        lambda: read(X[0]),
        ValueError,
        "x: got shape (5, 3), expected (N, T, 3); for one sequence (T, C) give x.unsqueeze(0)",
    ),
    "x, one feature": (
        lambda: ll.LSTM(1, 4)(torch.zeros(2, 5)),
        ValueError,
        "x: got shape (2, 5), expected (N, T, 1); for one feature give x.unsqueeze(-1)",
    ),
    "x, features": (
        lambda: read(torch.zeros(2, 3, 5)),
        ValueError,
        "x: got shape (2, 3, 5), expected (N, T, 3); the last axis holds the features, of which "
        "this layer takes 3",
    ),
    "x, too many axes": (lambda: read(X[None]), ValueError, "x: got shape (1, 2, 5, 3), expected"),
    "x, replicas missing": (
        lambda: ll.LSTM(3, 4, replicas=2)(X),
        ValueError,
        "x: got shape (2, 5, 3), expected (2, N, T, 3); the layer has 2 replicas, each with its",
    ),
    "x, other replicas": (
        lambda: ll.LSTM(3, 4, replicas=4)(X.expand(1, 2, 5, 3)),
        ValueError,
        "x: got shape (1, 2, 5, 3), expected (4, N, T, 3); to give every replica the same "
        "sequences, use x.expand(4, ...)",
    ),
    "x, dtype": (
        lambda: read(X.double()),
        TypeError,
        "x: got torch.float64, expected torch.float32, the dtype of the weights; use "
        "x.to(torch.float32) or layer.to(torch.float64)",
    ),
    "x, device": (
        lambda: read(X.to("meta")),
        ValueError,
        "x: is on meta, expected cpu, where the weights are; use x.to('cpu')",
    ),
    "lengths, floats": (
        lambda: read(lengths=torch.tensor([5.0, 2.0])),
        TypeError,
        "lengths: got torch.float32, expected whole numbers (torch.int64)",
    ),
    "lengths, truth values": (
        lambda: read(lengths=torch.tensor([True, False])),
        TypeError,
        "lengths: got torch.bool, expected whole numbers",
    ),
    "lengths, shape": (
        lambda: read(lengths=torch.tensor([5, 2, 1])),
        ValueError,
        "lengths: got shape (3,), expected (2,): one per sequence of x",
    ),
    "lengths, too long": (
        lambda: read(lengths=torch.tensor([6, 2])),
        ValueError,
        "lengths: got values from 2 to 6, expected 0 to 5, the number of steps of x",
    ),
    "lengths, negative": (
        lambda: read(lengths=torch.tensor([-1, 2])),
        ValueError,
        "lengths: got values from -1 to 2, expected 0 to 5",
    ),
    "resets, dtype": (
        lambda: read(resets=torch.zeros(2, 5)),
        TypeError,
        "resets: got torch.float32, expected torch.bool; use resets.bool()",
    ),
    "resets, shape": (
        lambda: read(resets=torch.zeros(2, 4, dtype=torch.bool)),
        ValueError,
        "resets: got shape (2, 4), expected (2, 5): one truth value per step of x",
    ),
    "state, number": (
        lambda: read(state=(torch.zeros(2, 4),)),
        ValueError,
        "state: got 1 items, expected 2 tensors: (h, c)",
    ),
    "state, bare": (
        lambda: read(state=torch.zeros(2, 4)),
        ValueError,
        "state: got 1 items, expected 2 tensors: (h, c)",
    ),
    "state, dict": (lambda: read(state={}), ValueError, "state: got dict, expected 2 tensors"),
    "state, part": (
        lambda: read(state=(torch.zeros(2, 4), None)),
        TypeError,
        "state.c: got NoneType, expected a torch.Tensor",
    ),
    "state, shape": (
        lambda: read(state=(torch.zeros(1, 2, 4), torch.zeros(2, 4))),
        ValueError,
        "state.h: got shape (1, 2, 4), expected (2, 4): one row per sequence of x, one column",
    ),
    "state, dtype": (
        lambda: read(state=(torch.zeros(2, 4), torch.zeros(2, 4).double())),
        TypeError,
        "state.c: got torch.float64 on cpu, expected torch.float32 on cpu, as x",
    ),
    "state, device": (
        lambda: read(state=(torch.zeros(2, 4, device="meta"), torch.zeros(2, 4))),
        TypeError,
        "state.h: got torch.float32 on meta, expected torch.float32 on cpu, as x",
    ),
    "size, negative": (
        lambda: ll.LSTM(-1, 4),
        ValueError,
        "input_size: got -1, expected at least 0",
    ),
    "size, float": (
        lambda: ll.LSTM(3, 4.0),
        TypeError,
        "hidden_size: got 4.0 (float), expected a whole number",
    ),
    "size, truth value": (
        lambda: ll.LSTM(3, True),
        TypeError,
        "hidden_size: got True (bool), expected a whole number",
    ),
    "replicas": (lambda: ll.LSTM(3, 4, replicas=0), ValueError, "replicas: got 0, expected at"),
    "input dropout": (
        lambda: ll.LSTM(3, 4, input_dropout=1.0),
        ValueError,
        "input_dropout: got 1.0, expected a probability in [0, 1)",
    ),
    "recurrent dropout": (
        lambda: ll.LSTM(3, 4, recurrent_dropout=-0.1),
        ValueError,
        "recurrent_dropout: got -0.1, expected a probability in [0, 1)",
    ),
    "dropout, NaN": (
        lambda: ll.LSTM(3, 4, input_dropout=float("nan")),
        ValueError,
        "input_dropout: got nan",
    ),
    "cell, class": (
        lambda: ll.Recurrent(ll.cells.GRU, 3, 4),
        TypeError,
        "expected an instance of a Cell class; write GRU()",
    ),
    "cell, other": (
        lambda: ll.Recurrent("GRU", 3, 4),
        TypeError,
        "cell: got 'GRU', expected an instance of a Cell class",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(call, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_what_fits_is_handed_on():
    assert checks.check_lengths([3, 0], X).dtype == torch.int64
    assert checks.check_resets([[True] * 5] * 2, X).shape == (2, 5)
    assert checks.probability("p", 0) == 0.0
    h = torch.zeros(2, 4)
    assert checks.check_state(h, ll.cells.Elman().recurrence, X, 4) == (h,)
    assert checks.check_state([h, h], ll.cells.LSTM().recurrence, X, 4) == (h, h)
    t = torch.ones(2, 1)
    clockwork = ll.cells.Clockwork().recurrence
    assert checks.check_state([h, t], clockwork, X, 4) == (h, t)
    with pytest.raises(
        ValueError, match=r"state.t: got shape \(2, 4\), expected \(2, 1\): one row"
    ):
        checks.check_state([h, h], clockwork, X, 4)


@pytest.mark.parametrize("value", [["a"], ["a", "b"], [[1], [2, 3]], [None, 2], "ab", {1: 2}])
@pytest.mark.parametrize("argument", ["lengths", "resets"])
@pytest.mark.parametrize("kind", ["layer", "stack", "bidirectional", "model"])
def test_what_is_no_tensor_is_named(argument, value, kind):
    layer = ll.Elman(1, 2, seed=0)
    model = {
        "layer": layer,
        "stack": ll.Stack(layer, ll.GRU(2, 2, seed=1)),
        "bidirectional": ll.Bidirectional(layer, ll.Elman(1, 2, seed=1)),
        "model": ll.SequenceModel(layer, 1),
    }[kind]
    with pytest.raises((TypeError, ValueError), match=rf"^{argument}: got "):
        model(torch.zeros(2, 3, 1), **{argument: value})


def test_a_layer_is_not_to_be_made_one_of_whole_numbers():
    with pytest.raises(TypeError, match=r"x: got torch.int64, .*; use x.to\(torch.float32\)$"):
        read(X.long())
