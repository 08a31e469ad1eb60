"""A backend as a contributor would add it: NumPy, one folder and one line of the table.

It knows nothing of any cell: the lowered recurrence gives the products, the forward program and the
adjoint, and `Program.evaluate` runs them on arrays.
"""

from __future__ import annotations

import numpy as np
import torch

from longlag.recurrence import derive_adjoint
from longlag.recurrence.arithmetic import NUMPY
from longlag.recurrence.lowered import lower
from longlag.scan.backend import Backend, Gradients, Run
from longlag.scan.trajectory import paths_of, states_before


def arrays(*tensors):
    return [tensor.detach().numpy() for tensor in tensors]


def masked(matrix, pattern, hidden):
    if pattern is None:
        return matrix
    size = hidden // len(pattern)
    return np.where(np.kron(np.array(pattern), np.ones((size, size))) != 0, matrix, 0.0)


def states_after(lowered, paths, t):
    """The states after step t; what is held counts nowhere in the adjoint."""
    origins = lowered.origins
    places = [(place, lowered.depths[place] - back + t + 1) for place, back in origins]
    return [paths[place][at : at + 1] for place, at in places]


class Toy(Backend):
    name = "toy"

    def unsupported(self, like):
        if like.device.type != "cpu" or like.dtype != torch.float64:
            return f"it has float64 on the CPU, not {like.dtype} on {like.device}"
        return None

    def forward(self, inputs, backward):
        recurrence, x, weights, initial, schedule, _ = inputs
        steps = _Steps(recurrence, x, weights, schedule)
        if initial is None:
            states = [np.zeros(steps.state) for _ in recurrence.states]
        else:
            states = arrays(*initial)
        visited = [states]
        for t in range(steps.count):
            before = steps.before(t, visited[-1])
            inputs = [*steps.drives(t, before), *before, *steps.units, *steps.clock(t)]
            new = recurrence.forward.evaluate(NUMPY, inputs)
            new = [np.broadcast_to(value, steps.state) for value in new]
            visited.append(steps.where_active(t, new, visited[-1]))
        visited = [[torch.from_numpy(np.array(state)) for state in states] for states in visited]
        return Run(paths_of(lower(recurrence), visited), [s.clone() for s in visited[-1]])

    def backward(self, inputs, run, gradients, wanted):
        recurrence, x, weights, _, schedule, _ = inputs
        steps, lowered = _Steps(recurrence, x, weights, schedule), lower(recurrence)
        adjoint, states = derive_adjoint(recurrence), len(recurrence.states)
        output = recurrence.states.index(recurrence.output)
        d_output, *delta = [None if g is None else g.detach().numpy() for g in gradients]
        delta = [np.zeros(steps.state) if error is None else error for error in delta]
        d_a = np.zeros(steps.a.shape)
        d_matrices = [np.zeros(matrix.shape) for matrix in steps.matrices]
        d_units = [np.zeros(unit.shape) for unit in steps.units]
        for t in reversed(range(steps.count)):
            read = states_before(lowered, run.states, schedule, t, t + 1)
            before = [state[0] for state in arrays(*read)]
            after = [state[0] for state in arrays(*states_after(lowered, run.states, t))]
            if d_output is not None:
                delta[output] = delta[output] + steps.active(t) * d_output[t]
            error = [steps.active(t) * each for each in delta]
            given = [
                *steps.drives(t, before),
                *before,
                *steps.units,
                *steps.clock(t),
                *after,
                *error,
            ]
            found = adjoint.evaluate(NUMPY, given)
            for product in reversed(lowered.inner):
                if not product.truncated:
                    for gate, wire in zip(product.gates, product.wires, strict=True):
                        dr = found[lowered.apart + gate] * steps.active(t)
                        back = steps.read(dr @ steps.matrices[wire])
                        error[product.source] = error[product.source] + back
                found = adjoint.evaluate(NUMPY, [*given[: -len(error)], *error])
            found = [np.broadcast_to(value, steps.state) * steps.active(t) for value in found]
            by_drive, rest = found[: len(lowered.drives)], found[len(lowered.drives) :]
            for gate, drive in enumerate(lowered.drive_of_gate):
                d_a[t][..., steps.rows(gate)] = by_drive[drive]
            sent = list(rest[:states])
            for product in lowered.products:
                for gate, wire in zip(product.gates, product.wires, strict=True):
                    dr = by_drive[lowered.apart + gate]
                    read = steps.read((after if product.new else before)[product.source])
                    d_matrices[wire] += dr.swapaxes(-1, -2) @ read
                    if not (product.truncated or product.new):
                        back = steps.read(dr @ steps.matrices[wire])
                        sent[product.source] = sent[product.source] + back
            for unit, value in enumerate(rest[states:]):
                d_units[unit] += value.sum(-2, keepdims=True)
            resting = 1 - steps.active(t)
            delta = [
                steps.keep(t) * new + resting * old for new, old in zip(sent, delta, strict=True)
            ]
        return steps.gradients(d_a, d_matrices, delta, d_units)


