"""The compiled loops against the library's own gradients and chunker; what `run` makes of them."""

import itertools

import numpy as np
import pytest
import torch

import longlag as ll
from longlag.chunker import Chunker, OnlineRTRL
from longlag.recurrence import Cell, sigmoid

numba = pytest.importorskip("numba")

from longlag.lab.reproduce import one_unit  # noqa: E402
from longlag.lab.reproduce import one_unit_loops as loops  # noqa: E402

P, RATE = 4, 0.7
TIGHT = {"rtol": 1e-11, "atol": 1e-13}
SEQUENCES = np.array(
    [[4, 0, 1, 2, 4], [3, 0, 1, 2, 3], [3, 0, 1, 2, 3], [4, 2, 2, 0, 4], [3, 1, 0, 1, 3]]
)


def drawn(outputs: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(P + 2) * (outputs + 1))


def put(net: np.ndarray, layer, readouts) -> None:
    """The weights of a net into a layer and its readouts, which share the outputs."""
    u, w, direct, v = loops.parts(net, P)
    with torch.no_grad():
        layer.weight_ih[0] = torch.tensor(u)
        layer.weight_hh[0] = torch.tensor(w)
        start = 0
        for readout in readouts:
            stop = start + len(readout.weight)
            readout.weight[:, 0] = torch.tensor(v[start:stop])
            readout.weight_direct.copy_(torch.tensor(direct.T[start:stop]))
            start = stop


def got(layer, readouts) -> np.ndarray:
    """And back."""
    direct = torch.cat([readout.weight_direct for readout in readouts]).T.reshape(-1)
    v = torch.cat([readout.weight[:, 0] for readout in readouts])
    parts = layer.weight_ih[0], layer.weight_hh[0], direct, v
    return torch.cat(parts).detach().numpy()


class Symmetric(Cell):
    """h_t = 2 sigma(U x_t + W h_{t-1}) - 1."""

    state = ("h",)
    gates = ("candidate",)

    def update(self, pre, state, unit):
        return {"h": 2 * sigmoid(pre.candidate) - 1}


def layer() -> ll.Elman:
    return ll.Elman(P + 1, 1, activation="sigmoid", bias=False, dtype=torch.float64)


def sequence_model(net: np.ndarray, unit: str = "logistic") -> ll.SequenceModel:
    own = ll.Recurrent(Symmetric(), P + 1, 1, bias=False, dtype=torch.float64)
    model = ll.SequenceModel(
        layer() if unit == "logistic" else own, P + 1, reduce=None, direct=True, bias=False,
        output_activation="sigmoid",
    )  # fmt: skip
    put(net, model.layer, [model.readout])
    return model


def coded(symbols: np.ndarray) -> torch.Tensor:
    return torch.eye(P + 1, dtype=torch.float64)[torch.tensor(symbols)][None]


def half_square(y, d):
    return 0.5 * (y - d).square().sum()


def test_the_logistic_function_is_exact_to_the_last_bits():
    z = np.concatenate([np.linspace(-690, 690, 20_001), np.linspace(-2, 2, 20_001), [0.0]])
    ours = np.array([loops.logistic(each) for each in z])
    np.testing.assert_allclose(ours, 1 / (1 + np.exp(-z)), rtol=2e-15)
    assert loops.logistic(1e9) == 1.0
    assert 0.0 < loops.logistic(-1e9) < 1e-300


@pytest.mark.slow
@pytest.mark.parametrize("unit", one_unit.UNITS)
def test_rtrl_is_the_librarys_update_by_update(unit):
    net, span = drawn(P + 1, 0), one_unit.UNITS[unit]
    model, method = sequence_model(net, unit), ll.RTRL(online=True)
    for symbols in SEQUENCES:
        x, carry = coded(symbols), None
        for t in range(P):
            model.zero_grad()
            carry = method.accumulate_window(
                model, x[:, t : t + 1], x[:, t + 1 : t + 2], half_square, torch.Tensor.backward,
                carry=carry,
            ).carry  # fmt: skip
            with torch.no_grad():
                for weight in model.parameters():
                    weight -= RATE * weight.grad
        loops.learn_rtrl(net, symbols, RATE, span, True)
        np.testing.assert_allclose(net, got(model.layer, [model.readout]), **TIGHT)


def test_direct_links_alone_learn_as_without_a_unit():
    net = drawn(P + 1, 9)
    u, w, direct, v = loops.parts(net, P)
    before, alone = net.copy(), direct.copy()
    for symbols in SEQUENCES:
        for seen, due in itertools.pairwise(symbols):
            y = 1 / (1 + np.exp(-alone[seen]))
            alone[seen] -= RATE * (y - np.eye(P + 1)[due]) * y * (1 - y)
        loops.learn_rtrl(net, symbols, RATE, 2.0, False)
    np.testing.assert_allclose(direct, alone, **TIGHT)
    np.testing.assert_array_equal(np.r_[u, w, v], np.r_[before[: P + 2], before[-P - 1 :]])


