"""Transforms of torch.func, batched gradients and forward mode give what a loop gives."""

import pytest
import torch
from tests.scan import cases
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.utils._pytree import tree_flatten, tree_unflatten

import longlag as ll

N, T, C, H = 3, 4, 2, 4
OPTIONS = {"seed": 0, "dtype": torch.float64}
LAYERS = {
    "Elman": lambda: ll.Elman(C, H, **OPTIONS),
    "LSTM": lambda: ll.LSTM(C, H, **OPTIONS),
    "GRU": lambda: ll.GRU(C, H, **OPTIONS),
    "Leaky": lambda: ll.Leaky(C, H, train_leak=True, **OPTIONS),
    "Clockwork": lambda: ll.Clockwork(C, H, periods=(1, 2), **OPTIONS),
    "Skip": lambda: ll.Skip(C, H, delays=(1, 3), **OPTIONS),
    "sparse": lambda: ll.Elman(C, H, density=0.5, **OPTIONS),
    "own cell": lambda: ll.Recurrent(cases.Mixed(), C, H, **OPTIONS),
    "Bidirectional": lambda: ll.Bidirectional(ll.GRU(C, H, **OPTIONS), seed=1),
    "Stack": lambda: ll.Stack(ll.LSTM(C, H, **OPTIONS), ll.Elman(H, H, **OPTIONS)),
}
LENGTHS = torch.tensor([4, 2, 0])
RESETS = torch.tensor([[0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 1, 0]], dtype=torch.bool)
X = cases.random(N, T, C, seed=3)
QUICK = ("LSTM", "Skip")
all_layers = pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in LAYERS],
)
some_layers = pytest.mark.parametrize(
    "name",
    ["LSTM", *(pytest.param(name, marks=pytest.mark.slow) for name in ("Skip", "Bidirectional"))],
)
pytestmark = [
    pytest.mark.filterwarnings("ignore::longlag.scan.backend.BackendWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of torch.jit, in forward mode
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),
]


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def output_of(layer, **options):
    return lambda x: layer(x, **options)[0]


def jacobian_of(layer, **options):
    return torch.autograd.functional.jacobian(output_of(layer, **options), X)


def curvature_of(layer, **options):
    return torch.autograd.functional.hessian(lambda x: layer(x, **options)[0].sin().sum(), X)


def one_by_one(layer):
    """The layer on one sequence, as vmap calls it; any argument may be mapped."""

    def run(x, lengths=None, resets=None):
        options = {"lengths": lengths, "resets": resets}
        options = {name: v.unsqueeze(0) for name, v in options.items() if v is not None}
        return layer(x.unsqueeze(0), **options)[0].squeeze(0)

    return run


@all_layers
def test_vmap_over_sequences_lengths_and_resets(name):
    layer = LAYERS[name]()
    run = one_by_one(layer)
    close(vmap(run)(X, LENGTHS, RESETS), layer(X, lengths=LENGTHS, resets=RESETS)[0])
    repeated = layer(X[:1].expand(N, T, C), lengths=LENGTHS)[0]
    close(vmap(run, in_dims=(None, 0))(X[0], LENGTHS), repeated)
    two = torch.stack([X, -X]), torch.stack([LENGTHS, LENGTHS.flip(0)])
    looped = torch.stack([layer(x, lengths=lengths)[0] for x, lengths in zip(*two, strict=True)])
    close(vmap(vmap(run))(*two), looped)
    close(vmap(lambda x, lengths: layer(x, lengths=lengths)[0])(*two), looped)


@all_layers
def test_vmap_over_initial_states(name):
    layer = LAYERS[name]()
    parts, shape = tree_flatten(layer(X)[1])

    def run(x, *parts):
        state = tree_unflatten([part.unsqueeze(0) for part in parts], shape)
        return layer(x.unsqueeze(0), state)[0].squeeze(0)

    close(vmap(run)(X, *parts), layer(X, tree_unflatten(parts, shape))[0])


@pytest.mark.parametrize("wrong", [[5, 1, 0], [4, -1, 0]])
def test_lengths_out_of_range_are_refused_inside_vmap(wrong):
    with pytest.raises(ValueError, match=r"lengths: got values from .*, expected 0 to 4"):
        vmap(one_by_one(LAYERS["LSTM"]()))(X, torch.tensor(wrong))


@all_layers
@pytest.mark.parametrize("recorded", [False, True])
def test_batched_gradients_are_those_of_a_loop(name, recorded):
    layer, x = LAYERS[name](), X.clone().requires_grad_()
    output, _ = layer(x, lengths=LENGTHS, resets=RESETS)
    errors = cases.random(2, *output.shape, seed=4)
    inputs = [x, *layer.parameters()]

    def gradients(errors, batched):
        return torch.autograd.grad(
            output, inputs, errors, retain_graph=True, create_graph=recorded,
            is_grads_batched=batched,
        )  # fmt: skip

    batched = gradients(errors, True)
    looped = [gradients(error, False) for error in errors]
    for mine, *theirs in zip(batched, *looped, strict=True):
        close(mine, torch.stack(theirs))
    if recorded:
        second = [
            torch.autograd.grad(first.sin().sum(), x, retain_graph=True)[0]
            for first in (batched[1][0], looped[0][1])
        ]
        close(*second)


