import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import longlag as ll
from longlag.layers import from_torch, to_torch

KINDS = {
    "tanh": (nn.RNN, {"nonlinearity": "tanh"}),
    "relu": (nn.RNN, {"nonlinearity": "relu"}),
    "LSTM": (nn.LSTM, {}),
    "GRU": (nn.GRU, {}),
}
INPUTS, HIDDEN, BATCH, STEPS = 3, 4, 5, 7
LENGTHS = torch.tensor([7, 3, 1, 5, 2])


def random(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def theirs(kind, layers=1, directions=1, bias=True, **options):
    make, extra = KINDS[kind]
    module = make(
        INPUTS,
        HIDDEN,
        num_layers=layers,
        bidirectional=directions == 2,
        bias=bias,
        batch_first=True,
        dtype=torch.float64,
        **extra,
        **options,
    )
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            parameter.copy_(0.6 * random(*parameter.shape, seed=number))
    return module


def states_for_ours(kind, layers, directions, h, c):
    """torch's (layers * directions, N, H) as longlag's state of a stack of both directions."""
    states = []
    for layer in range(layers):
        parts = [
            (h[number], c[number]) if kind == "LSTM" else (h[number],)
            for number in range(layer * directions, (layer + 1) * directions)
        ]
        states.append(tuple(parts) if directions == 2 else parts[0])
    return tuple(states) if layers > 1 else states[0]


def flat(state):
    """All tensors of a nested state, in order."""
    return [state] if isinstance(state, torch.Tensor) else [t for part in state for t in flat(part)]


@pytest.mark.slow
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_the_network_is_that_of_torch(kind, layers, directions, bias, ragged):
    """Outputs, final states and all gradients, by x, initial states, every weight and bias."""
    module = theirs(kind, layers, directions, bias)
    ours = from_torch(module)
    x, h, c = (
        random(*shape, seed=seed).requires_grad_()
        for seed, shape in (
            (50, (BATCH, STEPS, INPUTS)),
            (51, (layers * directions, BATCH, HIDDEN)),
            (52, (layers * directions, BATCH, HIDDEN)),
        )
    )
    given = (h, c) if kind == "LSTM" else h
    if ragged:
        packed = pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
        expected, end = module(packed, given)
        expected, _ = pad_packed_sequence(expected, batch_first=True, total_length=STEPS)
    else:
        expected, end = module(x, given)
    output, state = ours(
        x, states_for_ours(kind, layers, directions, h, c), lengths=LENGTHS if ragged else None
    )
    end = end if kind == "LSTM" else (end,)
    final = flat(states_for_ours(kind, layers, directions, *end, *(end if kind != "LSTM" else ())))
    assert output.shape == expected.shape
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-10)
    for mine, other in zip(flat(state), final, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)

    weight, weights = (
        random(*output.shape, seed=60),
        [random(BATCH, HIDDEN, seed=61 + n) for n in range(len(final))],
    )
    inputs = [x, h] + ([c] if kind == "LSTM" else [])

    def backward(output, state):
        loss = (output * weight).sum()
        loss = loss + sum((part * w).sum() for part, w in zip(state, weights, strict=True))
        return torch.autograd.grad(loss, inputs, retain_graph=True), loss

    mine, loss = backward(output, flat(state))
    other, expected_loss = backward(expected, final)
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
    loss.backward()
    expected_loss.backward()
    check_parameter_gradients(module, ours, directions)


def check_parameter_gradients(module, ours, directions):
    stack = ours.layers if isinstance(ours, ll.Stack) else [ours]
    checked = 0
    for number, part in enumerate(stack):
        pair = [part.forward_layer, part.backward_layer] if directions == 2 else [part]
        for layer, suffix in zip(pair, ("", "_reverse"), strict=False):

            def gradient(name, end=f"_l{number}{suffix}"):
                return getattr(module, name + end).grad

            pairs = [(layer.weight_ih.grad, gradient("weight_ih"))]
            pairs.append((layer.weight_hh.grad, gradient("weight_hh")))
            if layer.bias is not None:
                pairs.append((layer.bias.grad, gradient("bias_ih")))
                if isinstance(layer, ll.GRU):
                    pairs.append((layer.bias_hn.grad, gradient("bias_hh")[-HIDDEN:]))
            for mine, other in pairs:
                torch.testing.assert_close(mine, other, rtol=0, atol=1e-10)
                checked += mine.numel()
    assert checked >= sum(p.numel() for p in module.parameters()) * 0.8


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(kind, layers, directions, bias):
    module = theirs(kind, layers, directions, bias)
    back = to_torch(from_torch(module))
    assert type(back) is type(module)
    assert back.batch_first
    x = random(2, STEPS, INPUTS)
    torch.testing.assert_close(back(x)[0], module(x)[0], rtol=0, atol=1e-13)
    assert {n: p.shape for n, p in back.named_parameters()} == {
        n: p.shape for n, p in module.named_parameters()
    }
    ours = from_torch(back)
    again = from_torch(ours.to_torch())
    for (name, a), (_, b) in zip(ours.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True}])
