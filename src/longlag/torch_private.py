"""What longlag takes from the private parts of PyTorch: all of it, each with the reason.

Nothing here has a public counterpart. ``tests/test_torch_private.py`` shows of each what longlag
relies on, so that a version of PyTorch without it fails there first; each says what could take its
place then.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.optim import Optimizer
from torch.utils import _pytree as pytree

transforms_active: Callable[[], bool] = torch._C._are_functorch_transforms_active
"""Whether a transform of torch.func (grad, vmap, jacrev) is running.

A kernel reads numbers from memory; inside a transform a tensor stands for others. torch.func has no
question of its own for it. Should it go: ``torch._C._functorch.peek_interpreter_stack() is not
None``, or to ask of each tensor whether it is a wrapper.
"""


def dispatching() -> bool:
    """Whether a mode of ``__torch_dispatch__`` is on: fake tensors, make_fx, counters of FLOPs.

    Such a mode sees operations of PyTorch, and no kernel; its tensors may have no memory. Should it
    go: ``torch.utils._python_dispatch._get_current_dispatch_mode() is not None``.
    """
    return torch._C._len_torch_dispatch_stack() > 0


_NO_DISPATCH: Any = getattr(Tensor, "__torch_dispatch__")  # noqa: B009 - pyright binds it


def stands_in(tensor: Tensor | None) -> bool:
    """Whether a tensor stands for others, and has no memory of its own to read: one of a class with
    a ``__torch_dispatch__``, such as a fake or a distributed tensor.

    Should it go: ``torch.utils._python_dispatch.is_traceable_wrapper_subclass``, which misses some.
    """
    kind: Any = type(tensor)
    return tensor is not None and kind.__torch_dispatch__ is not _NO_DISPATCH


_functorch: Any = getattr(torch._C, "_functorch")  # noqa: B009 - pyright does not know it


def under_transforms(tensor: Tensor) -> Tensor:
    """The numbers that a tensor stands for inside the transforms of torch.func: of vmap, those of
    all calls at once.

    They may be looked at where what vmap maps may not. Should it go: ``torch.func.debug_unwrap``,
    which the lowest supported version of PyTorch has not.
    """
    while _functorch.is_functorch_wrapped_tensor(tensor):
        tensor = _functorch.get_unwrapped(tensor)
    return tensor


def stands_for_many(tensor: Tensor | None) -> bool:
    """Whether a gradient is one of ``torch.autograd.grad(..., is_grads_batched=True)``.

    Its vmap is an older one than torch.func's, of which :func:`transforms_active` does not know.
    Should it go, that vmap has gone too.
    """
    return tensor is not None and _functorch.is_legacy_batchedtensor(tensor)


def forward_mode_active() -> bool:
    """Whether tensors may have tangents: a level of torch.autograd.forward_ad is entered.

    Should it go: ask each tensor, as :func:`has_tangent` does.
    """
    return forward_ad._current_level >= 0


def has_tangent(tensors: Iterable[Tensor | None]) -> bool:
    """Whether forward-mode AD carries a tangent along with one of the tensors: a kernel would pass
    it by.
    """
    if not forward_mode_active():
        return False
    present = (tensor for tensor in tensors if tensor is not None)
    return any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in present)


def name_in_files(kind: type, name: str) -> None:
    """Have torch.export write a kind of named tuple by a name, and read it where it has that name.

    Should it go: plain tuples from a module that is exported.
    """
    pytree._register_namedtuple(kind, serialized_type_name=name)


backward_pass: Callable[[], int] = torch._C._current_graph_task_id
"""The number of the backward pass that is running, -1 outside of one.

It tells gradients that arrive together from those of another pass. Should it go: a callback queued
at the end of a pass that counts them.
"""


assert_when_run: Callable[[Tensor, str], None] = torch._assert_async  # pyright: ignore[reportPrivateImportUsage]
"""Raise a RuntimeError with a message where a truth value is false, also inside a compiled graph.

