"""A module that reads backward alone: the half of a bidirectional one that does."""

import pytest
import torch
from tests.layers.test_bidirectional import LENGTHS, RESETS, both
from tests.scan import cases

import longlag as ll
from longlag.layers import Backward


@pytest.mark.parametrize(
    "schedule", [{}, {"lengths": LENGTHS}, {"lengths": LENGTHS, "resets": RESETS}]
)
def test_it_is_the_other_direction_of_a_bidirectional_module(schedule):
    net = both(backend="reference")
    alone = Backward(net.backward_layer)
    x = cases.random(4, 7, 2)
    state = tuple(cases.states_of(ll.cells.LSTM(), (4,), 4, seed=3))
    output, final = net(x, (None, state), **schedule)
    ours, end = alone(x, state, **schedule)
    assert torch.equal(ours, output[..., 3:])
    assert all(map(torch.equal, end, final.backward))
    lengths = schedule.get("lengths")
    assert torch.equal(alone.last(ours, lengths), net.last(output, lengths)[:, 3:])
    assert [part.path for part in alone.parts()] == ["layer"]
    assert not alone.causal


@pytest.mark.slow
def test_it_is_saved_trained_and_refused_where_steps_go_forward(tmp_path):
    layer = ll.Stack(Backward(ll.GRU(2, 4, backend="derived")), ll.Elman(4, 3, backend="derived"))
    model = ll.SequenceModel(layer, 1)
    ll.fit(model, (torch.randn(8, 5, 2), torch.randn(8, 1)), epochs=1, progress=False)
    ll.save(model, tmp_path / "model.longlag")
    x = torch.randn(3, 5, 2)
    assert torch.equal(ll.load(tmp_path / "model.longlag")(x), model(x))
    with pytest.raises(ValueError, match="bidirectional Backward, whose first output depends on"):
        ll.fit(model, (x, torch.randn(3, 1)), method=ll.RTRL(), epochs=1, progress=False)
    with pytest.raises(ValueError, match="reads in both directions"):
        model.generate(3, warmup=x)


def test_what_is_no_recurrent_module_is_refused():
    with pytest.raises(TypeError, match="layer: got Linear, expected a recurrent module"):
        Backward(torch.nn.Linear(2, 3))
    with pytest.raises(ValueError, match=r"x: got shape \(2, 3\), expected \(N, T, 2\)"):
        Backward(ll.GRU(2, 3))(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="it has no Backward"):
        Backward(ll.GRU(2, 3)).to_torch()
