"""What torch checks of its own RNN, LSTM and GRU, on the layers that are made from them; and, at
the end, on the modules of longlag.nn that take their place.

Every case of ``module_db``: with and without biases, initial states and a second direction, two
layers, tanh and relu. Its x is one sequence (T, C); longlag reads a batch of one. What torch's
module checks go over and longlag has not: moves between devices, memory formats, in-place modules.
"""

import copy
import functools
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call

import longlag as ll
from longlag.layers.bidirectional import BidirectionalState
from longlag.layers.state_tree import map_tensors, tensors_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::longlag.scan.backend.BackendWarning"),
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),
]
kinds = pytest.mark.parametrize(
    "kind", ["LSTM", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("RNN", "GRU"))]
)
OURS = {"RNN": ll.Elman, "LSTM": ll.LSTM, "GRU": ll.GRU}


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    path = tmp_path_factory.mktemp("torch") / "inputs.pt"
    program = Path(__file__).with_name("torch_module_inputs.py")
    done = subprocess.run(
        [sys.executable, str(program), str(path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return torch.load(path)


@pytest.fixture
def cases(database, kind):
    """Of each case torch's module, ours with the same weights, x, and the state for either."""
    made = []
    torch.manual_seed(0)
    for options, (x, *states) in database["inputs"][kind]:
        if options.get("proj_size") or not options["batch_first"]:
            continue  # no projection: see below; and of one sequence alone, all is batch first
        theirs = getattr(nn, kind)(**options, dtype=torch.float64)
        batch = map_tensors(states[0], lambda part: part.unsqueeze(1)) if states else None
        ours = ll.from_torch(theirs)
        made.append((theirs, ours, x.unsqueeze(0), batch, state_for_ours(theirs, batch)))
    assert len(made) == (16 if kind == "RNN" else 8)
    return made


def state_for_ours(module, state):
    """torch's (layers * directions, N, H) as the nested states of a stack."""
    if state is None:
        return None
    parts = list(zip(*state, strict=True)) if isinstance(state, tuple) else [(h,) for h in state]
    if not module.bidirectional:
        return tuple(parts)
    return tuple(zip(parts[::2], parts[1::2], strict=True))


def numbers_of(module, results):
    """The output and the final states, in torch's order."""
    output, state = results
    if isinstance(module, nn.RNNBase):
        return [output, *(state if isinstance(state, tuple) else (state,))]
    layers = [list(tensors_of(part)) for rows in state for part in both(rows)]
    return [output, *map(torch.stack, zip(*layers, strict=True))]


def both(state):
    return state if isinstance(state, BidirectionalState) else (state,)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def agree(ours, x, state, theirs, their_x, their_state):
    close(numbers_of(ours, ours(x, state)), numbers_of(theirs, theirs(their_x, their_state)))


@kinds
@pytest.mark.parametrize("training", [True, False])
def test_forward(cases, training):
    for theirs, ours, x, theirs_from, ours_from in cases:
        agree(ours.train(training), x, ours_from, theirs.train(training), x, theirs_from)


@kinds
def test_gradients_are_torchs(cases):
    for theirs, ours, x, theirs_from, ours_from in cases:
        gradients = []
        for module, state in ((theirs, theirs_from), (ours, ours_from)):
            given = [x.clone().requires_grad_()]
            state = map_tensors(state, functools.partial(remember, given))
            total = sum(part.sin().sum() for part in numbers_of(module, module(given[0], state)))
            gradients.append(torch.autograd.grad(total, given))
        close(gradients[1][0], gradients[0][0])
        total = [sum(float(g.sin().sum()) for g in part[1:]) for part in gradients]
        assert total[0] == pytest.approx(total[1], abs=1e-10)


def remember(given, part):
    given.append(part.clone().requires_grad_())
    return given[-1]


def function_of(module, x, state):
    """A module as a function of x, its initial states and its weights; and these."""
    names = [name for name, _ in module.named_parameters()]
    leaves = list(tensors_of(state))

    def run(x, *numbers):
        left = iter(numbers)
        own = map_tensors(state, lambda _: next(left))
        weights = dict(zip(names, left, strict=True))
        return tuple(numbers_of(module, functional_call(module, weights, (x, own))))

    given = (x, *leaves, *module.parameters())
    return run, [number.detach().clone().requires_grad_() for number in given]


def with_all(cases):
    """The cases that have both biases and initial states."""
    return [case for case in cases if case[0].bias and case[-1] is not None]


@kinds
def test_gradcheck(cases):
    for _, ours, x, _, state in with_all(cases):
        run, given = function_of(ours, x, state)
        assert gradcheck(run, given, check_batched_grad=True, fast_mode=True)


@kinds
def test_gradgradcheck(cases):
    for _, ours, x, _, state in with_all(cases):
        run, given = function_of(ours, x, state)
        assert gradgradcheck(run, given, check_batched_grad=True, fast_mode=True)


@kinds
def test_inputs_that_are_not_contiguous(cases):
    def apart(tensor):
        return torch.stack([tensor, tensor], -1)[..., 0].detach()

    for theirs, ours, x, theirs_from, ours_from in cases:
        split = apart(x).requires_grad_()
        assert not split.is_contiguous() or x.numel() == 1
        agree(ours, split, map_tensors(ours_from, apart), theirs, x, theirs_from)
        plain = x.clone().requires_grad_()
        for given in (split, plain):
            error = apart(torch.ones_like(ours(x)[0]))
            ours(given, ours_from)[0].backward(error)
        close(split.grad, plain.grad)


@kinds
@pytest.mark.parametrize(
    "way",
    [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))],  # noqa: S301
    ids=["copy", "pickle"],
)
def test_copies_are_equal_and_apart(cases, way):
    for _, ours, x, _, state in cases:
        wanted = numbers_of(ours, ours(x, state))
        other = way(ours)
        assert repr(other) == repr(ours)
        close(numbers_of(other, other(x, state)), wanted)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
        close(numbers_of(ours, ours(x, state)), wanted)


@kinds
def test_repr_names_the_layers(cases):
    for theirs, ours, *_ in cases:
        assert repr(ours) == str(ours)
        cell = "Elman" if type(theirs) is nn.RNN else type(theirs).__name__
        count = repr(ours).count(f"{cell}({theirs.input_size}, {theirs.hidden_size}")
        assert count >= 1 + theirs.bidirectional


@kinds
def test_weights_move_with_state_dicts(cases):
    for theirs, ours, x, theirs_from, ours_from in cases:
        other = copy.deepcopy(ours)
        other.reset_parameters(1)
        assert other.load_state_dict(ours.state_dict(), strict=True) == ([], [])
        agree(other, x, ours_from, theirs, x, theirs_from)
        with pytest.raises(RuntimeError, match="Unexpected key"):
            other.load_state_dict({**ours.state_dict(), "no such": x})


@kinds
def test_dtypes_and_devices_of_the_module_are_kept(cases, kind, database):
    made = iter(cases)
    for options, (x, *_) in database["inputs"][kind]:
        if options.get("proj_size") or not options["batch_first"]:
            continue
        _, ours, *_ = next(made)
        for target in ({"dtype": torch.float32}, {"dtype": torch.float16}, {"device": "meta"}):
            there = ll.from_torch(getattr(nn, kind)(**options, **target))
            moved = copy.deepcopy(ours).to(**target)
            for module in (there, moved):
                for name, parameter in module.named_parameters():
                    assert parameter.dtype == target.get("dtype", parameter.dtype), name
                    assert parameter.device.type == target.get("device", "cpu"), name
            like = next(there.parameters())
            output, _ = there(x.unsqueeze(0).to(like))
            assert (output.dtype, output.device) == (like.dtype, like.device)


@kinds
def test_there_and_back_between_dtypes_and_devices(cases):
    for _, ours, x, _, state in cases:
        narrow = copy.deepcopy(ours).float()
        output, _ = narrow(x.float(), map_tensors(state, torch.Tensor.float))
        close(output, output.float())
        torch.testing.assert_close(output.double(), ours(x, state)[0], rtol=1e-4, atol=1e-5)
        empty = copy.deepcopy(ours).to("meta").to_empty(device="cpu")
        empty.load_state_dict(ours.state_dict())
        close(numbers_of(empty, empty(x, state)), numbers_of(ours, ours(x, state)))


@kinds
def test_gradients_are_cleared_and_frozen(cases):
    for _, ours, x, _, state in cases:
        ours(x, state)[0].sum().backward()
        assert all(parameter.grad is not None for parameter in ours.parameters())
        ours.zero_grad()
        assert all(parameter.grad is None for parameter in ours.parameters())
        ours.requires_grad_(False)
        assert not ours(x, state)[0].requires_grad


@kinds
def test_a_projection_is_refused(database, kind):
    if kind != "LSTM":
        pytest.skip("only torch.nn.LSTM has a proj_size")
    projected = [options for options, _ in database["inputs"][kind] if options["proj_size"]]
    assert len(projected) == 16
    for options in projected:
        with pytest.raises(ValueError, match=r"proj_size=2, expected 0"):
            ll.from_torch(nn.LSTM(**options))


@kinds
def test_sizes_that_torch_refuses_are_refused(database, kind):
    refused = 0
    for sizes, options in database["errors"][kind]:
        if options or sizes[2:] or sizes[0] == 0:
            continue  # truth values, num_layers and batch_first; input_size=0 runs by itself
        with pytest.raises((ValueError, TypeError), match=r"(input|hidden)_size: got .*, expected"):
            OURS[kind](*sizes)
        refused += 1
    assert refused >= 3


@kinds
def test_another_dtype_is_refused(kind):
    layer = ll.from_torch(getattr(nn, kind)(3, 5, batch_first=True, dtype=torch.float64))
    with pytest.raises(TypeError, match=r"x: got torch.float32, expected torch.float64.*x\.to"):
        layer(torch.ones(2, 3, 3))


@pytest.fixture
def in_place(database, kind):
    """Of each case but projections torch's module, longlag.nn's with the same weights, and what
    both are called with.
    """
    made = []
    torch.manual_seed(0)
    for options, given in database["inputs"][kind]:
        if not options.get("proj_size"):
            theirs = getattr(nn, kind)(**options, dtype=torch.float64)
            ours = getattr(ll.nn, kind)(**options, dtype=torch.float64)
            ours.load_state_dict(theirs.state_dict())
            made.append((theirs, ours, given))
    assert len(made) == (32 if kind == "RNN" else 16)
    return made


def flat(results):
    return list(tensors_of(results))


@kinds
def test_in_place_forward_and_gradients(in_place):
    for theirs, ours, given in in_place:
        for training in (True, False):
            numbers = []
            for module in (theirs.train(training), ours.train(training)):
                leaves = []
                own = map_tensors(given, functools.partial(remember, leaves))
                results = flat(module(*own))
                total = sum(part.sin().sum() for part in results)
                numbers.append(
                    (results, torch.autograd.grad(total, [*leaves, *module.parameters()]))
                )
            close(*numbers)
            assert ours.backend_used == "cpu"


@kinds
def test_in_place_gradcheck_and_gradgradcheck(in_place):
    for _, ours, given in in_place:
        if not ours.bias or len(given) == 1:
            continue
        names = [name for name, _ in ours.named_parameters()]
        count = len(flat(given))

        def run(*numbers, ours=ours, names=names, given=given, count=count):
            left = iter(numbers[:count])
            own = map_tensors(given, lambda _: next(left))
            weights = dict(zip(names, numbers[count:], strict=True))
            return tuple(flat(functional_call(ours, weights, own)))

        leaves = [part.detach().clone().requires_grad_() for part in flat(given)]
        leaves += [weight.detach().clone().requires_grad_() for weight in ours.parameters()]
        assert gradcheck(run, leaves, check_batched_grad=True, fast_mode=True)
        assert gradgradcheck(run, leaves, check_batched_grad=True, fast_mode=True)


@kinds
def test_in_place_inputs_that_are_not_contiguous(in_place):
    for _, ours, given in in_place:
        apart = map_tensors(given, lambda part: torch.stack([part, part], -1)[..., 0])
        close(flat(ours(*apart)), flat(ours(*given)))


@kinds
@pytest.mark.parametrize(
    "way",
    [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))],  # noqa: S301
    ids=["copy", "pickle"],
)
def test_in_place_copies_text_and_state_dicts(in_place, way):
    for theirs, ours, given in in_place:
        other = way(ours)
        assert repr(other) == repr(ours) == repr(theirs)
        assert list(other.state_dict()) == list(theirs.state_dict())
        close(flat(other(*given)), flat(ours(*given)))
        other.reset_parameters()
        assert other.load_state_dict(theirs.state_dict(), strict=True) == ([], [])
        close(flat(other(*given)), flat(theirs(*given)))


@kinds
def test_in_place_errors_are_torchs(database, kind):
    assert database["errors"][kind]
    for sizes, options in database["errors"][kind]:
        said = []
        for home in (nn, ll.nn):
            with pytest.raises((ValueError, TypeError)) as error:
                getattr(home, kind)(*sizes, **options)
            said.append((error.type, str(error.value)))
        assert said[0] == said[1]