@some_layers
def test_gradients_are_functions_to_transform(name):
    layer, x = LAYERS[name](), X.clone().requires_grad_()
    output, _ = layer(x, lengths=LENGTHS)
    error, other = cases.random(2, *output.shape, seed=5)
    inputs = [x, *layer.parameters()]
    for recorded in (False, True):

        def gradients(error, recorded=recorded):
            return torch.autograd.grad(
                output, inputs, error, retain_graph=True, create_graph=recorded
            )

        mapped = vmap(gradients)(torch.stack([error, other]))
        tangents = jvp(gradients, (error,), (other,))[1]  # linear in the error
        for both, tangent, *single in zip(
            mapped, tangents, gradients(error), gradients(other), strict=True
        ):
            close(both, torch.stack(single))
            close(tangent, single[1])
    second = [torch.autograd.grad(g.sin().sum(), x, retain_graph=True)[0] for g in (both, *single)]
    close(second[0], second[1] + second[2])


@some_layers
@pytest.mark.parametrize("backend", ["derived", "reference"])
def test_batched_gradients_on_other_backends(name, backend):
    layer = LAYERS[name]()
    for part in layer.parts():
        part.layer.backend = backend
    jacobian = torch.autograd.functional.jacobian(output_of(layer), X, vectorize=True)
    close(jacobian, jacobian_of(LAYERS[name]()))


@some_layers
def test_jacobians_and_curvature(name):
    layer = LAYERS[name]()
    run = output_of(layer, lengths=LENGTHS)
    wanted = jacobian_of(layer, lengths=LENGTHS)
    close(jacrev(run)(X), wanted)
    close(jacfwd(run)(X), wanted)
    for strategy in ("reverse-mode", "forward-mode"):
        jacobian = torch.autograd.functional.jacobian(run, X, vectorize=True, strategy=strategy)
        close(jacobian, wanted)
    curvature = curvature_of(layer)
    close(hessian(lambda x: layer(x)[0].sin().sum())(X), curvature)
    close(
        torch.autograd.functional.hessian(
            lambda x: layer(x)[0].sin().sum(), X,
            vectorize=True, outer_jacobian_strategy="forward-mode",
        ),
        curvature,
    )  # fmt: skip


@all_layers
def test_products_with_the_jacobian(name):
    layer = LAYERS[name]()
    wanted, run = jacobian_of(layer, resets=RESETS), output_of(layer, resets=RESETS)
    direction = cases.random(*X.shape, seed=6)
    tangent = torch.tensordot(wanted, direction, 3)
    if name != "own cell":  # which has another derivative than its own slope: it is truncated
        assert float(tangent.abs().max()) > 0
    output, back = vjp(run, X)
    close(back(output)[0], torch.tensordot(output, wanted, 3))
    close(jvp(run, (X,), (direction,))[1], tangent)
    for recording in (True, False):
        with torch.set_grad_enabled(recording), forward_ad.dual_level():
            plain = run(X)
            dual = run(forward_ad.make_dual(X, direction))
            assert forward_ad.unpack_dual(plain).tangent is None
            close(forward_ad.unpack_dual(dual).primal, plain)
            close(forward_ad.unpack_dual(dual).tangent, tangent)


@some_layers
def test_tangents_of_weights_and_states(name):
    layer = LAYERS[name]()
    weights = {name: p.detach() for name, p in layer.named_parameters()}
    parts, shape = tree_flatten(layer(X)[1])
    parts = [part.detach() for part in parts]

    def run(*numbers):
        own = dict(zip(weights, numbers, strict=False))
        state = tree_unflatten(list(numbers[len(weights) :]), shape)
        return functional_call(layer, own, (X, state))[0]

    numbers = (*weights.values(), *parts)
    directions = tuple(cases.random(*number.shape, seed=7) for number in numbers)
    wanted = torch.autograd.functional.jvp(run, numbers, directions)[1]
    for some in range(len(numbers)):  # one alone is enough
        with forward_ad.dual_level():
            duals = [*numbers]
            duals[some] = forward_ad.make_dual(numbers[some], directions[some])
            wanted = wanted - forward_ad.unpack_dual(run(*duals)).tangent
    close(wanted, torch.zeros_like(wanted))


@some_layers
def test_forward_over_reverse(name):
    layer, direction = LAYERS[name](), cases.random(*X.shape, seed=8)
    with forward_ad.dual_level():
        x = forward_ad.make_dual(X.clone().requires_grad_(), direction)
        (slope,) = torch.autograd.grad(layer(x)[0].sin().sum(), x, create_graph=True)
        tangent = forward_ad.unpack_dual(slope).tangent
    close(tangent, torch.tensordot(curvature_of(layer), direction, 3))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Elman", "LSTM", "GRU", "Skip", "Bidirectional"])
