r"""Long lags with one hidden unit: the rows RTRL, BPTT, CH and LSTM of the table of 1997.

p + 1 symbols, one-hot; one logistic unit that feeds back to itself; p + 1 logistic outputs that
read it and the inputs; no biases: (p + 2)^2 weights, uniform in [-0.2, 0.2].

.. math:: h_t = \sigma(u \cdot x_t + w h_{t-1}), \quad y_t = \sigma(D x_t + v h_t), \quad
    E = \tfrac12 \sum_t |y_t - x_{t+1}|^2

Task 2a has two sequences: y, a_1, ..., a_{p-1}, y and the same with x for y. All but the last
prediction can be made from the symbol before; that one has to wait p steps. In task 2b the middle
symbols are drawn from a_1 to a_{p-1}.

The chunker is two such nets. A, the automatizer, has one output more, which predicts the unit of C:
(p + 2)(p + 3) weights, which is what the table counts. C, the chunker, reads and learns only what A
has not predicted.

In the LSTM the unit is a memory cell, which adds up what its input gate lets in, in place of h:

.. math:: c_t = c_{t-1} + \sigma(g \cdot x_t) \, \sigma(u \cdot x_t)

(p + 1)(p + 4) weights.

Source: S. Hochreiter and J. Schmidhuber, Long short-term memory, Neural Computation 9(8), 1997,
section 5.2; J. Schmidhuber, Learning complex, extended sequences using the principle of history
compression, Neural Computation 4(2), 1992.
"""

import math
import time
from typing import Any

import numpy as np

from longlag.arguments import check_whole
from longlag.lab.reproduce import one_unit_loops as loops
from longlag.lab.reproduce.experiment import Outcome, Progress, spread

UNITS = {"logistic": 1.0, "symmetric": 2.0}
"""What the hidden unit gives: numbers in [0, 1] or [-1, 1]."""

ALONE = {"rtrl": 0, "bptt": 0, "chunker": 10_000, "lstm": 2_000}
"""Sequences in which the links from input to output learn without the unit."""

METHODS = {"rtrl": loops.RTRL, "bptt": loops.BPTT, "chunker": loops.CHUNKER, "lstm": loops.LSTM}
"""The ways to train, and what the loops call them."""

POINTS = 60
"""Of a curve, or a few less."""

REST = 1.0
"""Seconds between two calls of `progress`, about."""


def run(
    method: str,
    p: int,
    rate: float,
    budget: int,
    trials: int = 18,
    seed: int = 0,
    *,
    random_middle: bool = False,
    threshold: float = 0.5,
    unit: str = "logistic",
    alone: int | None = None,
    gate: float = -1.5,
    progress: Progress | None = None,
) -> Outcome:
    """Train nets with one hidden unit until they have bridged the lag.

    Plain gradient descent on half the squared error of every step, one random sequence after the
    other. With "bptt" (back-propagation through time) the weights change after every sequence, by
    its exact gradient; with "rtrl" (real-time recurrent learning), "chunker" and "lstm" after every
    step. The unit starts each sequence at zero.

    The paper leaves open how the chunker was run. Here (1) C reads and learns where an output of A
    is wrong by `threshold` or more, and the first symbol of each sequence; (2) C is never reset:
    its stream runs on from one sequence to the next, and only A starts each sequence at zero; (3)
    the units of both nets stay at zero for the first `alone` sequences, in which the links from
    input to output learn what can be learned without them. With C reset at each sequence, or with
    the units in use from the start, no trial was seen to succeed at p = 100: in the first case C
    solves its own task by links from input to output, and its unit says nothing to A; in the second
    the units become biases of the outputs, and are saturated before they can remember. The
    threshold matters: at p = 100, rate 1 and 60,000 sequences, seeds 0 and 1, 13 and 10 of 18
    trials succeed with 0.5, after 36,600 and 32,100 sequences on average; with 0.3, seed 0, none.

    Of the LSTM the paper says that the cell is added when the error no longer falls, and not when
    that was. Here (1) the cell stays at zero for the first `alone` sequences; (2) the error is the
    cross-entropy of each output, so that it is not times the output's slope; (3) `gate` is added to
    the initial weights of the input gate, so that it begins nearly closed. So 18 of 18
    trials at p = 100 and rate 1 succeed after 6,494 sequences on average; with ``alone=0,
    gate=0.0`` after 1,400. More: `experiments/readings_1997`.

    Of RTRL the paper says neither the range of the unit nor whether the direct links had learned
    before. With a logistic unit from the start no trial at p = 4 succeeds at rate 1, and all at
    rate 10, where 78 and 22 % are published. With ``unit="symmetric", alone=1_000`` 15, 15 and 7 of
    18 succeed at rates 1, 4 and 10 with seed 0, and 12, 11 and 4 with seed 1: 67, 61 and 22 %,
    published 78, 56 and 22.

    Every 100 sequences a trial is looked at, A without C. It has succeeded when no output is wrong
    by 0.25 or more: at any step of the two sequences, which is the paper's criterion, as there are
    no others; or with `random_middle` at the last step of 10,000 random sequences (the paper's; 100
    of them are looked at first). It is then left alone.

    Args:
        method: "rtrl", "bptt", "chunker" or "lstm".
        p: the lag, >= 2; p + 1 symbols.
        rate: of gradient descent, > 0.
        budget: sequences that each trial may have, >= 1.
        trials: how many nets, each with its own initial weights and sequences.
        seed: of both. The same seed gives the same bits, on however many threads.
        random_middle: task 2b in place of 2a.
        threshold: of the chunker, > 0.
        unit: of "rtrl": "logistic", or "symmetric", 2 sigma(z) - 1.
        alone: of all but "bptt", >= 0; None: that of `ALONE`.
        gate: of the LSTM.
        progress: called about once a second and at the end. An interrupt is heeded as often.

    Returns:
        The trials. `curve` is the largest error when last looked at; `notes` has the weight from
        the unit to itself of each trial, with the chunker the weights of C and the two choices,
        with the LSTM its choices alone.

    Raises:
        TypeError, ValueError: an argument is of another type or out of range.

    Cost: one core of an AMD EPYC takes 0.4, 1 and 22 microseconds a sequence and trial at p = 4, 10
    and 100, the chunker up to twice that. The trials share the cores that Numba is given.
    Compiling, once in a process: 7 seconds.

    Source: see the module.

    >>> outcome = run("rtrl", 2, 20.0, 20_000, trials=3)
    >>> outcome.weights, outcome.percent, outcome.mean < 10_000
    (16, 100.0, True)
    """
    alone = ALONE.get(method, 0) if alone is None else alone
    _check(method, p, rate, budget, trials, seed, threshold, unit, alone)
    began, way = time.perf_counter(), METHODS[method]
    nets, seconds, states = _draw(way, p, trials, seed)
    if way == loops.LSTM:
        nets[:, p + 1 : 2 * (p + 1)] += gate
    memories = np.zeros((trials, p + 4))
    memories[:, -1] = -1.0
    done, worst = np.zeros(trials, np.int64), np.ones(trials)
    curve: list[tuple[float, ...]] = []
    presented, told, size = 0, began, loops.CHECK_EVERY
    for point in _points(budget):
        while presented < point and not done.all():
            started, until = time.perf_counter(), min(point, presented + size)
            loops.train(
                way, p, float(rate), UNITS[unit], float(threshold), alone, bool(random_middle),
                np.flatnonzero(done == 0), nets, seconds, memories, states, presented, until, done,
                worst,
            )  # fmt: skip
            now = time.perf_counter()
            # What was drawn and looked at does not depend on where the chunks end.
            if until - presented == size:
                share = min(2.0, REST / max(now - started, 1e-9))
                size = max(1, int(size * share / loops.CHECK_EVERY)) * loops.CHECK_EVERY
            presented = until
            if progress is not None and now - told >= REST:
                progress(presented, int((done > 0).sum()))
                told = now
        curve.append((presented, *spread(worst.tolist())))
        if done.all():
            break
    if progress is not None:
        progress(presented, int((done > 0).sum()))
    notes: dict[str, Any] = {"own_weight": np.round(nets[:, p + 1], 2).tolist()}
    if way == loops.LSTM:
        notes = {"alone": alone, "gate": gate}
    if way == loops.CHUNKER:
        notes |= {"weights_of_c": seconds.shape[1], "threshold": threshold, "alone": alone}
    return Outcome(
        weights=nets.shape[1],
        sequences=tuple(int(count) if count else None for count in done),
        budget=budget,
        seconds=round(time.perf_counter() - began, 1),
        curve=tuple(curve),
        notes=notes,
    )