class _Steps:
    """What the steps of one call read."""

    def __init__(self, recurrence, x, weights, schedule):
        self.recurrence, self.lowered, self.schedule = recurrence, lower(recurrence), schedule
        if schedule.active is not None:
            x = x.masked_fill(~schedule.active, 0.0)
        (self.x,), self.weights = arrays(x), weights
        self.count = len(self.x)
        self.a = self.x
        if weights.input is not None:
            (matrix,) = arrays(weights.input)
            self.a = self.x @ matrix.swapaxes(-1, -2)
            if weights.bias is not None:
                self.a = self.a + weights.bias.detach().numpy()[..., None, :]
        self.hidden = self.a.shape[-1] // len(recurrence.gates)
        self.state = (*self.a.shape[1:-1], self.hidden)
        self.units = arrays(*weights.units)
        self.matrices = []
        if weights.recurrent is not None:
            whole = weights.recurrent.detach().numpy()
            for number, wire in enumerate(recurrence.wires):
                rows = whole[..., number * self.hidden : (number + 1) * self.hidden, :]
                self.matrices.append(masked(rows, wire.pattern, self.hidden))

    def clock(self, t):
        return [] if self.schedule.clock is None else arrays(self.schedule.clock[t])

    def rows(self, gate):
        return slice(gate * self.hidden, (gate + 1) * self.hidden)

    def flags(self, flags, t):
        return 1.0 if flags is None else flags[t].numpy().astype(float)

    def active(self, t):
        return self.flags(self.schedule.active, t)

    def keep(self, t):
        return self.flags(self.schedule.keep, t)

    def before(self, t, states):
        if self.schedule.keep is None:
            return states
        return [np.where(self.schedule.keep[t].numpy(), state, 0.0) for state in states]

    def where_active(self, t, new, old):
        if self.schedule.active is None:
            return new
        flags = self.schedule.active[t].numpy()
        return [np.where(flags, one, other) for one, other in zip(new, old, strict=True)]

    def read(self, state):
        mask = self.schedule.mask
        return state if mask is None else state * mask.detach().numpy()

    def drives(self, t, before):
        recurrent = [np.zeros(self.state) for _ in self.recurrence.dense_gates]
        old = [product for product in self.lowered.products if not product.new]
        for product in (*old, *self.lowered.inner):
            states = before
            if product.new:  # what later stages make of what is not there yet is not read
                inputs = [*self.filled(t, recurrent), *before, *self.units, *self.clock(t)]
                states = self.recurrence.forward.evaluate(NUMPY, inputs)
            for gate, wire in zip(product.gates, product.wires, strict=True):
                read = self.read(np.broadcast_to(states[product.source], self.state))
                recurrent[gate] = recurrent[gate] + read @ self.matrices[wire].swapaxes(-1, -2)
        return self.filled(t, recurrent)

    def filled(self, t, recurrent):
        found = []
        for gate, dense in self.lowered.drives:
            value = np.zeros(self.state) if gate is None else self.a[t][..., self.rows(gate)]
            found.append(value if dense is None else value + recurrent[dense])
        return found

    def gradients(self, d_a, d_matrices, delta, d_units):
        def tensor(array):
            return torch.from_numpy(np.ascontiguousarray(array))

        recurrent = None
        if d_matrices:
            patterns = [wire.pattern for wire in self.recurrence.wires]
            pairs = zip(d_matrices, patterns, strict=True)
            rows = [masked(d_matrix, pattern, self.hidden) for d_matrix, pattern in pairs]
            recurrent = tensor(np.concatenate(rows, -2))
        initial, units = [*map(tensor, delta)], [*map(tensor, d_units)]
        if self.weights.input is None:
            return Gradients(tensor(d_a), None, None, recurrent, initial, units)
        matrix = self.weights.input.detach().numpy()
        d_matrix = (d_a.swapaxes(-1, -2) @ self.x).sum(0)
        return Gradients(
            tensor(d_a @ matrix), tensor(d_matrix), tensor(d_a.sum((0, -2))), recurrent, initial,
            units,
        )  # fmt: skip
