"""What has no memory of its own never reaches a kernel: fake tensors, wrappers, recorded graphs."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils.flop_counter import FlopCounterMode

import longlag as ll
from longlag.scan import backend
from longlag.scan.backend import BackendWarning

LAYERS = {
    "Elman": lambda: ll.Elman(4, 6, seed=0),
    "LSTM": lambda: ll.LSTM(4, 6, seed=0),
    "GRU": lambda: ll.GRU(4, 6, seed=0),
    "Leaky": lambda: ll.Leaky(4, 6, train_leak=True, seed=0),
    "Clockwork": lambda: ll.Clockwork(4, 6, periods=(1, 2), seed=0),
    "Skip": lambda: ll.Skip(4, 6, delays=(1, 3), seed=0),
    "sparse": lambda: ll.Elman(4, 6, density=0.5, seed=0),
}
pytestmark = pytest.mark.filterwarnings("ignore::longlag.scan.backend.BackendWarning")


def x_of(seed):
    return torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(seed))


def fakes():
    return FakeTensorMode(allow_non_fake_inputs=True)


@pytest.mark.parametrize("name", LAYERS)
def test_fake_tensors_give_shapes_and_leave_the_layer_as_it_was(name):
    layer = LAYERS[name]()
    wanted, _ = LAYERS[name]()(x_of(0))
    mode = fakes()
    with mode:
        output, state = layer(mode.from_tensor(x_of(0)), lengths=torch.tensor([5, 3, 0]))
    assert type(output) is FakeTensor
    assert output.shape == (3, 5, 6)
    assert all(type(part) is FakeTensor for part in state)
    real, _ = layer(x_of(0))
    assert type(real) is torch.Tensor
    assert torch.equal(real, wanted)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_fake_argument_alone_is_enough():
    mode, layer = fakes(), LAYERS["LSTM"]()
    assert type(layer(mode.from_tensor(x_of(0)))[0]) is FakeTensor
    zero = mode.from_tensor(torch.zeros(3, 6))
    assert type(layer(x_of(0), (zero, zero))[0]) is FakeTensor
    with mode:
        made = ll.GRU(4, 6)
        output, _ = made(torch.ones(3, 5, 4))
        (gradient,) = torch.autograd.grad(output.sum(), [made.weight_hh])
    assert type(gradient) is FakeTensor
    assert gradient.shape == (18, 6)


def test_gradients_of_a_real_pass_under_a_mode():
    layer, other = LAYERS["GRU"](), LAYERS["GRU"]()
    output, _ = layer(x_of(0))
    with FlopCounterMode(display=False) as counter:
        output.square().sum().backward()
    assert counter.get_total_flops() > 0
    other(x_of(0))[0].square().sum().backward()
    for one, wanted in zip(layer.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one.grad, wanted.grad)


def test_the_products_of_a_layer_are_counted():
    with FlopCounterMode(display=False) as counter:
        LAYERS["Elman"]()(x_of(0))
    assert counter.get_total_flops() >= 2 * 3 * 5 * 6 * (4 + 6)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_what_make_fx_records_gives_the_same_for_other_numbers(name):
    layer = LAYERS[name]()
    graph = make_fx(lambda x: layer(x)[0])(x_of(0))
    torch.testing.assert_close(graph(x_of(1)), layer(x_of(1))[0])


def test_make_fx_records_on_fake_tensors():
    layer = LAYERS["LSTM"]().requires_grad_(False)
    weights = dict(layer.named_parameters())

    def run(x, weights):
        return torch.func.functional_call(layer, weights, (x,))[0]

    graph = make_fx(run, tracing_mode="fake")(x_of(0), weights)
    torch.testing.assert_close(graph(x_of(1), weights), layer(x_of(1))[0])


def test_make_fx_records_a_backward_pass():
    layer = LAYERS["LSTM"]()

    def slope(x):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(layer(x)[0].square().sum(), x)[0]

    torch.testing.assert_close(make_fx(slope)(x_of(0))(x_of(1)), slope(x_of(1)))


@pytest.mark.parametrize("name", ["cpu", "derived"])
def test_a_backend_that_cannot_says_so(name):
    layer = LAYERS["LSTM"]()
    layer.backend = name
    with pytest.raises(ValueError, match="mode of torch that follows plain operations only"):
        make_fx(lambda x: layer(x)[0])(x_of(0))


def test_wrappers_keep_their_class():
    layer, x = LAYERS["LSTM"](), x_of(0)
    output, _ = layer(TwoTensor(x, 2 * x))
    torch.testing.assert_close(output.a, layer(x)[0])
    torch.testing.assert_close(output.b, layer(2 * x)[0])


def test_a_subclass_with_memory_of_its_own_runs_compiled():
    class Named(torch.Tensor):
        pass

    layer = LAYERS["LSTM"]()
    output, _ = layer(x_of(0).as_subclass(Named))
    assert layer.backend_used == "cpu"
    assert torch.equal(output.as_subclass(torch.Tensor), layer(x_of(0))[0])


def test_it_is_said_that_the_kernels_do_not_run(monkeypatch):
    monkeypatch.setattr(backend, "_SAID", set())
    with pytest.warns(BackendWarning, match="mode of torch that follows plain operations"):
        make_fx(lambda x: LAYERS["GRU"]()(x)[0])(x_of(0))


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.* is deprecated:DeprecationWarning")
def test_jit_trace_is_refused():
    with pytest.raises(RuntimeError, match=r"torch\.jit\.trace keeps the steps of one length"):
        torch.jit.trace(LAYERS["LSTM"](), (x_of(0),))


@pytest.mark.parametrize("make", [torch.Tensor.to_sparse, torch.Tensor.to_mkldnn])
def test_other_layouts_are_refused_by_name(make):
    with pytest.raises(TypeError, match=r"x: got layout torch\.\w+, .* x\.to_dense\(\)"):
        LAYERS["LSTM"]()(make(x_of(0)))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_told_of_lengths():
    x = torch.nested.nested_tensor([torch.ones(3, 4), torch.ones(5, 4)])
    with pytest.raises(TypeError, match=r"x: .* with lengths="):
        LAYERS["LSTM"]()(x)
