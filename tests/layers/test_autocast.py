"""Inside torch.autocast: x and the state of lower precision than the weights.

What is read has the numbers of the lower precision, so that all must be equal, bit for bit, to what
the same numbers in float32 give in the same region.
"""

import pytest
import torch
from tests.conformance.test_own_cells import Clipped
from torch import nn

import longlag as ll
from longlag.layers.state_tree import detached, map_tensors, tensors_of

HALVES = (torch.bfloat16, torch.float16)
N, T, C, H = 3, 6, 4, 8
LENGTHS = torch.tensor([6, 4, 1])
STARTS = torch.arange(N * T).view(N, T) % 5 == 3

LAYERS = {
    **{name: (lambda kind=name: getattr(ll, kind)(C, H, seed=0)) for name in ll.cells.__all__},
    "own": lambda: ll.Recurrent(Clipped(), C, H, seed=0),
    "sparse": lambda: ll.Elman(C, H, density=0.5, seed=0),
    "derived": lambda: ll.LSTM(C, H, backend="derived", seed=0),
    "reference": lambda: ll.GRU(C, H, backend="reference", seed=0),
    "both directions": lambda: ll.Bidirectional(ll.LSTM(C, H, seed=0), seed=1),
    "stack": lambda: ll.Stack(ll.LSTM(C, H, seed=0), ll.Bidirectional(ll.GRU(H, 2, seed=1))),
}


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def lowered(dtype=torch.bfloat16):
    return torch.autocast("cpu", dtype)


QUICK = ("LSTM", "Clockwork", "reference", "both directions")


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(
    "kind",
    [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in LAYERS],
)
def test_a_layer_reads_lower_precision_and_keeps_its_own(kind, dtype):
    layer, low = LAYERS[kind](), drawn(N, T, C).to(dtype).requires_grad_()
    high = low.detach().float().requires_grad_()
    options = {"lengths": LENGTHS, "resets": STARTS}
    with lowered(dtype):
        output, state = layer(low, **options)
        expected, final = layer(high, **options)
    assert torch.equal(output, expected)
    assert {part.dtype for part in (output, *tensors_of(state))} == {torch.float32}
    assert all(map(torch.equal, tensors_of(state), tensors_of(final)))
    output.square().sum().backward()
    gradients = [parameter.grad for parameter in layer.parameters()]
    layer.zero_grad()
    expected.square().sum().backward()
    for gradient, parameter in zip(gradients, layer.parameters(), strict=True):
        assert gradient.dtype == torch.float32
        assert torch.equal(gradient, parameter.grad)
    assert low.grad.dtype == dtype
    assert torch.equal(low.grad, high.grad.to(dtype))


@pytest.mark.parametrize("kind", ["LSTM", "Clockwork", "both directions"])
def test_so_may_the_state_be(kind):
    layer, x = LAYERS[kind](), drawn(N, T, C)
    _, state = layer(x)
    low = map_tensors(state, lambda part: part.bfloat16())
    high = map_tensors(low, lambda part: part.float())
    with lowered():
        assert torch.equal(layer(x, low)[0], layer(x, high)[0])
        assert torch.equal(layer(x.bfloat16(), low)[0], layer(x.bfloat16().float(), high)[0])
    for part in (x, x.bfloat16()):
        with pytest.raises(TypeError, match=r"got torch.bfloat16"):
            layer(part, low)


def test_a_linear_layer_may_stand_before_as_for_torch():
    before, x = nn.Linear(C, C), drawn(N, T, C)
    layer, theirs = ll.GRU(C, H, seed=0), nn.GRU(C, H, batch_first=True)
    for module in (layer, theirs):
        with lowered():
            output, _ = module(before(x))
        output.sum().backward()
        assert {part.grad.dtype for part in module.parameters()} == {torch.float32}
    replicas = ll.GRU(C, H, replicas=2, seed=0)
    with lowered():
        assert replicas(before(x).expand(2, N, T, C))[0].dtype == torch.float32


