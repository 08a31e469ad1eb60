"""What is used of PyTorch's private parts does what longlag relies on; nothing else uses any."""

import re
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import parametrizations, prune
from torch.utils._pytree import tree_flatten, treespec_dumps, treespec_loads

import longlag
from longlag.torch_private import (
    assert_when_run,
    backward_pass,
    dispatching,
    flat_weights,
    forget_computing,
    forward_mode_active,
    has_hooks,
    has_tangent,
    name_in_files,
    own_libraries,
    plain_apply,
    recomputes,
    slots,
    stands_for_many,
    stands_in,
    transforms_active,
    under_transforms,
    version,
    without_hooks,
)

SOURCE = Path(longlag.__file__).parent


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, d_output):
        return 2 * ctx.saved_tensors[0] * d_output


@pytest.mark.parametrize("transform", [torch.func.grad, torch.func.vmap, torch.func.jacrev])
def test_transforms_are_seen_inside_and_only_there(transform):
    seen = []

    def look(x):
        seen.append(transforms_active())
        return x.sum()

    transform(look)(torch.ones(3, 2))
    assert seen == [True]
    assert not transforms_active()


def test_modes_and_tensors_that_stand_for_others_are_seen():
    mode = FakeTensorMode()
    fake = mode.from_tensor(torch.ones(2))
    assert not dispatching()
    with mode:
        assert dispatching()
    assert stands_in(fake)

    class Named(torch.Tensor):
        pass

    for tensor in (
        None,
        torch.ones(2),
        nn.Parameter(torch.ones(2)),
        torch.ones(2).as_subclass(Named),
    ):
        assert not stands_in(tensor)


def test_an_assertion_on_values_raises_its_message():
    assert_when_run(torch.tensor(True), "no")
    with pytest.raises(RuntimeError, match="what it says"):
        assert_when_run(torch.tensor(False), "what it says")


def test_hooks_that_compute_weights_are_told_from_others():
    layer = nn.Linear(2, 2)
    layer.register_forward_pre_hook(lambda *_: None)
    assert not recomputes(layer)
    prune.l1_unstructured(layer, "weight", amount=1)
    assert recomputes(layer)
    forget_computing(layer)
    assert not recomputes(layer)
    assert len(layer._forward_pre_hooks) == 1


def test_each_backward_pass_has_a_number_of_its_own():
    x = torch.ones(2, requires_grad=True)
    first, second = x * 2, x * 3
    numbers = []
    for tensor in (first, second):
        tensor.register_hook(lambda gradient: numbers.append(backward_pass()))
    (first + second).sum().backward(retain_graph=True)
    first.sum().backward()
    assert numbers[0] == numbers[1] != numbers[2]
    assert min(numbers) >= 0
    assert backward_pass() == -1


def test_the_version_counts_changes_in_place():
    x = torch.zeros(2)
    before = version(x)
    x.add_(1)
    assert version(x) == before + 1
    with torch.inference_mode():
        assert version(torch.zeros(2)) == -1


def test_slots_are_where_parameters_and_buffers_are_found_and_replaced():
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    parameters, buffers = slots(module)
    assert [own[name] for own, name in parameters] == [*module.parameters()]
    assert all(
        own[name] is buffer for (own, name), buffer in zip(buffers, module.buffers(), strict=True)
    )
    module[0].bias = nn.Parameter(torch.ones(3))
    own, name = parameters[1]
    assert own[name] is module[0].bias


def test_the_plain_apply_gives_what_apply_gives():
    results = []
    for apply in (Square.apply, plain_apply(Square)):
        x = torch.tensor([2.0, 3.0], requires_grad=True)
        output = apply(x)
        output.sum().backward()
        results.append((output.tolist(), x.grad))
    assert results[0][0] == results[1][0] == [4.0, 9.0]
    assert results[0][1].tolist() == results[1][1].tolist() == [4.0, 6.0]


