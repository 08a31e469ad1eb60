"""The optimizers of torch, and Lion, as compiled functions over one parameter each.

The formulas, and the order of their operations, are those of torch's own functions for a single
tensor. The state is torch's own too: it is made by the optimizer and changed in place.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from longlag.scan.cpu import math
from longlag.scan.cpu.builder import I64, Code, Value, of_each
from longlag.scan.cpu.math_values import Arithmetic
from longlag.scan.cpu.target import addresses_of
from longlag.training.compiled.piece import DOUBLE, full_lanes
from longlag.training.lion import Lion

STATES = 3
"""Tensors of state that an optimizer has for a parameter, at most."""


class Rule(NamedTuple):
    """What is compiled for a parameter group.

    Attributes:
        formula: of a parameter's new value, ``(arithmetic, rule, coefficients, parameter, gradient,
            states)``; it writes the new states into the list.
        states: the names of a parameter's tensors of state, in the order of the formula.
        decays, decoupled, momentum, nesterov, centered: which terms it has.
    """

    formula: "Formula"
    states: tuple[str, ...]
    decays: bool = False
    decoupled: bool = False
    momentum: bool = False
    nesterov: bool = False
    centered: bool = False


def rule_of(optimizer: Optimizer, group: dict[str, Any]) -> Rule | str:
    """The rule of a parameter group, or why there is none."""
    kind = type(optimizer)
    if kind not in (SGD, RMSprop, Adam, AdamW, Lion):
        return (
            f"the optimizer is {kind.__name__}; expected SGD, RMSprop, Adam or AdamW of torch, or "
            "Lion"
        )
    for option in ("amsgrad", "maximize", "differentiable", "capturable"):
        if group.get(option):
            return f"the optimizer has {option}={group[option]!r}"
    decays, momentum = group["weight_decay"] != 0, bool(group.get("momentum"))
    if kind is SGD:
        states = ("momentum_buffer",) * momentum
        return Rule(_sgd, states, decays, momentum=momentum, nesterov=group["nesterov"])
    if kind is RMSprop:
        centered = bool(group["centered"])
        states = ("square_avg", *("grad_avg",) * centered, *("momentum_buffer",) * momentum)
        return Rule(_rmsprop, states, decays, momentum=momentum, centered=centered)
    if kind is Lion:
        return Rule(_lion, ("exp_avg",), decays, decoupled=decays)
    decoupled = kind is AdamW or group.get("decoupled_weight_decay", False)
    return Rule(_adam, ("exp_avg", "exp_avg_sq"), decays, decoupled=decays and decoupled)


def coefficients(
    rules: Sequence[Rule],
    groups: Sequence[dict[str, Any]],
    made: Sequence[int],
    updates: int,
    after_each: Callable[[], None] | None = None,
) -> "np.ndarray[Any, Any]":
    """The numbers of the next updates, (updates, groups :data:`COEFFICIENTS`).

    Args:
        rules, groups: of the optimizer.
        made: how many updates each group has had.
        updates: how many follow.
        after_each: called when the numbers of an update are fixed, for schedules; None: all
            updates have the numbers that the groups have now.
    """
    # One array: lists that stay would call the collector, which looks through all of PyTorch.
    table = np.zeros((updates, len(groups), COEFFICIENTS))
    at_once = updates if after_each is None else 1
    for first in range(0, updates, at_once):
        for place, (rule, group, before) in enumerate(zip(rules, groups, made, strict=True)):
            steps = range(before + first + 1, before + first + at_once + 1)
            for column, numbers in enumerate(_numbers(rule, group, steps)):
                table[first : first + at_once, place, column] = numbers
        if after_each is not None:
            after_each()
    return table.reshape(updates, -1)


@functools.lru_cache(maxsize=64)
def _corrections(
    first: float, second: float, steps: range
) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """Of Adam's means, in updates counted from 1; of many networks they are the same."""
    size = np.array([1 - first**step for step in steps])
    return size, np.array([(1 - second**step) ** 0.5 for step in steps])


def _numbers(
    rule: Rule, group: dict[str, Any], steps: range
) -> "list[float | np.ndarray[Any, Any]]":
    """Those of updates counted from 1, in the order of the formula: one for all, or one of each."""
    rate, decay = float(group["lr"]), float(group["weight_decay"])
    if rule.formula is _sgd:
        momentum = float(group["momentum"])
        return [-rate, decay, momentum, 1 - float(group["dampening"])]
    if rule.formula is _rmsprop:
        alpha = float(group["alpha"])
        return [-rate, decay, alpha, 1 - alpha, float(group["eps"]), float(group["momentum"])]
    first, second = map(float, group["betas"])
    if rule.formula is _lion:
        return [rate, 1 - rate * decay, first, 1 - first, second, 1 - second]
    size, root = _corrections(first, second, steps)
    decay = 1 - rate * decay if rule.decoupled else decay
    return [-(rate / size), decay, 1 - first, second, 1 - second, root, float(group["eps"])]


COEFFICIENTS = 8
"""Numbers that are kept for each parameter group and update."""


def step_of(state: dict[str, Any]) -> int:
    """How many updates a parameter has had, as its state says; 0 where that is not counted."""
    return int(state.get("step", 0))