def test_finite_differences_agree_in_all_modes(name):
    layer = LAYERS[name]()
    names = [name for name, _ in layer.named_parameters()]

    def run(x, *weights):
        own = dict(zip(names, weights, strict=True))
        return functional_call(layer, own, (x,), {"lengths": LENGTHS})[0]

    given = [X, *(p.detach() for p in layer.parameters())]
    given = [tensor.clone().requires_grad_() for tensor in given]
    assert gradcheck(
        run, given, fast_mode=True, check_batched_grad=True, check_forward_ad=True,
        check_batched_forward_grad=True,
    )  # fmt: skip
    assert gradgradcheck(
        run, given, fast_mode=True, check_batched_grad=True, check_fwd_over_rev=True
    )


@all_layers
def test_gradients_of_each_sample(name):
    layer = LAYERS[name]()
    weights = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(weights, x, lengths):
        options = {"lengths": lengths.unsqueeze(0)}
        return functional_call(layer, weights, (x.unsqueeze(0),), options)[0].sin().sum()

    by_sample = vmap(grad(loss), in_dims=(None, 0, 0))(weights, X, LENGTHS)
    for number, (x, lengths) in enumerate(zip(X, LENGTHS, strict=True)):
        layer.zero_grad()
        loss(dict(layer.named_parameters()), x, lengths).backward()
        for name, parameter in layer.named_parameters():
            close(by_sample[name][number], parameter.grad)


@pytest.mark.parametrize("name", ["LSTM", "Leaky", "Clockwork", "Bidirectional"])
def test_many_networks_in_one_call(name):
    layers = [LAYERS[name]() for _ in range(2)]
    for parameter in layers[1].parameters():
        parameter.data += 0.1
    weights, buffers = torch.func.stack_module_state(layers)
    run = vmap(lambda *own: functional_call(layers[0], own, (X,))[0])
    close(run(weights, buffers), torch.stack([layer(X)[0] for layer in layers]))


def test_sparse_networks_in_one_call_share_their_places():
    layers = [LAYERS["sparse"]() for _ in range(2)]
    layers[1].weight_hh.data += 0.1
    weights, buffers = torch.func.stack_module_state(layers)
    with pytest.raises(ValueError, match=r"weight_hh_indices: got other places .* in_dims=None"):
        vmap(lambda *own: functional_call(layers[0], own, (X,))[0])(weights, buffers)
    own = dict(layers[0].named_buffers())
    run = vmap(lambda weights: functional_call(layers[0], (weights, own), (X,))[0])
    close(run(weights), torch.stack([layer(X)[0] for layer in layers]))


@pytest.mark.parametrize("shape", [(0, T, C), (N, 0, C)])
def test_nothing_to_read(shape):
    layer, x = LAYERS["LSTM"](), torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    output, _ = layer(x)
    errors = torch.zeros(2, *output.shape, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(output, x, errors, is_grads_batched=True)
    assert gradient.shape == (2, *shape)
    assert vmap(output_of(layer))(x.detach().expand(2, *shape)).shape == (2, *output.shape)


def test_replicas_inside_vmap():
    layer = ll.GRU(C, H, replicas=2, **OPTIONS)
    x, lengths = cases.random(3, 2, N, T, C, seed=9), torch.arange(18).view(3, 2, N) % (T + 1)
    run = lambda x, lengths: layer(x, lengths=lengths)[0]  # noqa: E731
    close(vmap(run)(x, lengths), torch.stack([run(*pair) for pair in zip(x, lengths, strict=True)]))


def test_models_inside_vmap():
    for reduce in (None, "last", "mean"):
        layer = ll.Bidirectional(ll.GRU(C, H, **OPTIONS), seed=1)
        model = ll.SequenceModel(layer, 2, reduce=reduce, direct=True, seed=2)

        def run(x, lengths, model=model):
            return model(x.unsqueeze(0), lengths=lengths.unsqueeze(0)).squeeze(0)

        close(vmap(run)(X, LENGTHS), model(X, lengths=LENGTHS))


def test_dropout_inside_vmap_is_as_vmap_is_told():
    torch.manual_seed(0)
    layer = ll.LSTM(C, H, input_dropout=0.5, recurrent_dropout=0.5, **OPTIONS)
    same = X[:1].expand(8, T, C)
    for randomness, equal in (("same", True), ("different", False)):
        output = vmap(one_by_one(layer), randomness=randomness)(same)
        assert torch.equal(output[0], output[1]) == equal


@pytest.mark.parametrize("name", ["cpu", "derived"])
def test_a_backend_that_carries_no_tangents_says_so(name):
    layer = ll.LSTM(C, H, backend=name, **OPTIONS)
    with forward_ad.dual_level():
        layer(X)
        with pytest.raises(ValueError, match=f"{name}.*tangents of forward-mode AD.*'auto'"):
            layer(forward_ad.make_dual(X, X))
