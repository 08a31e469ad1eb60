import pytest
import torch
from tests.scan import cases

import longlag as ll
from longlag.layers.bidirectional import BidirectionalState

LENGTHS = torch.tensor([7, 3, 0, 5])
RESETS = torch.zeros(4, 7, dtype=torch.bool)
RESETS[0, 3] = RESETS[0, 5] = RESETS[1, 1] = RESETS[3, 0] = RESETS[3, 4] = True
RESETS[1, 3] = RESETS[2, 2] = True  # in the padding, where they mean nothing


def both(**options):
    ahead, back = (
        cases.layer_of(ll.cells.LSTM(), 2, hidden, seed=seed, **options)
        for hidden, seed in ((3, 1), (4, 2))
    )
    return ll.Bidirectional(ahead, back)


def by_segments(net, x, state):
    """Each sequence cut at its resets, each piece read on its own, the backward one flipped."""
    outputs, ends = [], []
    for row, length in enumerate(LENGTHS.tolist()):
        first = [tuple(part[row : row + 1] for part in direction) for direction in state]
        starts = [0] + [t for t in range(1, length) if RESETS[row, t]]
        pieces = list(zip(starts, [*starts[1:], length], strict=True))
        ahead, back = first[0], first[1]
        if length and RESETS[row, 0]:
            ahead = None
        lefts, rights = [], []
        for start, stop in pieces:
            left, ahead_end = net.forward_layer(x[row : row + 1, start:stop], ahead)
            lefts.append(left)
            ahead = None
        for start, stop in reversed(pieces):
            piece = x[row : row + 1, start:stop].flip(1)
            right, back_end = net.backward_layer(piece, back)
            rights.insert(0, right.flip(1))
            back = None
        whole = torch.cat([torch.cat(lefts, 1), torch.cat(rights, 1)], -1)
        padding = whole.new_zeros(1, 7 - length, whole.shape[-1])
        outputs.append(torch.cat([whole, padding], 1))
        ends.append([*ahead_end, *back_end])
    return torch.cat(outputs), [torch.cat(parts) for parts in zip(*ends, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_lengths_and_resets_are_segments_read_on_their_own(backend):
    net = both(backend=backend)
    x = cases.random(4, 7, 2).requires_grad_()
    state = [tuple(cases.random(4, h, seed=h + n) for n in range(2)) for h in (3, 4)]
    output, final = net(x, state, lengths=LENGTHS, resets=RESETS)
    expected, ends = by_segments(net, x, state)
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-13)
    for mine, theirs in zip((*final.forward, *final.backward), ends, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-13)
    inputs = [x, *net.parameters()]
    weight = cases.random(*output.shape, seed=5)
    ours, theirs = (torch.autograd.grad((out * weight).sum(), inputs) for out in (output, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_without_lengths_and_resets():
    net, x = both(), cases.random(2, 5, 2)
    output, final = net(x)
    assert isinstance(final, BidirectionalState)
    back, end = net.backward_layer(x.flip(1))
    torch.testing.assert_close(output[..., :3], net.forward_layer(x)[0])
    torch.testing.assert_close(output[..., 3:], back.flip(1))
    torch.testing.assert_close(final.backward.c, end.c)


def test_padding_even_nan_changes_nothing():
    net, x = both(), cases.random(4, 7, 2)
    padding = (torch.arange(7) >= LENGTHS.unsqueeze(-1)).unsqueeze(-1)
    results = [
        net(x.masked_fill(padding, filling), lengths=LENGTHS, resets=RESETS)[0]
        for filling in (0.0, float("nan"))
    ]
    assert torch.equal(*results)
    assert (results[0].masked_select(padding) == 0).all()


def test_the_last_word_is_after_the_last_step_and_after_the_first():
    net, x = both(), cases.random(4, 7, 2)
    output, final = net(x, lengths=LENGTHS)
    last = net.last(output, LENGTHS)
    expected = torch.cat([final.forward.h, final.backward.h], -1)
    torch.testing.assert_close(last, expected, rtol=1e-13, atol=0)
    whole, end = net(x)
    torch.testing.assert_close(net.last(whole), torch.cat([end.forward.h, end.backward.h], -1))
    assert net.last(whole[:, :0]).shape == (4, 7)


def test_replicas_are_that_many_networks():
    many = both(replicas=2)
    x = cases.random(2, 4, 7, 2)
    lengths, resets = torch.stack([LENGTHS, LENGTHS.flip(0)]), torch.stack([RESETS, RESETS.flip(0)])
    output, final = many(x, lengths=lengths, resets=resets)
    output.square().sum().backward()
    for r in range(2):
        one = both()
        one.load_state_dict({name: value[r] for name, value in many.state_dict().items()})
        alone, end = one(x[r], lengths=lengths[r], resets=resets[r])
        alone.square().sum().backward()
        torch.testing.assert_close(alone, output[r], rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(end.backward.c, final.backward.c[r], rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(many.last(output, lengths)[r], one.last(alone, lengths[r]))
        for mine, theirs in zip(one.parameters(), many.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad[r], rtol=1e-11, atol=1e-12)


def test_the_second_direction_has_parameters_of_its_own():
    torch.manual_seed(0)
    net = ll.Bidirectional(ll.GRU(2, 3))
    assert net.output_size == 6
    assert not torch.equal(net.forward_layer.weight_ih, net.backward_layer.weight_ih)
    before = [p.clone() for p in net.parameters()]
    net.reset_parameters()
    assert not torch.equal(before[0], next(net.parameters()))


def test_a_seed_fixes_the_second_direction():
    nets = [
        ll.Bidirectional(ll.Stack(ll.GRU(2, 3, seed=0), ll.GRU(3, 3, seed=1)), seed=2)
        for _ in range(2)
    ]
    for one, other in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.equal(one, other)
    upper, lower = nets[0].backward_layer.layers
    assert not torch.equal(upper.weight_hh, lower.weight_hh)


def test_a_stack_may_be_read_both_ways():
    net = ll.Bidirectional(ll.Stack(ll.GRU(2, 3), ll.Elman(3, 4)))
    output, final = net(torch.randn(2, 5, 2))
    assert output.shape == (2, 5, 8)
    assert final.backward[1].h.shape == (2, 4)
    again, _ = net(torch.randn(2, 5, 2), final)
    assert again.shape == output.shape


@pytest.mark.parametrize("given", [torch.nn.LSTM(2, 3), None])
def test_what_is_no_recurrent_module_is_refused(given):
    with pytest.raises(TypeError, match=r"layer: got .*, expected a recurrent module of longlag"):
        ll.Bidirectional(given)


def test_directions_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="backward_layer: has input_size=3, expected 2, as the"):
        ll.Bidirectional(ll.GRU(2, 3), ll.GRU(3, 3))
    with pytest.raises(ValueError, match="backward_layer: has replicas=2, expected None"):
        ll.Bidirectional(ll.GRU(2, 3), ll.GRU(2, 3, replicas=2))


@pytest.mark.parametrize(
    ("state", "came"), [(torch.zeros(2, 3), "Tensor"), ((None,), "1 parts"), ({}, "dict")]
)
def test_a_state_that_is_no_pair_is_refused(state, came):
    with pytest.raises(ValueError, match=f"state: got {came}, expected a tuple of 2: "):
        ll.Bidirectional(ll.GRU(2, 3))(torch.zeros(2, 4, 2), state)
