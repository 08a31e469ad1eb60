"""RNN, LSTM and GRU of longlag.nn do what torch.nn's do, alone and with what PyTorch has for them.

C = 2 H, so that every layer of both directions reads as many features, and shares its kernels.
"""

import copy
import itertools
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, weight_norm
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import longlag as ll

KINDS = ("RNN", "LSTM", "GRU")
kinds = pytest.mark.parametrize("kind", KINDS)
LONG = pytest.mark.long
N, T, C, H = 4, 6, 6, 3
LENGTHS = {"packed": torch.tensor([4, 6, 1, 6]), "uniform": torch.full((N,), T)}
FORMS = ("batch", "one sequence", *LENGTHS)


def pair(kind, **options):
    """A module of torch.nn and ours, with the same weights."""
    theirs = getattr(nn, kind)(C, H, **{"dtype": torch.float64, **options})
    ours = getattr(ll.nn, kind)(C, H, **{"dtype": torch.float64, **options})
    assert ours.load_state_dict(theirs.state_dict(), strict=True) == ([], [])
    return theirs, ours


def inputs_for(module, form, with_state):
    """x in one of the FORMS, and first states, that require gradients."""
    x = torch.randn(N, T, C, dtype=torch.float64, requires_grad=True)
    rows = module.num_layers * (1 + module.bidirectional)
    shape = (rows, H) if form == "one sequence" else (rows, N, H)
    count = 2 if module.mode == "LSTM" else 1
    states = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(count)]
    given = x if module.batch_first else x.transpose(0, 1)
    if form == "one sequence":
        given = x[0]
    elif form in LENGTHS:
        given = pack_padded_sequence(
            given, LENGTHS[form], batch_first=module.batch_first, enforce_sorted=False
        )
    state = tuple(states) if module.mode == "LSTM" else states[0]
    return given, state if with_state else None, [x, *states] if with_state else [x]


def numbers(output, state):
    """What a module returned, as a list of tensors."""
    parts = [part for part in output if part is not None] if _packed(output) else [output]
    return [*parts, *(state if isinstance(state, tuple) else (state,))]


def _packed(output):
    return isinstance(output, PackedSequence)


def results(module, form, with_state):
    """What a pass and its backward pass give, from the same random numbers for each module."""
    torch.manual_seed(0)
    given, state, leaves = inputs_for(module, form, with_state)
    returned = numbers(*module(given, state))
    leaves += module.parameters()
    floating = [part for part in returned if part.is_floating_point()]
    total = sum(part.sin().sum() for part in floating)
    return returned, torch.autograd.grad(total, leaves)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def agree(theirs, ours, form, with_state):
    close(results(ours, form, with_state), results(theirs, form, with_state))
    assert ours.backend_used == "cpu"


@kinds
def test_every_form_gives_the_same_numbers_and_gradients(kind):
    for form in FORMS:
        agree(*pair(kind, num_layers=2, bidirectional=True), form, True)
    theirs, ours = pair(kind, bias=False, batch_first=True)
    for form in ("batch", "packed"):
        agree(theirs, ours, form, False)
        with torch.no_grad():
            given, state, _ = inputs_for(ours, form, True)
            close(numbers(*ours(given, state)), numbers(*theirs(given, state)))


@pytest.mark.long
@kinds
def test_every_option_gives_the_same_numbers_and_gradients(kind):
    for layers, *flags in itertools.product((1, 2), *[(True, False)] * 3):
        names = zip(("bias", "batch_first", "bidirectional"), flags, strict=True)
        theirs, ours = pair(kind, num_layers=layers, **dict(names))
        for form, with_state in itertools.product(FORMS, (True, False)):
            agree(theirs, ours, form, with_state)


def test_dropout_draws_the_same_masks():
    for kind, form in itertools.product(KINDS, ("batch", "uniform")):
        theirs, ours = pair(kind, num_layers=3, dropout=0.4, bidirectional=True)
        agree(theirs, ours, form, True)
        assert not torch.equal(ours(X)[0], ours(X)[0])


