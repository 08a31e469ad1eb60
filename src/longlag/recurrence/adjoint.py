"""The backward step of a recurrence as one scalar program, derived by reverse differentiation."""

import sympy

from longlag.recurrence.functions import Expression, relu, step
from longlag.recurrence.program import Program, compile_program
from longlag.recurrence.traced import Recurrence, real_symbol


def derive_adjoint(recurrence: Recurrence) -> Program:
    r"""Derive the backward step.

    With the states in order of dependence, s^m a function of s^k for k < m,

    .. math:: \Delta_k = \delta_k + \sum_{m > k} \Delta_m \frac{\partial s^m}{\partial s^k},
        \qquad d_z = \sum_k \Delta_k \frac{\partial s^k}{\partial z}

    so that no derivative is written out twice. New states stand for their equations where these
    occur.

    Args:
        recurrence: a traced declaration.

    Returns:
        What sends the error through one step of the pointwise update. Inputs are drives, old
        states, unit parameters, new states ``now.NAME`` and errors ``delta.NAME``; outputs are the
        errors of the drives, of the old states (the pointwise part) and of the unit parameters, in
        the recurrence's order.

    Example:
        >>> from longlag.cells import Elman
        >>> print(derive_adjoint(Elman().recurrence).outputs)
        (7, 8)
    """
    now = {name: real_symbol(f"now.{name}") for name in recurrence.states}
    delta = {name: real_symbol(f"delta.{name}") for name in recurrence.states}
    equations: dict[str, Expression] = {}
    known: dict[Expression, sympy.Symbol] = {}
    for name in recurrence.dependency_order:
        equation = recurrence.equations[name]
        equations[name] = equation.xreplace(known)
        if not equation.is_Atom:
            known[equation] = now[name]

    shown: dict[Expression, Expression] = {}
    for name, equation in equations.items():
        if not equation.is_Atom:
            shown[equation] = now[name]
        if isinstance(equation, relu):
            shown[step(equation.args[0])] = step(now[name])

    def partial(equation: Expression, by: sympy.Symbol) -> Expression:
        if by not in equation.free_symbols:
            return sympy.Integer(0)
        derivative = sympy.diff(equation, by)
        derivative = derivative.replace(sympy.DiracDelta, lambda *_: sympy.Integer(0))
        return derivative.xreplace(shown)

    names = list(equations)
    total: dict[str, Expression] = {}
    for position, name in reversed(list(enumerate(names))):
        error: Expression = delta[name]
        for later in names[position + 1 :]:
            error = error + total[later] * partial(equations[later], now[name])
        total[name] = error

    outputs: list[Expression] = [
        sympy.Add(*(total[name] * partial(equations[name], by) for name in names))
        for by in recurrence.symbols
    ]
    inputs = (*recurrence.inputs, *now.values(), *delta.values())
    return compile_program(inputs, outputs)
