"""The compiled loops of the nets with one hidden unit: sequence by sequence, weight by weight.

A net is one row of numbers, `net`: u (p + 1,), from the inputs to the unit; w (1,), from the unit
to itself; direct (p + 1, K), from the inputs to the K outputs; v (K,), from the unit to the
outputs. Of the LSTM, whose unit is a memory cell, `gate` (p + 1,), from the inputs to its input
gate, takes the place of w. With one unit the influence of a weight on the state is one number, and
the input is one of p + 1 symbols, so a step touches the symbol's weights alone. What is left is K
logistic functions a step: their loop is written such that the compiler makes vector instructions of
it.

`trace` (p + 2,) holds the influence of u and, at its end, of w: dh/du, dh/dw. `symbols` (p + 1,) is
a sequence. `span` is the width of what the unit gives: 1 of a logistic one, 2 of one in [-1, 1].
"""

import math

import numpy as np
from numba import njit, prange

RTRL, BPTT, CHUNKER, LSTM = 0, 1, 2, 3
"""The ways to train."""

CHECK_EVERY = 100
"""Sequences between two looks at whether a trial has succeeded."""

LIMIT = 0.25
"""No output of a net that has succeeded is wrong by this much."""

FEW, MANY = 100, 10_000
"""Random sequences of a first look, and of the paper's criterion."""

_PER_LN2 = 1 / math.log(2)
_LN2_FRONT = float.fromhex("0x1.62e42feep-1")  # its last bits are 0: times a whole number, exact
_LN2_REST = 1.9082149292705877e-10
_ROUND = 1.5 * 2.0**52  # added to a number, leaves its nearest whole number in the last bits
_TAYLOR = tuple(1 / math.factorial(k) for k in range(12, -1, -1))  # of exp, the 12th power first

# Without "reassoc": the sums with _ROUND are meant as they stand.
_exactly = njit(error_model="numpy", fastmath={"contract", "nnan", "ninf", "nsz"})
_freely = njit(error_model="numpy", fastmath=True)
_plainly = njit(error_model="numpy")


@_exactly
def logistic(z):
    """1 / (1 + exp(-z)) to 1e-15 of its value, without a branch or a call, for |z| up to 700."""
    z = -min(max(z, -700.0), 700.0)
    shifted = z * _PER_LN2 + _ROUND
    whole = shifted - _ROUND
    r = z - whole * _LN2_FRONT
    r = r - whole * _LN2_REST  # exp(z) = 2^whole exp(r), |r| <= ln(2) / 2
    e = 0.0
    for coefficient in _TAYLOR:  # the compiler unrolls it
        e = e * r + coefficient
    # The exponent of a float64 begins at bit 52.
    bits = np.float64(e).view(np.int64) + (np.float64(shifted).view(np.int64) << 52)
    return 1.0 / (1.0 + np.int64(bits).view(np.float64))


@_plainly
def size_bits(number):
    """The bits of |number|; they are ordered as the numbers are, and vectors of them have a max."""
    return np.float64(abs(number)).view(np.int64)


@_plainly
def parts(net, p):
    """Its u, w, direct and v, as views."""
    outputs = (len(net) - p - 2) // (p + 2)
    start = p + 2
    direct = net[start : start + (p + 1) * outputs].reshape((p + 1, outputs))
    return net[: p + 1], net[p + 1 : start], direct, net[start + (p + 1) * outputs :]


@_plainly
def cell_parts(net, p):
    """The u, gate, direct and v of a net with a memory cell, as views."""
    k = p + 1
    start = 2 * k
    return net[:k], net[k:start], net[start : start + k * k].reshape((k, k)), net[start + k * k :]


@_freely
def squashed(z, span):
    """The state of a unit: span times the logistic of z, less what makes it symmetric or, with a
    span of 1, nothing; and its slope.
    """
    share = logistic(z)
    return span * share - (span - 1.0), span * share * (1.0 - share)


@_freely
def read(u, w, trace, seen, h, span):
    """One step of the unit: the new state; the trace becomes its own."""
    new, slope = squashed(u[seen] + w[0] * h, span)
    keep, last = slope * w[0], len(u)
    for k in range(len(trace)):
        trace[k] *= keep
    trace[seen] += slope
    trace[last] += slope * h
    return new


@_freely
def descend_outputs(row, v, h, due, rate, entropy):
    """One step of descent of the outputs on half the squared error, or on the cross-entropy.

    Args:
        row: (p + 1,), the weights from the symbol that has been seen.
        v: (p + 1,). h: the state. due: the output that should be 1; the others 0. rate: of descent.
        entropy: on the cross-entropy of each output, whose error is not times the output's slope.

    Returns:
        The derivative by h before the step, and the largest error.
    """
    back, worst, step = 0.0, np.int64(0), rate * h
    for j in range(len(v)):
        from_unit = v[j]
        y = logistic(row[j] + from_unit * h)
        error = y - (1.0 if j == due else 0.0)
        d = error if entropy else error * y * (1.0 - y)
        back += d * from_unit
        row[j] -= rate * d
        v[j] = from_unit - step * d
        worst = max(worst, size_bits(error))
    return back, np.int64(worst).view(np.float64)


