"""The step within a sequence, units that rest, and what a long delay costs."""

import pytest
import torch
from tests.scan import cases

import longlag as ll
from longlag.recurrence import Absent, Cell, DeclarationError, Dense, tanh
from longlag.recurrence.lowered import lower
from longlag.scan import Weights, choose
from longlag.scan.inputs import ScanInputs
from longlag.scan.trajectory import held_since


class Counter(Cell):
    """Puts out the step within the sequence."""

    gates = ("a",)
    wiring = {"a": Absent()}

    def update(self, pre, state, unit):
        return {"h": state.t + pre.a}


def counter(backend, **options):
    layer = ll.Recurrent(Counter(), 1, 1, backend=backend, dtype=torch.float64, **options)
    torch.nn.init.zeros_(layer.weight_ih)
    return layer


@pytest.mark.parametrize("backend", cases.BACKENDS)
def test_t_is_the_step_within_the_sequence(backend):
    layer, x = counter(backend), torch.ones(3, 5, 1, dtype=torch.float64)
    resets = torch.zeros(3, 5, dtype=torch.bool)
    resets[0, 2] = resets[1, 4] = resets[2, 0] = True
    lengths = torch.tensor([5, 4, 0])
    output, state = layer(x, lengths=lengths, resets=resets)
    assert output[..., 0].tolist() == [[0, 1, 0, 1, 2], [0, 1, 2, 3, 0], [0, 0, 0, 0, 0]]
    assert state.t.tolist() == [[3], [4], [0]]
    output, state = layer(x[:, :2], state, lengths=torch.tensor([2, 2, 0]))
    assert output[:, :, 0].tolist() == [[3, 4], [4, 5], [0, 0]]
    assert state.t.tolist() == [[5], [6], [0]]


def test_t_is_no_state_of_the_recurrence():
    layer = counter("auto", replicas=2)
    assert layer.recurrence.states == ("h",)
    assert layer.recurrence.carried == ("h", "t")
    _, state = layer(torch.ones(2, 3, 4, 1, dtype=torch.float64))
    assert state.t.shape == (2, 3, 1)
    single = counter("auto")
    assert ll.state_jacobians(single, torch.ones(3, 4, 1, dtype=torch.float64)).shape[-1] == 1


def test_a_state_may_be_called_t():
    class Own(Cell):
        state = ("h", "t")
        gates = ("a",)

        def update(self, pre, state, unit):
            return {"h": tanh(pre.a) * state.t, "t": state.t + 0.5}

    layer = ll.Recurrent(Own(), 1, 2)
    assert not layer.recurrence.timed
    assert layer(torch.zeros(1, 4, 1))[1].t.tolist() == [[2.0, 2.0]]


@pytest.mark.parametrize("periods", [3, (0, 1), (1.5,), (True,), ("2",)])
def test_periods_that_are_none_are_refused(periods):
    class Wrong(Counter):
        pass

    Wrong.periods = periods
    with pytest.raises(DeclarationError, match=r"Wrong\.periods: got .*, expected a tuple of"):
        _ = Wrong().recurrence


def test_the_name_of_the_period_is_taken():
    class Wrong(Counter):
        periods = (1, 2)
        unit_parameters = {"period": ll.UnitParameter()}

    with pytest.raises(DeclarationError, match=r"'period' is the unit parameter that Wrong\."):
        _ = Wrong().recurrence


def test_what_was_reset_since_counts_no_longer():
    keep = torch.tensor([True, True, False, True, True, True, False, True]).view(8, 1, 1)
    for delay in range(1, 6):
        found = held_since(keep, delay).flatten().tolist()
        assert found == [all(keep[max(0, t - delay + 1) : t + 1]) for t in range(8)]


def test_a_long_delay_is_stored_once():
    """A delay of 128 over 2,000 steps: the states of 1 and no more than the past beside."""
    sizes = {}
    for delay in (1, 128):
        recurrence = ll.cells.Skip((delay,)).recurrence
        x, matrix = cases.random(2000, 2, 3), cases.random(4, 3)
        weights = Weights(cases.random(4, 4, seed=1) / 4, (), matrix, None)
        run = choose("cpu", x).forward(ScanInputs(recurrence, x, weights), True)
        sizes[delay] = sum(path.untyped_storage().nbytes() for path in run.states)
        assert len(run.final) == len(recurrence.states) == delay
    assert sizes[128] < 1.07 * sizes[1]


def test_the_past_is_a_row_of_the_path():
    lowered = lower(cases.Wired().recurrence)
    assert [lowered.recurrence.states[number] for number in lowered.stored] == ["h", "c"]
    assert lowered.depths == (3, 1)
    assert lowered.delays == (1, 2, 3, 4)
    assert lowered.core.states == ("h", "c")
    materialised = lower(lowered.recurrence.materialised)
    assert materialised.depths == (0,) * 6
    assert [wire.delay for wire in lowered.recurrence.gates[0].matrices] == [1, 2, 4]


class Late(Cell):
    """Reads nothing but what was 70 steps ago."""

    gates = ("a",)
    wiring = {"a": Dense(delay=70)}

    def update(self, pre, state, unit):
        return {"h": tanh(pre.a)}


@pytest.mark.parametrize("method", [ll.CheckpointedBPTT(20), ll.TruncatedBPTT(16, 200)])
def test_pieces_shorter_than_the_delay_have_the_bits_of_the_whole(method):
    layer = cases.layer_of(Late(), 2, 5, backend="cpu")
    model = ll.SequenceModel(layer, 2, reduce="last", seed=0).double()
    x, target = cases.random(3, 200, 2), cases.random(3, 2)
    loss = torch.nn.functional.mse_loss
    expected = ll.BPTT().gradients(model, x, target, loss)
    assert expected["layer.weight_hh"].count_nonzero() > 0
    for name, gradient in method.gradients(model, x, target, loss).items():
        assert torch.equal(gradient, expected[name]), name