Formula = Callable[[Arithmetic, Rule, Sequence[Value], Value, Value, list[Value]], Value]


def _sgd(
    v: Arithmetic, rule: Rule, c: Sequence[Value], p: Value, g: Value, state: list[Value]
) -> Value:
    rate, decay, momentum, keep = c[:4]
    if rule.decays:
        g = v.fma(p, decay, g)
    if rule.momentum:
        state[0] = v.fma(g, keep, v.mul(state[0], momentum))
        g = v.fma(state[0], momentum, g) if rule.nesterov else state[0]
    return v.fma(g, rate, p)


def _rmsprop(
    v: Arithmetic, rule: Rule, c: Sequence[Value], p: Value, g: Value, state: list[Value]
) -> Value:
    rate, decay, alpha, rest, eps, momentum = c[:6]
    if rule.decays:
        g = v.fma(p, decay, g)
    square = state[0] = v.add(v.mul(state[0], alpha), v.mul(v.mul(g, g), rest))
    if rule.centered:
        mean = state[1] = v.fma(v.sub(g, state[1]), rest, state[1])
        square = v.sub(square, v.mul(mean, mean))
    root = v.add(v.sqrt(square), eps)
    if rule.momentum:
        state[-1] = v.add(v.mul(state[-1], momentum), v.div(g, root))
        return v.fma(state[-1], rate, p)
    return v.add(p, v.div(v.mul(rate, g), root))


def _lion(
    v: Arithmetic, rule: Rule, c: Sequence[Value], p: Value, g: Value, state: list[Value]
) -> Value:
    rate, decay, first, first_rest, second, second_rest = c[:6]
    way = math.emit(v.builder, "sign", v.fma(g, first_rest, v.mul(state[0], first)))
    state[0] = v.fma(g, second_rest, v.mul(state[0], second))
    return v.sub(v.mul(p, decay) if rule.decoupled else p, v.mul(way, rate))


def _adam(
    v: Arithmetic, rule: Rule, c: Sequence[Value], p: Value, g: Value, state: list[Value]
) -> Value:
    size, decay, first_rest, second, second_rest, root, eps = c[:7]
    if rule.decoupled:
        p = v.mul(p, decay)
    elif rule.decays:
        g = v.fma(p, decay, g)
    mean = state[0] = v.fma(v.sub(g, state[0]), first_rest, state[0])
    square = state[1] = v.add(v.mul(state[1], second), v.mul(v.mul(g, g), second_rest))
    below = v.add(v.div(v.sqrt(square), root), eps)
    return v.add(p, v.div(v.mul(size, mean), below))


_NAME = "longlag_optimizer"


@functools.cache
def compiled_rule(rule: Rule, double: bool, networks: int = 1) -> int:
    """The address of f(parameter, gradient, state 0, 1, 2, count, coefficients, scale): the numbers
    of one parameter are changed in place; ``scale`` is the address of what the gradient is
    multiplied by. Of several networks, those for which it is NaN are left as they are."""
    names = ["parameter", "gradient", *(f"state_{n}" for n in range(STATES)), "count",
             "coefficients", "scale"]  # fmt: skip
    module = ir.Module(_NAME)
    kind = ir.FunctionType(ir.VoidType(), [I64] * len(names))
    lanes, wide_kind = full_lanes(double, networks), of_each(DOUBLE, networks)
    code = Code(ir.Function(module, kind, _NAME), double, lanes, networks)
    arg = dict(zip(names, code.function.args, strict=True))
    b = code.b
    states = len(rule.states)
    pointers = [b.inttoptr(arg[name], code.pointer) for name in names[: 2 + states]]
    table = b.inttoptr(arg["coefficients"], wide_kind.as_pointer())

    def number(address: Value) -> Value:
        value = b.load(address)
        return value if double else b.fptrunc(value, code.scalar)

    singles = [number(b.gep(table, [code.i64(n)])) for n in range(COEFFICIENTS)]
    scale = number(b.inttoptr(arg["scale"], wide_kind.as_pointer()))
    vectors, wide_scale = [code.splat(single) for single in singles], code.splat(scale)
    whole = b.and_(arg["count"], code.i64(-code.lanes))

    def some(index: Value, numbers: Sequence[Value], factor: Value, wide: bool) -> None:
        addresses = [code.at(pointer, index) for pointer in pointers]
        p, g, *state = [code.load(a) if wide else b.load(a) for a in addresses]
        v, before = Arithmetic(b, code.vector if wide else code.scalar), (p, *state)
        p = rule.formula(v, rule, numbers, p, v.mul(g, factor), state)
        after = p, *state
        if networks > 1:
            goes_on = v.equal(factor, factor)
            after = [v.select(goes_on, *pair) for pair in zip(after, before, strict=True)]
        for value, address in zip(after, (addresses[0], *addresses[2:]), strict=True):
            if wide:
                code.store(value, address)
            else:
                b.store(value, address)

    with code.loop(code.i64(0), whole, code.lanes) as index:
        some(index, vectors, wide_scale, wide=True)
    with code.loop(whole, arg["count"]) as index:
        some(index, singles, scale, wide=False)
    b.ret_void()
    return addresses_of(str(module), (_NAME,))[_NAME]