X = torch.randn(T, N, C, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_dropout_of_packed_sequences_leaves_the_share_that_it_should():
    module = ll.nn.GRU(C, 200, 2, dropout=0.25, dtype=torch.float64)
    with torch.no_grad():  # the second layer shows what it reads
        for name, weight in module.named_parameters():
            weight.zero_()
            if name == "bias_ih_l0":
                weight[-200:] = 1.0
            if name == "weight_ih_l1":
                weight[-200:] = torch.eye(200)
    x = pack_padded_sequence(torch.zeros_like(X), LENGTHS["packed"], enforce_sorted=False)
    output = module(x)[0].data[:N]
    assert 0.2 < (output == 0).float().mean() < 0.3


def test_relu():
    theirs, ours = pair("RNN", nonlinearity="relu", num_layers=2)
    close(results(ours, "batch", True), results(theirs, "batch", True))
    with pytest.raises(ValueError, match="Unknown nonlinearity 'gelu'"):
        ll.nn.RNN(C, H, nonlinearity="gelu")


def test_the_positions_of_arguments_and_the_first_values_are_torchs():
    for kind, rest in (
        ("RNN", (2, "relu", False, True, 0.1, True)),
        ("LSTM", (2, False, True, 0.1, True, 0, "cpu", torch.float64)),
        ("GRU", (2, True, True, 0.1)),
    ):
        made = []
        for home in (nn, ll.nn):
            torch.manual_seed(3)
            made.append(getattr(home, kind)(C, H, *rest))
        theirs, ours = made
        assert isinstance(ours, getattr(nn, kind))
        assert repr(ours) == repr(theirs)
        close(dict(ours.named_parameters()), dict(theirs.named_parameters()))
        for mine, other in zip(ours.all_weights, theirs.all_weights, strict=True):
            close(mine, other)
        ours.flatten_parameters()


def test_a_projection_is_refused_by_name():
    with pytest.raises(ValueError, match=r"proj_size: got 2, expected 0.*torch\.nn\.LSTM"):
        ll.nn.LSTM(C, H, proj_size=2)
    for kind in ("RNN", "GRU"):
        with pytest.raises(ValueError, match="proj_size argument is only supported for LSTM"):
            getattr(ll.nn, kind)(C, H, proj_size=2)


WRONG = [
    (X[:0], None),
    (X[0, 0], None),
    (X[..., :2], None),
    (X.float(), None),
    (X.long(), None),
    (X, torch.zeros(1, N + 1, H).double()),
    (X, torch.zeros(1, N, H)),
    (X, torch.zeros(N, H).double()),
    (X[0], torch.zeros(1, N, H).double()),
    (PackedSequence(X, torch.tensor([N] * T)), None),
    ([[1.0]], None),
]


@kinds
def test_what_does_not_fit_is_torchs_error(kind):
    for x, state in WRONG:
        said = []
        for module in pair(kind):
            own = state if kind != "LSTM" or state is None else (state, state)
            with pytest.raises(Exception, match=r"\w") as error:
                module(x, own)
            said.append((error.type, str(error.value)))
        assert said[0] == said[1], said
    theirs, ours = pair(kind)
    close(ours(X[:, :0])[0], theirs(X[:, :0])[0])  # no sequences are no mistake


def test_other_dtypes_devices_and_modes_are_torchs_own_pass():
    _, ours = pair("GRU")
    for options in ({"dtype": torch.bfloat16}, {"device": "meta"}):
        module = copy.deepcopy(ours).to(**options)
        output, state = module(X.to(**options))
        assert module.backend_used == "torch.nn"
        like = next(module.parameters())
        assert {part.dtype for part in (output, state)} == {like.dtype}
        assert {part.device for part in (output, state)} == {like.device}
    moved = copy.deepcopy(ours).to("meta").to_empty(device="cpu")
    moved.load_state_dict(ours.state_dict())
    assert torch.equal(moved(X)[0], ours(X)[0])


@pytest.mark.parametrize("kind", ["GRU", *(pytest.param(k, marks=LONG) for k in ("RNN", "LSTM"))])
def test_autocast_rounds_the_product_with_x_alone(kind):
    _, ours = pair(kind, dtype=torch.float32, num_layers=2, bidirectional=True)
    wanted = ours(X.float())[0]
    for x in (X.float(), X.bfloat16()):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output, state = ours(x)
        assert {part.dtype for part in numbers(output, state)} == {torch.float32}
        assert ours.backend_used == "cpu"
        torch.testing.assert_close(output, wanted, rtol=0.05, atol=0.05)
        assert not torch.equal(output, wanted)


@kinds
def test_the_output_is_the_callers_to_change(kind):
    theirs, ours = pair(kind)
    gradients = []
    for module in (theirs, ours):
        output, _ = module(X)
        output.relu_().sum().backward()
        gradients.append([parameter.grad for parameter in module.parameters()])
    close(*gradients)


WAYS = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "old weight_norm": weight_norm,
    "pruned": lambda module, name: prune.l1_unstructured(module, name, amount=0.3),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize("way", WAYS)
def test_weights_that_others_compute(way):
    for kind in KINDS:
        modules = pair(kind, bidirectional=True)
        for module in modules:
            torch.manual_seed(0)
            WAYS[way](module, "weight_hh_l0")
        theirs, ours = modules
        for _ in range(2):  # a spectral norm goes on with each pass in training
            agree(theirs, ours, "batch", True)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        with torch.no_grad():
            for module in modules:
                for parameter in module.parameters():
                    parameter.mul_(0.5)
        agree(theirs, ours, "batch", True)


@pytest.mark.parametrize(
    "way",
    [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))],  # noqa: S301
    ids=["deepcopy", "pickle"],
)
def test_copies_are_equal_and_apart(way):
    for kind in KINDS:
        _, ours = pair(kind, num_layers=2)
        wanted = ours(X)[0]
        other = way(ours)
        assert type(other) is type(ours)
        assert torch.equal(other(X)[0], wanted)
        torch.optim.SGD(other.parameters(), lr=0.1)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
        assert not other(X)[0].any()
        assert torch.equal(ours(X)[0], wanted)