def test_what_autocast_leaves_alone_is_refused_as_ever():
    x, double = drawn(N, T, C), ll.LSTM(C, H, dtype=torch.float64)
    layer = ll.LSTM(C, H, seed=0)
    with lowered():
        with pytest.raises(TypeError, match=r"x: got torch.float64, expected torch.float32"):
            layer(x.double())
        with pytest.raises(TypeError, match=r"x: got torch.int64, expected torch.float32"):
            layer(x.long())
        with pytest.raises(TypeError, match=r"x: got torch.bfloat16, expected torch.float64"):
            double(x.bfloat16())
        with torch.autocast("cpu", enabled=False), pytest.raises(TypeError, match=r"x: got torch"):
            layer(x.bfloat16())
        assert double(x.double())[0].dtype == torch.float64
        assert ll.LSTM(C, H, dtype=torch.bfloat16)(x)[0].dtype == torch.bfloat16
    with pytest.raises(TypeError, match=r"x: got torch.bfloat16, expected torch.float32"):
        layer(x.bfloat16())


def model(reduce=None, direct=False):
    layer = ll.Stack(ll.LSTM(C, H, seed=0), ll.LSTM(H, 3, seed=1))
    return ll.SequenceModel(layer, 2, reduce=reduce, direct=direct, seed=2)


def test_the_direct_connection_is_averaged_in_the_precision_of_the_weights():
    x = drawn(2, 3000, C).bfloat16()
    with lowered():
        output = model("mean", direct=True)(x)
        assert torch.equal(output, model("mean", direct=True)(x.float()))


METHODS = (
    ll.BPTT(),
    ll.CheckpointedBPTT(2),
    ll.TruncatedBPTT(2, 4),
    ll.RTRL(),
    ll.SnAp1(),
    ll.Omega(),
)


@pytest.mark.parametrize(
    "reduce", ["mean", *(pytest.param(other, marks=pytest.mark.slow) for other in (None, "last"))]
)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_every_method_finds_the_same_gradients(method, reduce):
    net, x = model(reduce, direct=True), drawn(N, T, C).bfloat16()
    target = drawn(*((N, T) if reduce is None else (N,)), 2, seed=3)
    state = detached(net.layer(drawn(N, 2, C))[1])
    low = map_tensors(state, lambda part: part.bfloat16())
    high = map_tensors(low, lambda part: part.float())
    find, loss = method.gradients, nn.functional.mse_loss
    with lowered():
        gradients = find(net, x, target, loss, state=low, lengths=LENGTHS)
        expected = find(net, x.float(), target, loss, state=high, lengths=LENGTHS)
    for name, gradient in gradients.items():
        assert gradient.dtype == torch.float32
        assert torch.equal(gradient, expected[name]), name
    with pytest.raises(TypeError, match=r"x: got torch.bfloat16, expected torch.float32"):
        find(net, x, target, loss)


MEASURES = {
    "memory_report": lambda net, x, y: ll.memory_report(net, x, y).jacobian_norms,
    "state_jacobians": lambda net, x, y: ll.state_jacobians(net.layer.layers[0], x),
    "state_errors": lambda net, x, y: ll.state_errors(net, x, y, nn.functional.mse_loss).output,
    "gradient_by_lag": lambda net, x, y: ll.gradient_by_lag(net, x, y, nn.functional.mse_loss),
}


@pytest.mark.parametrize(
    "measure",
    [
        pytest.param(call, id=name, marks=pytest.mark.slow if name == "memory_report" else ())
        for name, call in MEASURES.items()
    ],
)
def test_what_looks_inside_a_model_reads_it_too(measure):
    net, x, y = model(), drawn(N, T, C).bfloat16(), drawn(N, T, 2)
    with lowered():
        ours, expected = measure(net, x, y), measure(net, x.float(), y)
    assert str(ours) == str(expected)
    with pytest.raises(TypeError, match=r"x: got torch.bfloat16, expected torch.float32"):
        measure(net, x, y)