@_freely
def descend_unit(u, w, trace, amount):
    """U and w change against their traces."""
    last = len(u)
    for k in range(last):
        u[k] -= amount * trace[k]
    w[0] -= amount * trace[last]


@_plainly
def learn_rtrl(net, symbols, rate, span, awake):
    """One sequence of online RTRL: the weights change after every step.

    Args:
        net, symbols, rate, span: as elsewhere.
        awake: False holds the unit at zero.
    """
    p = len(symbols) - 1
    u, w, direct, v = parts(net, p)
    trace, h = np.zeros(p + 2), 0.0
    for t in range(p):
        seen = symbols[t]
        if awake:
            h = read(u, w, trace, seen, h, span)
        back, _ = descend_outputs(direct[seen], v, h, symbols[t + 1], rate, False)
        if awake:
            descend_unit(u, w, trace, rate * back)


@_freely
def output_errors(row, v, h, due, deltas, by_v):
    """The outputs' dE/dz into `deltas`; their products with h are added to by_v; the sum of v's."""
    back = 0.0
    for j in range(len(v)):
        y = logistic(row[j] + v[j] * h)
        d = (y - (1.0 if j == due else 0.0)) * y * (1.0 - y)
        deltas[j] = d
        by_v[j] += d * h
        back += d * v[j]
    return back


@_freely
def subtract(target, source, rate):
    """Target -= rate * source."""
    for j in range(len(target)):
        target[j] -= rate * source[j]


@_plainly
def learn_bptt(net, symbols, rate):
    """The gradient of one sequence by back-propagation through time, then one step of descent."""
    p = len(symbols) - 1
    u, w, direct, v = parts(net, p)
    states, back = np.zeros(p + 1), np.empty(p)  # states[t] is the one before step t
    deltas, by_v = np.empty((p, len(v))), np.zeros(len(v))
    for t in range(p):
        seen = symbols[t]
        states[t + 1] = logistic(u[seen] + w[0] * states[t])
        back[t] = output_errors(direct[seen], v, states[t + 1], symbols[t + 1], deltas[t], by_v)
    error, by_w, own = 0.0, 0.0, w[0]
    for t in range(p - 1, -1, -1):
        seen, h = symbols[t], states[t + 1]
        error = (back[t] + own * error) * h * (1.0 - h)
        by_w += error * states[t]
        u[seen] -= rate * error
        subtract(direct[seen], deltas[t], rate)
    w[0] -= rate * by_w
    subtract(v, by_v, rate)


@_plainly
def learn_chunker(net, second, memory, symbols, rate, threshold, awake):
    """One sequence of the chunker, online.

    Args:
        net: A, the automatizer, whose last output predicts the state of C.
        second: C, the chunker, a net without that output.
        memory: (p + 4,), what C keeps from one surprise to the next, and so from one sequence to
            the next: its trace, its state, and the symbol that it read, -1 before the first.
        symbols, rate: as elsewhere.
        threshold: C learns and reads where an output of A, the last one aside, is wrong by that
            much; and the first symbol, which A does not predict.
        awake: False holds the units of both nets at zero, so that the weights to, from and on
            them stay as they are, and so do all that lead to A's last output.
    """
    p = len(symbols) - 1
    u, w, direct, v = parts(net, p)
    trace, h = np.zeros(p + 2), 0.0
    attend(second, memory, symbols[0], rate, awake)
    for t in range(p):
        seen, due = symbols[t], symbols[t + 1]
        row, back_q = direct[seen], 0.0
        if awake:
            h = read(u, w, trace, seen, h, 1.0)
            q = logistic(row[p + 1] + v[p + 1] * h)
            d = (q - memory[p + 2]) * q * (1.0 - q)
            back_q = d * v[p + 1]
            row[p + 1] -= rate * d
            v[p + 1] -= rate * d * h
        back, worst = descend_outputs(row[: p + 1], v[: p + 1], h, due, rate, False)
        if awake:
            descend_unit(u, w, trace, rate * (back + back_q))
        if worst >= threshold:
            attend(second, memory, due, rate, awake)


@_plainly
def attend(second, memory, symbol, rate, awake):
    """C learns to have predicted a symbol, then reads it."""
    p = len(memory) - 4
    u, w, direct, v = parts(second, p)
    trace, h, seen = memory[: p + 2], memory[p + 2], int(memory[p + 3])
    if seen >= 0:
        back, _ = descend_outputs(direct[seen], v, h, symbol, rate, False)
        if awake:
            descend_unit(u, w, trace, rate * back)
    if awake:
        memory[p + 2] = read(u, w, trace, symbol, h, 1.0)
    memory[p + 3] = symbol