@pytest.mark.parametrize("kind", KINDS)
def test_a_time_first_module_is_taken_where_x_is_said_to_be_batch_first(kind, options):
    make, extra = KINDS[kind]
    module = make(INPUTS, HIDDEN, dtype=torch.float64, **extra, **options)
    with pytest.raises(
        ValueError,
        match=r"batch_first: got False, for x of \(T, N, C\), .*, and from_torch batch_first=True",
    ):
        from_torch(module)
    ours, x = from_torch(module, batch_first=True), random(2, STEPS, INPUTS)
    torch.testing.assert_close(ours(x)[0], module(x.transpose(0, 1))[0].transpose(0, 1))
    assert ours.to_torch().batch_first


def test_no_layer_is_time_first():
    with pytest.raises(ValueError, match=r"batch_first: got False, .* expected True: layers of"):
        from_torch(nn.LSTM(INPUTS, HIDDEN, batch_first=True), batch_first=False)


def test_dtype_mode_and_dropout_go_with_it():
    module = nn.GRU(INPUTS, HIDDEN, num_layers=2, dropout=0.25, batch_first=True).eval()
    ours = from_torch(module)
    assert isinstance(ours, ll.Stack)
    assert ours.dropout == 0.25
    assert not ours.training
    assert not to_torch(ours).training
    assert to_torch(ours).dropout == 0.25
    assert ours.layers[0].weight_ih.dtype == torch.float32


def test_the_weights_are_copies():
    module = nn.GRU(INPUTS, HIDDEN, batch_first=True)
    ours = from_torch(module)
    with torch.no_grad():
        ours.weight_hh.zero_()
    assert module.weight_hh_l0.count_nonzero() > 0


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_frozen_stays_frozen_there_and_back(kind, directions):
    module = theirs(kind, layers=2, directions=directions)
    last = ["", "_reverse"][directions - 1]
    frozen = {"weight_hh_l0", f"weight_ih_l1{last}", f"bias_ih_l1{last}", f"bias_hh_l1{last}"}
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in frozen)
    ours = from_torch(module)
    upper = ours.layers[1] if directions == 1 else ours.layers[1].backward_layer
    assert not upper.weight_ih.requires_grad
    assert not upper.bias.requires_grad
    assert upper.weight_hh.requires_grad
    back = to_torch(ours)
    assert {name for name, p in back.named_parameters() if not p.requires_grad} == frozen
    x = random(2, STEPS, INPUTS)
    torch.testing.assert_close(back(x)[0], module(x)[0], rtol=0, atol=1e-13)


def test_of_two_biases_one_may_be_frozen_where_their_sum_can_hold_it():
    for kind in ("tanh", "LSTM"):
        for name in ("bias_ih_l0", "bias_hh_l0"):
            module = theirs(kind)
            module.get_parameter(name).requires_grad_(False)
            assert from_torch(module).bias.requires_grad
    module = theirs("GRU")
    module.bias_hh_l0.requires_grad_(False)
    ours = from_torch(module)
    assert ours.bias.requires_grad
    assert not ours.bias_hn.requires_grad
    back = to_torch(ours)
    assert back.bias_ih_l0.requires_grad
    assert not back.bias_hh_l0.requires_grad
    module = theirs("GRU", directions=2)
    module.bias_ih_l0_reverse.requires_grad_(False)
    with pytest.raises(ValueError, match="bias_hh_l0_reverse is trained and bias_ih_l0_reverse is"):
        from_torch(module)
    ours.bias.requires_grad_(False)
    ours.bias_hn.requires_grad_()
    with pytest.raises(ValueError, match="its bias_hh of a GRU is frozen as a whole"):
        to_torch(ours)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(
    "compute",
    [
        lambda module, name: nn.utils.parametrizations.orthogonal(module, name),
        lambda module, name: nn.utils.weight_norm(module, name),
        lambda module, name: prune.random_unstructured(module, name, 0.5),
    ],
)
def test_weights_that_are_computed_are_refused(compute):
    module, ours = theirs("LSTM", layers=2), ll.Stack(ll.LSTM(3, 4), ll.LSTM(4, 4))
    compute(module, "weight_hh_l1")
    with pytest.raises(ValueError, match=r"module: weight_hh_l1 is computed .*remove_param"):
        from_torch(module)
    compute(ours.layers[1], "weight_hh")
    with pytest.raises(ValueError, match=r"to_torch: .*: weight_hh is computed .*remove_param"):
        to_torch(ours)