@pytest.mark.slow
def test_bptt_is_the_librarys_gradient():
    net = drawn(P + 1, 1)
    model = sequence_model(net)
    for symbols in SEQUENCES:
        x = coded(symbols)
        found = ll.BPTT().gradients(model, x[:, :-1], x[:, 1:], half_square)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight -= RATE * found[name]
        loops.learn_bptt(net, symbols, RATE)
        np.testing.assert_allclose(net, got(model.layer, [model.readout]), **TIGHT)


def test_the_lstm_is_the_librarys_update_by_update():
    """On the cross-entropy of each output, whose cell may be silent at first."""
    k = P + 1
    net = np.random.default_rng(8).normal(size=k * (k + 3))
    layer = ll.LSTM1997(
        k, 1, output_gate=False, recurrent=False, cell_input="sigmoid", cell_output="identity",
        bias=False, dtype=torch.float64,
    )  # fmt: skip
    model = ll.SequenceModel(
        layer, k, reduce=None, direct=True, bias=False, output_activation="sigmoid"
    )

    def entropy(y, d):
        return torch.nn.functional.binary_cross_entropy(y, d, reduction="sum")

    for number, symbols in enumerate(SEQUENCES):
        u, gate, direct, v = loops.cell_parts(net, P)
        with torch.no_grad():
            layer.weight_ih.copy_(torch.tensor(np.stack([gate, u])))
            model.readout.weight[:, 0] = torch.tensor(v)
            model.readout.weight_direct.copy_(torch.tensor(direct.T))
        awake, x, carry = number > 1, coded(symbols), None
        if not awake:
            alone = direct.copy()
            for seen, due in itertools.pairwise(symbols):
                alone[seen] -= RATE * (1 / (1 + np.exp(-alone[seen])) - np.eye(k)[due])
            before = net.copy()
            loops.learn_lstm(net, symbols, RATE, False)
            np.testing.assert_allclose(direct, alone, **TIGHT)
            np.testing.assert_array_equal(np.r_[u, gate, v], np.r_[before[: 2 * k], before[-k:]])
            continue
        for t in range(P):
            model.zero_grad()
            carry = ll.RTRL(online=True).accumulate_window(
                model, x[:, t : t + 1], x[:, t + 1 : t + 2], entropy, torch.Tensor.backward,
                carry=carry,
            ).carry  # fmt: skip
            with torch.no_grad():
                for weight in model.parameters():
                    weight -= RATE * weight.grad
        loops.learn_lstm(net, symbols, RATE, True)
        outputs = model.readout.weight_direct.T, model.readout.weight[:, 0]
        found = torch.cat([part.reshape(-1) for part in (layer.weight_ih.flip(0), *outputs)])
        np.testing.assert_allclose(net, found.detach().numpy(), **TIGHT)
        worst = float((model(x[:, :-1]) - x[:, 1:]).detach().abs().max())
        assert loops.largest_error(loops.LSTM, net, symbols, 1.0, 0, True) == pytest.approx(
            worst, rel=1e-11
        )


@pytest.mark.parametrize("threshold", [0.6, 1e-6])
def test_the_chunker_is_the_librarys_without_resets_of_c(threshold):
    net, second = drawn(P + 2, 2), drawn(P + 1, 3)
    nets = Chunker(layer(), layer(), imitate="hidden", direct=True, bias=False).double()
    a_parts = nets.automatizer.layer, [nets.automatizer.readout, nets.imitation]
    c_parts = nets.chunker.layer, [nets.chunker.readout]
    put(net, *a_parts)
    put(second, *c_parts)
    a = OnlineRTRL().start(nets.automatizer, RATE, [nets.imitation])
    c = OnlineRTRL().start(nets.chunker, RATE)
    every, begun, surprises = np.arange(1), False, 0
    memory = np.zeros(P + 4)
    memory[-1] = -1
    for symbols in SEQUENCES:
        a.reset(every)
        for t, symbol in enumerate(symbols):
            due = np.eye(P + 1)[[symbol]]
            surprise = t == 0
            if t:
                prediction, q = a.outputs()
                surprise = np.abs(prediction - due).max() >= threshold
                a.learn(every, [prediction - due, q - c.hidden()])
            if surprise:
                if begun:
                    c.learn(every, [c.outputs()[0] - due])
                c.read(every, np.array([symbol]))
                begun = True
                surprises += t > 0
            a.read(every, np.array([symbol]))
        loops.learn_chunker(net, second, memory, symbols, RATE, threshold, True)
        np.testing.assert_allclose(net, got(*a_parts), **TIGHT)
        np.testing.assert_allclose(second, got(*c_parts), **TIGHT)
        np.testing.assert_allclose(memory[P + 2], c.hidden()[0, 0], **TIGHT)
    whole = len(SEQUENCES) * P
    assert surprises == whole if threshold < 0.1 else 0 < surprises < whole


