"""x, lengths, resets and state in every form that users give them, to all that reads sequences."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import longlag as ll
from longlag.layers.state_tree import tensors_of

N, T, C, H = 3, 5, 4, 8
X = torch.randn(N, T, C, generator=torch.Generator().manual_seed(0))
LENGTHS, RESETS = [5, 3, 0], (np.arange(N * T).reshape(N, T) % 4 == 2)
BOTH = ll.Bidirectional(ll.LSTM(C, H, seed=0), seed=1)
NET = ll.SequenceModel(ll.LSTM(C, H, seed=0), 2, reduce=None, seed=1)

MODULES = {
    "layer": ll.LSTM(C, H, seed=0),
    "delays": ll.Skip(C, H, seed=0),
    "clock": ll.Clockwork(C, H, seed=0),
    "stack": ll.Stack(ll.LSTM(C, H, seed=0), ll.GRU(H, H, seed=1)),
    "both": BOTH,
    "stack of both": ll.Stack(BOTH, ll.Bidirectional(ll.GRU(2 * H, 2, seed=1), seed=2)),
    "both of a stack": ll.Bidirectional(ll.Stack(ll.GRU(C, H, seed=0)), seed=1),
    "model": NET,
    "model of both": ll.SequenceModel(BOTH, 2, reduce="last", direct=True, seed=1),
    "mean of both": ll.SequenceModel(BOTH, 2, reduce="mean", direct=True, seed=1),
}


def gradients_by(method):
    def find(x, **options):
        target = torch.zeros(N, T, 2)
        return tuple(method.gradients(NET, x, target, nn.functional.mse_loss, **options).values())

    return find


READERS = {
    **MODULES,
    **{
        type(method).__name__: gradients_by(method)
        for method in (ll.BPTT(), ll.TruncatedBPTT(2), ll.CheckpointedBPTT(2), ll.RTRL())
    },
    "state_jacobians": lambda x, **options: ll.state_jacobians(NET.layer, x, **options),
    "of both": lambda x, **options: tuple(ll.state_jacobians(BOTH, x, **options)),
}

FORMS = {
    "list": lambda values: np.asarray(values).tolist(),
    "array": lambda values: np.asarray(values, np.uint16 if np.ndim(values) == 1 else bool),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(
    "reader",
    [
        pytest.param(reader, id=name, marks=() if name in MODULES else pytest.mark.slow)
        for name, reader in READERS.items()
    ],
)
def test_lengths_and_resets_may_be_lists_and_arrays(reader, form):
    options = {"lengths": torch.tensor(LENGTHS), "resets": torch.from_numpy(RESETS)}
    expected = list(tensors_of(reader(X, **options)))
    others = list(tensors_of(reader(X, lengths=form(LENGTHS), resets=form(RESETS))))
    assert all(map(torch.equal, expected, others))
    for name, values in (("lengths", LENGTHS), ("resets", RESETS)):
        expected = list(tensors_of(reader(X, **{name: options[name]})))
        others = list(tensors_of(reader(X, **{name: form(values)})))
        assert all(map(torch.equal, expected, others))


REFUSED = {
    "x, list": ({"x": X.tolist()}, TypeError, "x: got list, expected a torch.Tensor"),
    "x, array": ({"x": X.numpy()}, TypeError, "x: got ndarray, .* torch.as_tensor"),
    "x, packed": (
        {"x": pack_padded_sequence(X, [5, 3, 2], batch_first=True)},
        TypeError,
        r"x: got PackedSequence, .* pad_packed_sequence\(x, batch_first=True\), with lengths=",
    ),
    "x, one sequence": (
        {"x": X[0]},
        ValueError,
        r"x: got shape \(5, 4\), expected \(N, T, [4C]\); for one sequence \(T, C\) give x.unsq",
    ),
    "x, one step": ({"x": X[0, 0]}, ValueError, r"x: got shape \(4,\), expected \(N, T"),
    "x, a number": ({"x": X[0, 0, 0]}, ValueError, r"x: got shape \(\), expected \(N, T"),
    "x, features": ({"x": X[..., 1:]}, ValueError, r"x: got shape \(3, 5, 3\), expected"),
    "lengths, text": ({"lengths": "no"}, TypeError, "lengths: got 'no', expected a tensor, or an"),
    "lengths, a hole": ({"lengths": [5, None, 0]}, TypeError, r"lengths: got \[5, None, 0\], ex"),
    "lengths, one": ({"lengths": 3}, ValueError, r"lengths: got shape \(\), expected \(3,\)"),
    "lengths, two": ({"lengths": [5, 3]}, ValueError, r"lengths: got shape \(2,\), expected"),
    "lengths, column": ({"lengths": [[5], [3], [0]]}, ValueError, r"lengths: got shape \(3, 1\)"),
    "lengths, long": ({"lengths": [6, 3, 0]}, ValueError, "lengths: got values from 0 to 6"),
    "lengths, floats": ({"lengths": [5.0, 3.0, 0.0]}, TypeError, "lengths: got torch.float32"),
    "resets, ragged": ({"resets": [[True], [True, False]]}, TypeError, r"resets: got \[\[True\]"),
    "resets, whole": ({"resets": RESETS.astype(int)}, TypeError, "resets: got torch.int64"),
    "resets, steps": ({"resets": RESETS[:, :4]}, ValueError, r"resets: got shape \(3, 4\), exp"),
    "resets, sequences": ({"resets": RESETS[:2]}, ValueError, r"resets: got shape \(2, 5\), exp"),
    "resets, one": ({"resets": True}, ValueError, r"resets: got shape \(\), expected \(3, 5\)"),
    "state, text": ({"state": "zeros"}, ValueError, "state: got str, expected"),
    "state, a number": ({"state": 3}, ValueError, "state: got int, expected"),
}


@pytest.mark.parametrize(("options", "error", "message"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_what_cannot_be_read_is_refused_by_name(reader, options, error, message):
    with pytest.raises(error, match=message):
        reader(**{"x": X, **options})


@pytest.mark.parametrize("name", [*MODULES, "state_jacobians"])
def test_a_state_without_the_axis_of_sequences_is_refused(name):
    h = torch.zeros(H)
    with pytest.raises((ValueError, TypeError), match=r"state"):
        READERS[name](X, state=(h, h))


def test_a_state_says_what_it_should_be():
    h = torch.zeros(H)
    with pytest.raises(ValueError, match=r"state.h: got shape \(8,\), expected \(3, 8\): one row"):
        MODULES["layer"](X, (h, h))
    with pytest.raises(TypeError, match=r"state.h: got ndarray, expected a torch.Tensor"):
        MODULES["layer"](X, (np.zeros((N, H)),) * 2)


def test_one_feature_is_not_one_sequence():
    layer = ll.GRU(1, 2)
    with pytest.raises(ValueError, match=r"for one feature give x.unsqueeze\(-1\)"):
        layer(torch.zeros(3, 5))
    with pytest.raises(ValueError, match=r"for one sequence \(T, C\) give x.unsqueeze\(0\)"):
        layer(torch.zeros(5, 1))


@pytest.mark.parametrize("name", ["layer", "stack", "both", "both of a stack"])
def test_the_last_step_by_lists_and_arrays(name):
    module = MODULES[name]
    output = module(X, lengths=LENGTHS)[0]
    expected = module.last(output, torch.tensor(LENGTHS))
    assert torch.equal(module.last(output, LENGTHS), expected)
    assert torch.equal(module.last(output, np.array(LENGTHS)), expected)


def test_a_report_of_both_directions_takes_arrays():
    lengths, resets = [5, 3, 1], torch.from_numpy(RESETS)
    ours = ll.memory.jacobian_norms(BOTH, X, lengths=np.array(lengths), resets=RESETS)
    expected = ll.memory.jacobian_norms(BOTH, X, lengths=torch.tensor(lengths), resets=resets)
    assert str(ours) == str(expected)


def test_what_reads_batch_first_refuses_a_module_that_does_not():
    module, message = nn.GRU(C, 2), r"has batch_first=False; .*from_torch\(model, batch_first=True"
    with pytest.raises(ValueError, match=message):
        ll.memory_report(module, X)
    for method in (ll.TruncatedBPTT(2), ll.CheckpointedBPTT(2)):
        with pytest.raises(ValueError, match=message):
            method.gradients(module, X, torch.zeros(N, T, 2), nn.functional.mse_loss)
