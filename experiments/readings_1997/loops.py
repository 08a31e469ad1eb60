"""The LSTM and the one-unit net of 1997 on long lag 2a, under readings of what the paper left open.

A reading is a row of numbers, in the order of NAMES or UNIT_NAMES. The nets are those of
`longlag.lab.reproduce.one_unit_loops`: u from the symbols to the unit or cell, gate from the
symbols to the cell's input gate, direct from the symbols to the outputs, v from the unit to the
outputs.
"""

import math

import numpy as np
from numba import njit, prange

from longlag.lab.reproduce.one_unit_loops import LIMIT, logistic, present

NAMES = ("rate", "slope", "online", "g", "h", "alone", "v_zero", "gate")
"""rate: of descent. slope: whether an output's error is times its slope (half the squared error),
or not (cross-entropy). online: whether weights change after each step, else after each sequence. g:
of the cell's input, 0 logistic, 1 in [-1, 1], 2 in [-2, 2]. h: of the cell, 0 itself, 1 in [-1, 1].
alone: sequences for which the direct links learn alone. v_zero: whether the cell's outgoing weights
begin at zero. gate: what is added to the input gate, and does not learn."""

UNIT_NAMES = ("rate", "slope", "unit", "late", "goes_on", "online", "alone")
"""unit: of the hidden unit, as g. late: whether outputs read its state of the step before. goes_on:
whether state and trace go on from sequence to sequence. The others are as above."""

EVERY, UNIT_EVERY = 20, 100
"""Sequences between two looks at whether a trial has succeeded."""


@njit(error_model="numpy")
def _squashed(kind, z):
    """A squashing function and its slope."""
    y = logistic(z)
    if kind == 0:
        return y, y * (1 - y)
    size = 2.0 if kind == 1 else 4.0
    return size * y - size / 2, size * y * (1 - y)


@njit(error_model="numpy")
def _cell_output(kind, c):
    return (c, 1.0) if kind == 0 else _squashed(1, c)


@njit(error_model="numpy", fastmath=True)
def _errors(row, v, h, due, slope, errors):
    """Errors of the outputs before their squashing, and their sum back to the unit."""
    back = 0.0
    for j in range(len(v)):
        y = logistic(row[j] + v[j] * h)
        e = y - (1.0 if j == due else 0.0)
        if slope > 0:
            e *= y * (1 - y)
        errors[j] = e
        back += e * v[j]
    return back


@njit(error_model="numpy")
def _learn(reading, u, gate, direct, v, symbols, awake):
    """One sequence of the LSTM; the traces of RTRL are exact, as nothing recurs but the cell."""
    rate, slope, online, g_kind, h_kind = reading[:5]
    p, k, c = len(symbols) - 1, len(u), 0.0
    by_u, by_gate, errors = np.zeros(k), np.zeros(k), np.zeros(k)
    d_v, d_u, d_gate = np.zeros(k), np.zeros(k), np.zeros(k)
    for t in range(p):
        seen, due = symbols[t], symbols[t + 1]
        h, h_slope = 0.0, 0.0
        if awake:
            i = logistic(gate[seen] + reading[7])
            g, g_slope = _squashed(g_kind, u[seen])
            c += i * g
            by_u[seen] += i * g_slope
            by_gate[seen] += i * (1 - i) * g
            h, h_slope = _cell_output(h_kind, c)
        back = _errors(direct[seen], v, h, due, slope, errors) * h_slope
        direct[seen] -= rate * errors
        d_v += errors * h
        d_u += back * by_u
        d_gate += back * by_gate
        if online > 0 or t == p - 1:
            v -= rate * d_v
            u -= rate * d_u
            gate -= rate * d_gate
            d_v[:], d_u[:], d_gate[:] = 0.0, 0.0, 0.0


@njit(error_model="numpy")
def _middle(symbols, end):
    symbols[0] = symbols[-1] = end
    for t in range(1, len(symbols) - 1):
        symbols[t] = t - 1


@njit(error_model="numpy")
def _worst(reading, u, gate, direct, v, symbols):
    """The largest error of any output over both sequences."""
    p, worst = len(symbols) - 1, 0.0
    errors = np.zeros(p + 1)
    for end in range(p - 1, p + 1):
        _middle(symbols, end)
        c = 0.0
        for t in range(p):
            seen = symbols[t]
            c += logistic(gate[seen] + reading[7]) * _squashed(reading[3], u[seen])[0]
            _errors(direct[seen], v, _cell_output(reading[4], c)[0], symbols[t + 1], 0, errors)
            worst = max(worst, np.abs(errors).max())
    return worst