def test_while_the_units_are_silent_the_direct_links_learn_alone():
    net, second = drawn(P + 2, 4), drawn(P + 1, 5)
    first = [part.copy() for part in loops.parts(net, P) + loops.parts(second, P)]
    direct, c_direct = first[2].copy(), first[6].copy()
    memory = np.zeros(P + 4)
    memory[-1] = seen_by_c = -1
    for symbols in SEQUENCES:
        for t, symbol in enumerate(symbols):
            rows = [(c_direct, seen_by_c)] if seen_by_c >= 0 else []
            if t:
                y = 1 / (1 + np.exp(-direct[symbols[t - 1], : P + 1]))
                error = y - np.eye(P + 1)[symbol]
                direct[symbols[t - 1], : P + 1] -= RATE * error * y * (1 - y)
                if np.abs(error).max() < 0.7:
                    continue
            for row, seen in rows:
                y = 1 / (1 + np.exp(-row[seen]))
                row[seen] -= RATE * (y - np.eye(P + 1)[symbol]) * y * (1 - y)
            seen_by_c = symbol
        loops.learn_chunker(net, second, memory, symbols, RATE, 0.7, False)
    now = loops.parts(net, P) + loops.parts(second, P)
    np.testing.assert_allclose(now[2], direct, **TIGHT)
    np.testing.assert_allclose(now[6], c_direct, **TIGHT)
    for k in (0, 1, 3, 4, 5, 7):
        np.testing.assert_array_equal(now[k], first[k])
    assert not memory[: P + 3].any()
    assert memory[-1] == seen_by_c


@pytest.mark.parametrize("awake", [True, False])
@pytest.mark.parametrize("first", [0, P - 1])
@pytest.mark.parametrize("unit", one_unit.UNITS)
def test_the_largest_error_is_the_models(unit, first, awake):
    net, span = drawn(P + 1, 6), one_unit.UNITS[unit]
    model = sequence_model(net, unit)
    if not awake:
        with torch.no_grad():
            model.readout.weight.zero_()
    for symbols in SEQUENCES:
        x = coded(symbols)
        worst = float((model(x[:, :-1]) - x[:, 1:]).detach()[:, first:].abs().max())
        assert loops.largest_error(loops.RTRL, net, symbols, span, first, awake) == pytest.approx(
            worst, rel=1e-11
        )


@pytest.mark.parametrize("random_middle", [False, True])
def test_the_sequences_are_those_of_the_paper(random_middle):
    state, seen = np.array([1], np.uint64), []
    for _ in range(2000):
        symbols = np.empty(6, np.int64)
        loops.present(symbols, state, random_middle)
        seen.append(symbols)
    found = np.array(seen)
    assert (found[:, 0] == found[:, -1]).all()
    assert set(found[:, 0]) == {4, 5}
    assert 900 < (found[:, 0] == 4).sum() < 1100
    if random_middle:
        counts = np.array([np.bincount(column, minlength=4) for column in found[:, 1:-1].T])
        assert counts.shape == (4, 4)
        assert counts.min() > 400
    else:
        assert (found[:, 1:-1] == np.arange(4)).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "p", "weights"),
    [
        ("rtrl", 4, 36),
        ("bptt", 10, 144),
        ("rtrl", 100, 10_404),
        ("chunker", 100, 10_506),
        ("lstm", 100, 10_504),
    ],
)
def test_the_weights_are_as_many_as_in_the_table(method, p, weights):
    told = []
    outcome = one_unit.run(method, p, 1.0, 150, trials=2, progress=lambda *each: told.append(each))
    assert outcome.weights == weights
    assert outcome.sequences == (None, None)
    assert told[-1] == (150, 0)
    assert [point[0] for point in outcome.curve] == [100, 150]
    assert ("weights_of_c" in outcome.notes) == (method == "chunker")