Should it go: an operator of torch.library that looks, and gives out what it was given.
"""


def version(tensor: Tensor) -> int:
    """How often a tensor was changed in place; -1 for one of inference mode, which does not count.

    Autograd compares it to refuse a backward pass over numbers that have changed; so does what is
    read after the fact here. Should it go: a copy of the numbers.
    """
    return -1 if tensor.is_inference() else tensor._version


def slots(module: nn.Module) -> tuple[list[tuple[Any, str]], list[tuple[Any, str]]]:
    """Where a module and those in it keep their parameters and their buffers: dicts and names.

    To ask for one again costs a tenth of a walk by ``named_parameters()``, which could take its
    place.
    """
    parts = [*module.modules()]
    return (
        [(part._parameters, name) for part in parts for name in part._parameters],
        [(part._buffers, name) for part in parts for name in part._buffers],
    )


def plain_apply(node: type[torch.autograd.Function]) -> Callable[..., Any]:
    """``node.apply``, for calls outside of torch.func's transforms.

    ``Function.apply`` first looks at every argument for their sake, which a short call feels.
    Should it go: ``node.apply`` itself, which gives the same.
    """
    return super(torch.autograd.Function, node).apply  # type: ignore[misc]


def without_hooks(module: nn.Module) -> Any:
    """The same module, in evaluation mode and without hooks; parameters and buffers are shared.

    What it sets as its attributes stays its own: the original is not touched by its passes.
    """

    def change(clone: nn.Module, _: nn.Module) -> None:
        clone.__dict__.update({name: OrderedDict() for name in _HOOKS if name in clone.__dict__})
        clone.__dict__.update(training=False)

    return shallow_copy(module, change)


def shallow_copy(
    module: nn.Module,
    change: Callable[[Any, nn.Module], None],
    known: dict[int, nn.Module] | None = None,
) -> Any:
    """A module of copies of all modules in it, which share parameters and buffers.

    ``nn.Module`` has no way to call a module past the hooks that others have put on it, nor to copy
    it without its parameters. Should its fields change: a deep copy, with the memory of one.

    Args:
        module: what to copy.
        change: called with each copy, whose parameters, buffers and modules are in dicts of its
            own, and the module that it is of.
        known: the copies of modules that were met before, by identity.
    """
    known = {} if known is None else known
    if id(module) not in known:
        clone = known[id(module)] = object.__new__(type(module))
        clone.__dict__.update(module.__dict__, _compiled_call_impl=None)
        for name in ("_parameters", "_buffers"):
            clone.__dict__[name] = dict(getattr(module, name))
        clone.__dict__["_modules"] = {
            name: child if child is None else shallow_copy(child, change, known)
            for name, child in module._modules.items()
        }
        change(clone, module)
    return known[id(module)]


def flat_weights(module: nn.RNNBase) -> list[Tensor]:
    """The weights of an RNN, LSTM or GRU of torch.nn, of each layer, and in it of each direction,
    as its own pass would read them now, whatever has taken the place of a parameter.

    Should it go: ``itertools.chain(*module.all_weights)``, which computes what others compute
    another number of times than torch.nn does: spectral_norm then has other numbers in training.
    """
    module._update_flat_weights()
    return module._flat_weights  # type: ignore[return-value]


def refresh_computed(module: nn.Module) -> None:
    """Have the hooks of torch.nn.utils make anew what they compute before each pass.

    Those of weight_norm, spectral_norm and pruning put a tensor in a parameter's place.
    """
    for hook in module._forward_pre_hooks.values():
        if _computes(hook):
            hook(module, ())


def recomputes(module: nn.Module) -> bool:
    """Whether such a hook is on a module."""
    return any(map(_computes, module._forward_pre_hooks.values()))


def forget_computing(module: nn.Module) -> None:
    """Take these hooks off a copy of a module."""
    hooks = module._forward_pre_hooks.items()
    module._forward_pre_hooks = OrderedDict(pair for pair in hooks if not _computes(pair[1]))


def _computes(hook: object) -> bool:
    return type(hook).__module__.startswith("torch.nn.utils.")


_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def has_hooks(owner: nn.Module | Tensor | Optimizer) -> bool:
    """Whether something is to be called when a module, a gradient or an optimizer is at work.

    Should the names go: who passes them by would have to refuse what may have hooks.
    """
    names = (*_HOOKS, "_post_accumulate_grad_hooks")
    names += ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
    return any(getattr(owner, name, None) for name in names)


def own_libraries(pattern: str) -> list[Path]:
    """Libraries that PyTorch brings in its package, by a pattern of their names.

    Should they lie elsewhere: kernels of several threads would run on threads of their own.
    """
    return sorted((Path(torch.__file__).parent / "lib").glob(pattern))