def test_a_module_without_hooks_shares_its_numbers_and_none_of_its_hooks():
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    heard = []
    for each in (module, *module):
        each.register_forward_hook(lambda *_: heard.append("after"))
        each.register_forward_pre_hook(lambda *_: heard.append("before"))
        each.register_full_backward_hook(lambda *_: heard.append("backward"))
    clone = without_hooks(module)
    means = module[1].running_mean.clone()
    clone(torch.randn(5, 2)).sum().backward()
    assert heard == []
    assert not any(each.training for each in clone.modules())
    assert torch.equal(module[1].running_mean, means)  # evaluation mode
    assert all(a is b for a, b in zip(clone.parameters(), module.parameters(), strict=True))
    module(torch.randn(5, 2))
    assert heard.count("after") == heard.count("before") == 3


def test_flat_weights_are_what_a_recurrent_module_reads_now():
    module = nn.GRU(2, 3, bidirectional=True)
    names = [f"{name}_l0{way}" for way in ("", "_reverse") for name in (
        "weight_ih", "weight_hh", "bias_ih", "bias_hh"
    )]  # fmt: skip
    module.weight_ih_l0 = nn.Parameter(torch.ones(9, 2))
    parametrizations.weight_norm(module, "weight_hh_l0")
    for _ in range(2):
        for name, weight in zip(names, flat_weights(module), strict=True):
            assert torch.equal(weight, getattr(module, name)), name
        module.parametrizations.weight_hh_l0.original0.data.mul_(2)
    with torch.no_grad():
        other = {"bias_hh_l0_reverse": torch.full((9,), 5.0)}
        seen = []
        module.register_forward_hook(lambda *_: seen.append(flat_weights(module)[7]))
        torch.func.functional_call(module, other, (torch.zeros(1, 2),))
    assert seen[0] is other["bias_hh_l0_reverse"]


def test_libraries_of_its_own_are_found():
    found = own_libraries("libtorch*")
    assert any(path.name.startswith("libtorch") for path in found)
    assert own_libraries("no such library*") == []


def test_no_other_file_uses_a_private_part():
    private = re.compile(r"torch\._|nn\.modules\.\w+\._|\._version\b|super\(torch\.")
    users = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if private.search(path.read_text(encoding="utf-8"))
    }
    assert users == {"torch_private.py"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_levels_of_forward_mode_are_seen_inside_and_only_there():
    assert not forward_mode_active()
    with torch.autograd.forward_ad.dual_level():
        assert forward_mode_active()
    assert not forward_mode_active()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch.jit, in forward mode
@pytest.mark.parametrize("grad", [True, False])
def test_tangents_are_seen(grad):
    x = torch.ones(2)
    with torch.set_grad_enabled(grad), torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, x)
        assert has_tangent((None, x, dual))
        assert not has_tangent((None, x))
    assert not has_tangent((dual,))


def test_numbers_under_transforms_are_those_of_all_calls():
    x, seen = torch.arange(6.0).view(2, 3), []

    def look(row):
        seen.append(under_transforms(row))
        return row.sum()

    torch.func.vmap(torch.func.grad(look))(x)
    assert torch.equal(seen[0], x)
    assert under_transforms(x) is x


def test_batched_gradients_are_told_from_others():
    x, seen = torch.ones(2, requires_grad=True), []
    y = 2 * x
    y.register_hook(lambda gradient: seen.append(stands_for_many(gradient)))
    torch.autograd.grad(y, x, torch.eye(2), is_grads_batched=True, retain_graph=True)
    torch.autograd.grad(y, x, torch.ones(2))
    assert seen == [True, False]
    assert not stands_for_many(None)


def test_a_named_tuple_has_a_name_in_files():
    kind = namedtuple("Pair", "one other")
    name_in_files(kind, "longlag.tests.Pair")
    spec = tree_flatten(kind(1, 2))[1]
    assert treespec_loads(treespec_dumps(spec)) == spec


def test_hooks_of_modules_gradients_and_optimizers_are_seen():
    module = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    for owner, register in (
        (module, module.register_forward_hook),
        (module, module.register_forward_pre_hook),
        (module, module.register_full_backward_hook),
        (module.weight, module.weight.register_hook),
        (module.weight, module.weight.register_post_accumulate_grad_hook),
        (optimizer, optimizer.register_step_pre_hook),
        (optimizer, optimizer.register_step_post_hook),
    ):
        assert not has_hooks(owner)
        handle = register(lambda *_: None)
        assert has_hooks(owner)
        handle.remove()