@pytest.mark.parametrize(
    ("method", "choices"),
    [
        ("rtrl", {}),
        ("rtrl", {"unit": "symmetric", "alone": 1_000}),
        ("bptt", {}),
        ("chunker", {"alone": 1_000}),
    ],
)
def test_a_short_lag_is_bridged_and_a_trial_that_is_done_is_left_alone(method, choices):
    outcome = one_unit.run(method, 2, 20.0, 50_000, trials=3, **choices)
    assert outcome.percent == 100
    assert max(outcome.solved) < 50_000
    assert all(each % 100 == 0 for each in outcome.solved)
    counts, _, _, most = np.array(outcome.curve).T
    assert (np.diff(counts) > 0).all()
    assert most[-1] < 0.25 <= most[0]


@pytest.mark.slow
def test_the_lstm_bridges_a_hundred_steps_by_plain_gradient_descent():
    outcome = one_unit.run("lstm", 100, 1.0, 3_000, trials=3, alone=0, gate=0.0)
    assert outcome.percent == 100
    assert outcome.notes == {"alone": 0, "gate": 0.0}


def test_with_a_random_middle_the_last_step_of_random_sequences_is_judged():
    net = drawn(P + 1, 7)
    middles = np.stack(np.meshgrid(*[np.arange(P - 1)] * (P - 1)), -1).reshape(-1, P - 1)
    both = [
        np.c_[np.full(len(middles), end), middles, np.full(len(middles), end)] for end in (3, 4)
    ]
    x = torch.eye(P + 1, dtype=torch.float64)[torch.tensor(np.concatenate(both))]
    worst = (sequence_model(net)(x[:, :-1]) - x[:, 1:])[:, -1].detach().abs().max()
    symbols, state = np.empty(P + 1, np.int64), np.array([5], np.uint64)
    found = loops.look(
        loops.RTRL, net, symbols, state, 1.0, True, 1_000, True
    )  # of 54 different ones
    assert found == pytest.approx(float(worst), rel=1e-11)
    assert found > 0.25
    again, presented = state.copy(), 0
    assert 0.25 <= loops.look(loops.RTRL, net, symbols, state, 1.0, True, loops.MANY, True) <= found
    while again != state:
        loops.present(symbols, again, True)
        presented += 1
    assert presented < 100  # it stops at the first that is wrong


def test_a_random_middle_that_is_no_choice_is_learned():
    outcome = one_unit.run("rtrl", 2, 20.0, 50_000, trials=3, random_middle=True)
    assert outcome.percent == 100
    assert outcome.curve[-1][3] < 0.25


@pytest.mark.parametrize("method", ["rtrl", "chunker"])
def test_the_same_seed_gives_the_same_bits_on_any_number_of_threads(method, monkeypatch):
    def found(seed):
        outcome = one_unit.run(method, 3, 10.0, 3_000, trials=5, seed=seed, alone=100)
        return outcome.sequences, outcome.curve, outcome.notes

    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = found(3)
        monkeypatch.setattr(one_unit, "REST", 0.0)  # the shortest chunks
        numba.set_num_threads(threads)
        assert found(3) == one
        assert found(4) != one
    finally:
        numba.set_num_threads(threads)


def test_a_trial_does_not_depend_on_how_many_there_are():
    few, more = (one_unit.run("rtrl", 2, 20.0, 50_000, trials=n).sequences for n in (2, 4))
    assert more[:2] == few


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"method": "adam"}, ValueError, r"method: got 'adam', expected one of 'rtrl'"),
        ({"p": 1}, ValueError, r"p: got 1, expected at least 2"),
        ({"p": 4.0}, TypeError, r"p: got 4.0 \(float\), expected a whole number"),
        ({"budget": 0}, ValueError, r"budget: got 0"),
        ({"trials": True}, TypeError, r"trials: got True"),
        ({"seed": -1}, ValueError, r"seed: got -1"),
        ({"alone": -1}, ValueError, r"alone: got -1"),
        (
            {"unit": "tanh"},
            ValueError,
            r"unit: got 'tanh', expected one of 'logistic', 'symmetric'",
        ),
        ({"method": "lstm", "unit": "symmetric"}, ValueError, r"unit: got 'symmetric' with method"),
        (
            {"method": "bptt", "alone": 5},
            ValueError,
            r"alone: got 5 with method 'bptt', expected 0",
        ),
        ({"rate": 0.0}, ValueError, r"rate: got 0.0, expected a finite number > 0"),
        ({"rate": float("nan")}, ValueError, r"rate: got nan"),
        ({"threshold": "0.3"}, TypeError, r"threshold: got '0.3', expected a number"),
    ],
)
def test_wrong_arguments_are_named(change, error, message):
    arguments = {"method": "rtrl", "p": 4, "rate": 1.0, "budget": 100} | change
    with pytest.raises(error, match=message):
        one_unit.run(**arguments)