@njit(error_model="numpy")
def _trial(reading, p, budget, seed):
    np.random.seed(seed)  # noqa: NPY002 - what Numba has
    k = p + 1
    u, gate = np.random.uniform(-0.2, 0.2, k), np.random.uniform(-0.2, 0.2, k)  # noqa: NPY002
    direct, v = np.random.uniform(-0.2, 0.2, (k, k)), np.random.uniform(-0.2, 0.2, k)  # noqa: NPY002
    if reading[6] > 0:
        v[:] = 0.0
    state = np.array([seed], np.uint64)
    symbols, looked = np.zeros(p + 1, np.int64), np.zeros(p + 1, np.int64)
    for n in range(1, budget + 1):
        present(symbols, state, False)
        _learn(reading, u, gate, direct, v, symbols, n > reading[5])
        if n % EVERY == 0 and n > reading[5]:
            worst = _worst(reading, u, gate, direct, v, looked)
            if math.isnan(worst):
                return -1
            if worst < LIMIT:
                return n
    return -1


@njit(error_model="numpy")
def _unit_worst(reading, into, direct, v, start, symbols):
    p, worst = len(symbols) - 1, 0.0
    errors = np.zeros(p + 1)
    for end in range(p - 1, p + 1):
        _middle(symbols, end)
        h = start
        for t in range(p):
            seen, earlier = symbols[t], h
            h = _squashed(reading[2], into[seen] + into[-1] * earlier)[0]
            read = earlier if reading[3] > 0 else h
            _errors(direct[seen], v, read, symbols[t + 1], 0, errors)
            worst = max(worst, np.abs(errors).max())
    return worst


@njit(error_model="numpy")
def _unit_trial(reading, p, budget, seed):
    np.random.seed(seed)  # noqa: NPY002
    rate, slope, kind, late, goes_on, online, alone = reading
    k = p + 1
    into = np.random.uniform(-0.2, 0.2, k + 1)  # noqa: NPY002 - from the symbols, and from itself
    direct, v = np.random.uniform(-0.2, 0.2, (k, k)), np.random.uniform(-0.2, 0.2, k)  # noqa: NPY002
    state = np.array([seed], np.uint64)
    symbols, looked = np.zeros(p + 1, np.int64), np.zeros(p + 1, np.int64)
    trace, before, errors = np.zeros(k + 1), np.zeros(k + 1), np.zeros(k)
    d_into, d_v, h = np.zeros(k + 1), np.zeros(k), 0.0
    for n in range(1, budget + 1):
        present(symbols, state, False)
        awake = n > alone
        if goes_on == 0:
            h, trace[:] = 0.0, 0.0
        for t in range(p):
            seen, earlier = symbols[t], h
            before[:] = trace
            if awake:
                h, slope_h = _squashed(kind, into[seen] + into[k] * earlier)
                trace *= slope_h * into[k]
                trace[seen] += slope_h
                trace[k] += slope_h * earlier
            read, influence = (earlier, before) if late > 0 else (h, trace)
            back = _errors(direct[seen], v, read, symbols[t + 1], slope, errors)
            direct[seen] -= rate * errors
            if awake:
                d_v += errors * read
                d_into += back * influence
            if online > 0 or t == p - 1:
                v -= rate * d_v
                into -= rate * d_into
                d_v[:], d_into[:] = 0.0, 0.0
        if n % UNIT_EVERY == 0 and awake:
            worst = _unit_worst(reading, into, direct, v, h if goes_on > 0 else 0.0, looked)
            if math.isnan(worst):
                return -1
            if worst < LIMIT:
                return n
    return -1


def _side_by_side(trial):
    """By reading and seed what a trial gives: sequences until it succeeds; -1 where it does not."""

    @njit(parallel=True, error_model="numpy")
    def all_trials(readings, p, budget, seeds):
        found = np.zeros((len(readings), len(seeds)), np.int64)
        for n in prange(len(readings) * len(seeds)):
            r, s = n // len(seeds), n % len(seeds)
            found[r, s] = trial(readings[r], p, budget, seeds[s])
        return found

    return all_trials


trials, unit_trials = _side_by_side(_trial), _side_by_side(_unit_trial)
"""Of the LSTM, and of the net with one unit, trained by RTRL."""