@_plainly
def learn_lstm(net, symbols, rate, awake):
    """One sequence of the net with a memory cell, online, on the cross-entropy.

    The cell adds up: c_t = c_{t-1} + sigma(gate_k) sigma(u_k), with k the symbol that is seen. So
    its derivatives by u and by gate are sums over the steps before.

    Args:
        net, symbols, rate: as elsewhere.
        awake: False holds the cell at zero.
    """
    p = len(symbols) - 1
    u, gate, direct, v = cell_parts(net, p)
    by_u, by_gate, c = np.zeros(p + 1), np.zeros(p + 1), 0.0
    for t in range(p):
        seen = symbols[t]
        if awake:
            i, g = logistic(gate[seen]), logistic(u[seen])
            c += i * g
            by_u[seen] += i * g * (1.0 - g)
            by_gate[seen] += i * (1.0 - i) * g
        back, _ = descend_outputs(direct[seen], v, c, symbols[t + 1], rate, True)
        if awake:
            subtract(u, by_u, rate * back)
            subtract(gate, by_gate, rate * back)


@_plainly
def learn(method, net, second, memory, symbols, rate, span, threshold, awake):
    """One sequence, by any method; the weights, and the memory of C, change in place."""
    if method == RTRL:
        learn_rtrl(net, symbols, rate, span, awake)
    elif method == BPTT:
        learn_bptt(net, symbols, rate)
    elif method == LSTM:
        learn_lstm(net, symbols, rate, awake)
    else:
        learn_chunker(net, second, memory, symbols, rate, threshold, awake)


@_freely
def largest_output_error(row, v, h, due, outputs):
    """Over the first `outputs` outputs of one step."""
    worst = np.int64(0)
    for j in range(outputs):
        error = logistic(row[j] + v[j] * h) - (1.0 if j == due else 0.0)
        worst = max(worst, size_bits(error))
    return np.int64(worst).view(np.float64)


@_plainly
def largest_error(method, net, symbols, span, first, awake):
    """Over the p + 1 outputs at the steps from `first` on of one sequence."""
    p = len(symbols) - 1
    u, w, direct, v = cell_parts(net, p) if method == LSTM else parts(net, p)
    h, worst = 0.0, 0.0
    for t in range(p):
        seen = symbols[t]
        if not awake:
            h = 0.0
        elif method == LSTM:
            h += logistic(w[seen]) * logistic(u[seen])
        else:
            h = squashed(u[seen] + w[0] * h, span)[0]
        if t >= first:
            worst = max(worst, largest_output_error(direct[seen], v, h, symbols[t + 1], p + 1))
    return worst


@_plainly
def draw(state, count):
    """A random whole number below `count`; by the generator of Steele, Lea and Flood (2014)."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    z = state[0]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return np.int64(((z >> np.uint64(32)) * np.uint64(count)) >> np.uint64(32))


@_plainly
def present(symbols, state, random_middle):
    """The next random sequence, into `symbols`."""
    p = len(symbols) - 1
    symbols[0] = symbols[p] = p - 1 + draw(state, 2)
    for t in range(1, p):
        symbols[t] = draw(state, p - 1) if random_middle else t - 1


@_plainly
def look(method, net, symbols, state, span, random_middle, sequences, awake):
    """The largest error of a trial; with a random middle, of the last step of random sequences."""
    p, worst = len(symbols) - 1, 0.0
    if random_middle:
        for _ in range(sequences):
            present(symbols, state, True)
            worst = max(worst, largest_error(method, net, symbols, span, p - 1, awake))
            if sequences == MANY and worst >= LIMIT:
                break
        return worst
    for end in range(p - 1, p + 1):
        symbols[0] = symbols[p] = end
        for t in range(1, p):
            symbols[t] = t - 1
        worst = max(worst, largest_error(method, net, symbols, span, 0, awake))
    return worst


@njit(parallel=True, error_model="numpy")
def train(
    method, p, rate, span, threshold, alone, random_middle, active, nets, seconds, memories,
    states, after, until, done, worst,
):  # fmt: skip
    """The sequences after + 1 to `until` of some trials, side by side.

    Args:
        method: RTRL, BPTT, CHUNKER or LSTM.
        p, rate, threshold, alone, random_middle: as of `run`. span: of the unit.
        active: (A,), the trials that have not succeeded.
        nets, seconds: (trials, weights), changed in place.
        memories: (trials, p + 4), of the chunker, changed in place.
        states: (trials, 2, 1) uint64, of the generators of training and of test.
        after, until: sequences that each trial has had, and is to have.
        done: (trials,), changed where a trial succeeds: how many it had.
        worst: (trials,), changed: the largest error when last looked at.
    """
    for k in prange(len(active)):
        trial, presented = active[k], after
        net, training, test = nets[trial], states[trial, 0], states[trial, 1]
        symbols = np.empty(p + 1, np.int64)
        while presented < until:
            stop = min(presented + CHECK_EVERY, until)
            for n in range(presented, stop):
                present(symbols, training, random_middle)
                learn(
                    method, net, seconds[trial], memories[trial], symbols, rate, span, threshold,
                    n >= alone,
                )  # fmt: skip
            presented = stop
            awake = presented > alone
            worst[trial] = look(method, net, symbols, test, span, random_middle, FEW, awake)
            if random_middle and worst[trial] < LIMIT:
                worst[trial] = look(method, net, symbols, test, span, random_middle, MANY, awake)
            if worst[trial] < LIMIT:
                done[trial] = presented
                break
