import pytest
import torch
from tests.scan import cases

import longlag as ll


def net_of(**options):
    return ll.Stack(
        cases.layer_of(ll.cells.LSTM(), 2, 3, seed=1, **options),
        cases.layer_of(ll.cells.Leaky(leak=0.4), 3, 5, seed=2, **options),
        cases.layer_of(ll.cells.GRU(), 5, 4, seed=3, **options),
    )


def test_each_reads_the_output_of_the_one_below():
    net, x = net_of(), cases.random(2, 6, 2)
    states = [
        [cases.random(2, 3, seed=1), cases.random(2, 3, seed=2)],
        [cases.random(2, 5, seed=3)],
        cases.random(2, 4, seed=4),
    ]
    lengths, resets = torch.tensor([6, 3]), torch.zeros(2, 6, dtype=torch.bool)
    resets[0, 2] = True
    output, final = net(x, states, lengths=lengths, resets=resets)
    expected = x
    for layer, state, end in zip(net.layers, states, final, strict=True):
        expected, after = layer(expected, state, lengths=lengths, resets=resets)
        for mine, theirs in zip(end, after, strict=True):
            assert torch.equal(mine, theirs)
    assert torch.equal(output, expected)
    assert (net.input_size, net.output_size, net.replicas) == (2, 4, None)


def test_windows_with_the_state_carried_are_one_long_run():
    net, x = net_of(), cases.random(2, 6, 2)
    whole, end = net(x)
    first, state = net(x[:, :2])
    second, state = net(x[:, 2:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(state[0].c, end[0].c, rtol=1e-13, atol=1e-14)


def test_replicas_are_that_many_networks():
    many, x = net_of(replicas=3), cases.random(3, 2, 6, 2)
    output, _ = many(x)
    output.square().sum().backward()
    for r in range(3):
        one = net_of()
        one.load_state_dict({n: v if v.dim() < 1 else v[r] for n, v in many.state_dict().items()})
        alone, _ = one(x[r])
        alone.square().sum().backward()
        torch.testing.assert_close(alone, output[r], rtol=1e-12, atol=1e-13)
        for mine, theirs in zip(one.parameters(), many.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad[r], rtol=1e-11, atol=1e-12)


def test_dropout_stands_between_the_modules_in_training_only():
    identity = {"leak": 1.0, "recurrent": False, "activation": "identity", "bias": False}
    layers = [ll.Leaky(40, 40, weight_ih_init="identity", **identity) for _ in range(2)]
    net, x = ll.Stack(*layers, dropout=0.25), torch.ones(30, 5, 40)
    output, _ = net(x)
    assert output.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert 0.2 < (output == 0).float().mean() < 0.3
    assert not torch.equal(output[:, 0], output[:, 1])
    assert torch.equal(net.eval()(x)[0], x)
    assert torch.equal(ll.Stack(layers[0], dropout=0.25)(x)[0], x)


def test_the_last_word_is_the_top_modules():
    net = ll.Stack(ll.GRU(2, 3), ll.Bidirectional(ll.GRU(3, 4)))
    output, final = net(torch.randn(3, 5, 2), lengths=torch.tensor([5, 2, 1]))
    expected = torch.cat([final[1].forward.h, final[1].backward.h], -1)
    torch.testing.assert_close(net.last(output, torch.tensor([5, 2, 1])), expected)


def test_reset_parameters_reaches_every_layer():
    net = net_of()
    before = [layer.weight_ih.clone() for layer in net.layers]
    net.reset_parameters()
    assert all(
        not torch.equal(old, layer.weight_ih) for old, layer in zip(before, net.layers, strict=True)
    )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ll.Stack(), ValueError, "layers: got none, expected at least one recurrent"),
        (
            lambda: ll.Stack(ll.GRU(2, 3), torch.nn.GRU(3, 4)),
            TypeError,
            r"layers\[1\]: got GRU, expected a recurrent module of longlag; ll.from_torch",
        ),
        (
            lambda: ll.Stack(ll.GRU(2, 3), ll.GRU(4, 5)),
            ValueError,
            r"layers\[1\]: reads 4 features, but the layer below puts out 3; set its input_size to",
        ),
        (
            lambda: ll.Stack(ll.GRU(2, 3), ll.GRU(3, 3, replicas=2)),
            ValueError,
            r"layers\[1\]: has replicas=2, but the layer below has replicas=None; give both",
        ),
        (
            lambda: ll.Stack(ll.GRU(2, 3), dropout=1.0),
            ValueError,
            r"dropout: got 1.0, expected a probability in \[0, 1\)",
        ),
        (
            lambda: ll.Stack(ll.GRU(2, 3))(torch.zeros(1, 2, 2), (None, None)),
            ValueError,
            "state: got 2 parts, expected a tuple of 1: ",
        ),
        (
            lambda: ll.Stack(ll.GRU(2, 3))(torch.zeros(1, 2, 2), torch.zeros(1, 3)),
            ValueError,
            "state: got .*Tensor.*, expected a tuple of 1",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