def _draw(way: int, p: int, trials: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The initial weights of the nets and of the C's, and the states of two generators a trial."""
    outputs = p + 2 if way == loops.CHUNKER else p + 1
    width = (p + 2) ** 2 if way == loops.CHUNKER else 0
    size = (p + 1) * (p + 4) if way == loops.LSTM else (p + 2) * (outputs + 1)
    nets, seconds = np.empty((trials, size)), np.empty((trials, width))
    states = np.empty((trials, 2, 1), np.uint64)
    for trial, sequence in enumerate(np.random.SeedSequence([seed, p]).spawn(trials)):
        generator = np.random.default_rng(sequence)
        states[trial, :, 0] = generator.integers(0, 2**64, 2, np.uint64)
        nets[trial] = generator.uniform(-0.2, 0.2, nets.shape[1])
        seconds[trial] = generator.uniform(-0.2, 0.2, width)
    return nets, seconds, states


def _points(budget: int) -> list[int]:
    """Where the curve has points: multiples of CHECK_EVERY, and the budget."""
    every = loops.CHECK_EVERY
    if budget <= every:
        return [budget]
    counts = np.geomspace(every, budget, POINTS)
    return [*sorted({round(count / every) * every for count in counts[:-1]} - {budget}), budget]


def _check(
    method: Any, p: Any, rate: Any, budget: Any, trials: Any, seed: Any, threshold: Any, unit: Any,
    alone: Any,
) -> None:  # fmt: skip
    for name, value, known in (("method", method, METHODS), ("unit", unit, UNITS)):
        if value not in known:
            names = ", ".join(repr(each) for each in known)
            raise ValueError(f"{name}: got {value!r}, expected one of {names}")
    if method != "rtrl" and unit != "logistic":
        raise ValueError(f"unit: got {unit!r} with method {method!r}, expected 'logistic'")
    if method == "bptt" and alone:
        raise ValueError(f"alone: got {alone} with method 'bptt', expected 0")
    least = {"p": 2, "budget": 1, "trials": 1, "seed": 0, "alone": 0}
    for name, value in zip(least, (p, budget, trials, seed, alone), strict=True):
        check_whole(name, value, least[name])
    for name, value in (("rate", rate), ("threshold", threshold)):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{name}: got {value!r}, expected a number")
        if not 0 < value < math.inf:
            raise ValueError(f"{name}: got {value}, expected a finite number > 0")