def test_hooks_are_called_with_what_torch_gives_them():
    heard = []
    for module in pair("LSTM"):
        module.register_forward_pre_hook(lambda _, args: heard.append(args[0].shape))
        module.register_forward_hook(lambda _, args, result: heard.append(result[1][1].shape))
        module.register_full_backward_hook(lambda _, d_in, d_out: heard.append(d_in[0].shape))
        x = X.clone().requires_grad_()
        module(x)[0].sum().backward()
    assert heard[:3] == heard[3:] == [(T, N, C), (1, N, H), (T, N, C)]


@pytest.mark.filterwarnings("ignore::longlag.scan.backend.BackendWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit, in forward mode
@kinds
def test_transforms_of_torch_func(kind):
    _, ours = pair(kind)
    weights = dict(ours.named_parameters())
    x = X.unsqueeze(2)  # (T, N, 1, C): each sequence alone

    def loss(weights, x):
        return torch.func.functional_call(ours, weights, (x,))[0].sin().sum()

    gradients = torch.func.vmap(torch.func.grad(loss), (None, 1))(weights, x)
    for number in range(N):
        alone = torch.autograd.grad(loss(weights, x[:, number]), list(weights.values()))
        assert ours.backend_used == "cpu"
        close([part[number] for part in gradients.values()], list(alone))
    _, tangent = torch.func.jvp(lambda x: ours(x)[0], (X,), (X,))
    step = 1e-6
    difference = (ours(X * (1 + step))[0] - ours(X * (1 - step))[0]) / (2 * step)
    torch.testing.assert_close(tangent, difference, rtol=1e-6, atol=1e-8)