def test_parameters_that_are_one_are_refused():
    module, ours = theirs("GRU", layers=3), ll.Stack(*(ll.GRU(4, 4) for _ in range(3)))
    module.bias_ih_l2 = module.bias_ih_l1
    with pytest.raises(ValueError, match="module: bias_ih_l2 is the same parameter as bias_ih_l1"):
        from_torch(module)
    ours.layers[2].weight_hh = ours.layers[0].weight_hh
    with pytest.raises(
        ValueError, match=r"to_torch: layers\.2\.weight_hh is the same parameter as"
    ):
        to_torch(ours)
    with pytest.raises(ValueError, match=r"to_torch: backward_layer.weight_ih is the same"):
        to_torch(ll.Bidirectional(ours.layers[0], ours.layers[0]))


def test_other_modules_are_refused():
    with pytest.raises(TypeError, match=r"module: got Linear, expected torch.nn.RNN, torch.nn.LS"):
        from_torch(nn.Linear(2, 3))
    with pytest.raises(ValueError, match=r"module: got proj_size=2, expected 0"):
        from_torch(nn.LSTM(3, 4, proj_size=2, batch_first=True))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: ll.Leaky(3, 4), "it has no Leaky"),
        (lambda: ll.LSTM1997(3, 4), "it has no LSTM1997"),
        (lambda: ll.Recurrent(ll.cells.GRU(), 3, 4), "it has no Recurrent"),
        (lambda: ll.Elman(3, 4, activation="sigmoid"), "its RNN has no activation 'sigmoid'"),
        (lambda: ll.LSTM(3, 4, peepholes=True), "its LSTM has no peepholes"),
        (lambda: ll.GRU(3, 4, replicas=2), "it has no replicas"),
        (lambda: ll.GRU(3, 4, recurrent_dropout=0.5), "it has no input or recurrent dropout"),
        (lambda: ll.GRU(3, 4, input_dropout=0.5), "it has no input or recurrent dropout"),
        (lambda: ll.GRU(3, 4, recurrent_bias=False), "its GRU has both biases or none"),
        (lambda: ll.GRU(3, 4, bias=False, recurrent_bias=True), "its GRU has both biases or none"),
        (lambda: ll.Bidirectional(ll.Stack(ll.GRU(3, 4))), "it has no Stack"),
        (lambda: ll.Stack(ll.GRU(3, 4), ll.LSTM(4, 4)), r"layer 1 differs .* recurrence.name"),
        (
            lambda: ll.Stack(ll.GRU(3, 4), ll.GRU(4, 5)),
            r"layer 1 differs .* hidden_size \(5, not 4",
        ),
        (
            lambda: ll.Stack(ll.Elman(3, 4), ll.Elman(4, 4, activation="relu")),
            r"layer 1 differs from the first in cell \('relu', not 'tanh'\)",
        ),
        (
            lambda: ll.Stack(ll.Elman(3, 4), ll.Elman(4, 4, bias=False)),
            r"layer 1 differs from the first in bias \(False, not True\)",
        ),
        (
            lambda: ll.Stack(ll.Elman(3, 4, bias=False), ll.Elman(4, 4)),
            r"layer 1 differs from the first in bias \(True, not False\)",
        ),
        (
            lambda: ll.Stack(ll.GRU(3, 4), ll.Bidirectional(ll.GRU(4, 4))),
            r"layer 1 reads 2 direction\(s\) and the first 1",
        ),
    ],
)
def test_what_torch_has_not_is_refused(layer, message):
    with pytest.raises(ValueError, match=f"to_torch: .*{message}"):
        to_torch(layer())
