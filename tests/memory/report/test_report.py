"""memory_report: what it measures, what it leaves as it was, what it refuses."""

import copy
import json
import math

import pytest
import torch
from tests.gradients.models import CELLS, make
from tests.memory.brute import made
from tests.scan.cases import random
from torch import nn

import longlag as ll
from longlag.memory import error_flow, horizon, jacobian_norms, memory_report
from longlag.memory.measures.horizon import horizon_over_sequences
from longlag.memory.report import html, plots
from longlag.training import cross_entropy, mse

DOUBLE = {"dtype": torch.float64}
NAN = math.nan


def linear(factor, hidden=4, **options):
    """h_t = factor h_{t-1} + U x_t."""
    start = ll.init.Identity(factor)
    given = {"activation": "identity", "bias": False, "weight_hh_init": start, "seed": 0}
    return ll.Elman(2, hidden, **given, **DOUBLE, **options)


def elman(reduce=None, outputs=2, steps=30):
    layer = ll.Elman(2, 5, seed=1, **DOUBLE)
    return ll.SequenceModel(layer, outputs, reduce=reduce, seed=2), random(3, steps, 2)


def shown(report):
    """All that a report can show, without a warning; its JSON data."""
    assert report.name in html.page({report.name: report})
    assert str(report).startswith(f"{report.name}: {report.description}\nMemory horizon")
    return json.loads(json.dumps(report.to_dict(), allow_nan=False))


def by_autograd(model, x, target, loss):
    """Norms of dE/dh_{T-k} by k = 0 .. T and sequence, of an Elman model read at the end."""
    layer, h = model.layer, torch.zeros(len(x), model.layer.hidden_size, **DOUBLE)
    states = [h.requires_grad_()]
    for t in range(x.shape[1]):
        pre = x[:, t] @ layer.weight_ih.T + states[-1] @ layer.weight_hh.T + layer.bias
        states.append(pre.tanh())
    output = states[-1] @ model.readout.weight.T + model.readout.bias
    errors = torch.autograd.grad(loss(output, target), states)
    return torch.stack([each.norm(dim=-1) for each in errors]).flip(0)


def middle(curves, fraction):
    """The median of the horizons of three sequences, by (L, 3)."""
    return sorted(horizon(curve, fraction) for curve in curves.T)[1]


@pytest.mark.slow
def test_the_horizon_is_that_of_automatic_differentiation():
    model, x = elman("last")
    target = random(3, 2, seed=5)
    report = memory_report(model, x, target, lag=25)
    curves = by_autograd(model, x, target, nn.functional.mse_loss)
    curve = curves.norm(dim=-1)
    (found,) = report.flow.layers
    torch.testing.assert_close(found.by_sequence, curves.T, rtol=1e-9, atol=0)
    torch.testing.assert_close(found.by_lag, curve, rtol=1e-9, atol=0)
    for fraction in (0.5, 0.01, 1e-3):
        again = memory_report(model, x, target, fraction=fraction, exponents=0)
        assert again.horizon == middle(curves, fraction)
        assert again.horizon_interval is None  # over three
    assert 3 < report.horizon < 25
    assert report.of_loss
    assert report.flow.loss.item() == pytest.approx(mse(model(x), target).item())
    data = shown(report)
    assert (data["horizon"], data["lag"], data["steps"], data["sequences"]) == (
        report.horizon, 25, 30, 3,
    )  # fmt: skip
    assert data["error"][0]["by_lag"] == pytest.approx(curve.tolist())


def test_the_parts_are_those_of_their_own_functions():
    model, x = elman()
    target, lengths = random(3, 30, 2, seed=5), torch.tensor([30, 17, 8])
    report = memory_report(model, x, target, lengths=lengths, seed=3, exponents=2)
    norms = jacobian_norms(model, x, lengths=lengths, seed=3)
    torch.testing.assert_close(report.jacobian_norms.largest.values, norms.largest.values,
                               equal_nan=True)  # fmt: skip
    (flow,) = error_flow(model, x, target, mse, lengths=lengths).layers
    torch.testing.assert_close(report.flow.layers[0].by_lag, flow.by_lag)
    assert list(report.facts) == [""]
    assert len(report.lyapunov.exponents) == 2
    assert report.states.norms.isnan().sum() == 13 + 22
    assert report.plot().axes


@pytest.mark.parametrize("kind", ["tags", "numbers"])
def test_the_last_step_with_an_error_due_is_followed(kind):
    """Counted from each sequence's own end; the last two steps of each have no target."""
    model, x = elman(outputs=3)
    lengths = torch.tensor([30, 21, 9])
    at = torch.arange(30)
    due = (at % 4 == 0) & (at < lengths[:, None] - 2)
    if kind == "tags":
        target, loss = torch.where(due, 2, -100), cross_entropy
    else:
        target, loss = torch.where(due[..., None], random(3, 30, 3, seed=4), NAN), mse
    report = memory_report(model, x, target, lengths=lengths, exponents=0)
    # The last due ones are 24, 16 and 4: 6, 5 and 5 before the ends.
    expected = error_flow(model, x, target, loss, step=-5, lengths=lengths).layers[0]
    torch.testing.assert_close(report.flow.layers[0].by_lag, expected.by_lag)
    assert report.flow.step == -5
    assert report.horizon == expected.over_sequences().median
    assert expected.seen.tolist() == [27, 18, 6]
    assert report.of_loss


def test_of_a_target_with_many_numbers_one_is_enough():
    model, x = elman()
    target = torch.full((3, 30, 2), NAN, **DOUBLE)
    target[1, 11, 1] = 1.0
    report = memory_report(model, x, target, exponents=0)
    assert report.flow.step == -19
    assert report.flow.layers[0].by_step[1, 13:].eq(0).all()
    assert report.flow.layers[0].by_step[0].eq(0).all()


def test_a_step_that_is_asked_for_is_followed():
    model, x = elman()
    target = random(3, 30, 2, seed=5)
    report = memory_report(model, x, target, step=12, exponents=0)
    (expected,) = error_flow(model, x, target, mse, step=12).layers
    torch.testing.assert_close(report.flow.layers[0].by_lag, expected.by_lag)


@pytest.mark.parametrize("why", ["no target", "none due", "no error"])
def test_without_an_error_of_the_loss_there_is_a_random_one(why):
    model, x = elman()
    targets = {
        "no target": None,
        "none due": torch.full((3, 30, 2), NAN, **DOUBLE),
        "no error": torch.zeros(3, 30, 2, **DOUBLE),
    }
    losses = {"no error": lambda output, _: 0.0 * output.sum()}
    report = memory_report(model, x, targets[why], losses.get(why), seed=1, exponents=0)
    assert not report.of_loss
    assert report.verdict.evidence[-1].startswith("the error is a random one at the output")
    again = memory_report(model, x, seed=1, exponents=0)
    torch.testing.assert_close(report.flow.layers[0].by_lag, again.flow.layers[0].by_lag)
    other = memory_report(model, x, seed=2, exponents=0)
    assert not torch.equal(report.flow.layers[0].by_lag, other.flow.layers[0].by_lag)
    assert not report.to_dict()["error_of_loss"]


@pytest.mark.every_cell
@pytest.mark.slow
@pytest.mark.parametrize("kind", [*CELLS, "own", "stack"])
def test_every_cell_has_its_report(kind):
    model = make(kind, reduce="last")
    x, target = random(3, 24, 3), random(3, 2, seed=1)
    report = memory_report(model, x, target, lag=8)
    flow = error_flow(model, x, target, mse)
    assert report.horizon == flow.layers[0].over_sequences().median
    assert len(report.facts) == len(flow.layers)
    data = shown(report) if kind in ("own", "stack") else report.to_dict()
    assert [each["layer"] for each in data["error"]] == [each.layer for each in flow.layers]
    for name in plots.PANELS:
        if plots.PANELS[name].there(report):
            assert plots.draw(report, name).axes[0].has_data() or name == "unrolled"


@pytest.mark.slow
@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU])
def test_modules_of_torch_are_read_as_those_of_longlag(kind):
    module = kind(2, 4, num_layers=2, batch_first=True, dropout=0.5, **DOUBLE)
    x, target = random(3, 21, 2), random(3, 21, 4, seed=1)
    report = memory_report(module, x, target)
    mine = memory_report(ll.from_torch(module), x, target)
    assert report.horizon == mine.horizon
    torch.testing.assert_close(report.flow.layers[1].by_lag, mine.flow.layers[1].by_lag)
    assert report.name == "Stack"
    assert module.training


@pytest.mark.slow
def test_both_directions_have_their_own():
    layer = ll.Bidirectional(made("LSTM"), ll.Stack(made("GRU")))
    model = ll.SequenceModel(layer, 2, reduce=None, seed=0)
    x, lengths = random(3, 24, 2), torch.tensor([24, 20, 0])
    report = memory_report(model, x, random(3, 24, 2, seed=1), lengths=lengths)
    found = [each.over_sequences().median for each in report.flow.layers]
    assert report.horizon == max(found)
    assert list(report.facts) == ["forward_layer", "backward_layer.layers.0"]
    data = shown(report)
    assert list(data["lyapunov"]) == list(data["jacobian_norms"]) == ["forward", "backward"]
    assert any(line.startswith("horizon by layer:") for line in report.verdict.evidence)


def deep_in_both():
    layers = (
        ll.Bidirectional(made("GRU"), made("GRU")),
        ll.Bidirectional(ll.GRU(6, 3, seed=3, **DOUBLE), ll.GRU(6, 3, seed=4, **DOUBLE)),
    )
    return ll.Stack(*layers)


@pytest.mark.parametrize("reduce", ["last", None])
def test_of_layers_that_read_both_ways_the_first_is_judged_and_all_are_shown(reduce):
    model = ll.SequenceModel(deep_in_both(), 2, reduce=reduce, seed=0)
    x, target = random(3, 20, 2), random(3, *(() if reduce else (20,)), 2, seed=1)
    report = memory_report(model, x, target, exponents=1)
    names = [f"layer.layers.{n}.{way}_layer" for n in (0, 1) for way in ("forward", "backward")]
    assert [layer.layer for layer in report.flow.layers] == names
    assert [name.removeprefix("layer.") for name in names] == list(report.facts)
    first = [layer.over_sequences().median for layer in report.flow.layers[:2]]
    assert report.horizon == max(first, key=lambda lag: math.inf if lag is None else lag)
    # The norms of the layer that reads x, and its error as automatic differentiation finds it.
    norms = jacobian_norms(model.layer.layers[0], x)
    torch.testing.assert_close(
        report.jacobian_norms.forward.largest.mean, norms.forward.largest.mean
    )
    between = model.layer.layers[0](x)[0].detach().requires_grad_()
    output = model.layer.layers[1](between)[0]
    if reduce:
        last = model.layer.layers[1].last(output, torch.full((3,), 20))
        output = model.readout(last)
    else:
        output = model.readout(output)
    (error,) = torch.autograd.grad(nn.functional.mse_loss(output, target), between)
    ahead = report.flow.layers[0].by_sequence[:, 0]
    torch.testing.assert_close(ahead, error[:, -1, :3].norm(dim=-1))
    shown(report)
    assert report.plot().axes


@pytest.mark.slow
def test_a_direction_that_no_error_reaches_does_not_count():
    """The backward reading ends at the first step, where here no error is due."""
    layer = ll.Bidirectional(linear(0.5), linear(0.5))
    model = ll.SequenceModel(layer, 1, reduce=None, seed=0)
    target = torch.full((2, 30, 1), NAN, **DOUBLE)
    target[:, -1] = 1.0
    report = memory_report(model, random(2, 30, 2), target)
    assert report.flow.layers[1].by_lag.eq(0).all()
    assert report.horizon == 7
    assert report.verdict.kind == "vanishes"
    shown(report)


def test_resets_and_a_state_that_is_given():
    model, x = elman()
    target = random(3, 30, 2, seed=5)
    resets = torch.zeros(3, 30, dtype=torch.bool)
    resets[:, 20] = True
    report = memory_report(model, x, target, resets=resets, exponents=4)
    assert report.horizon == 10  # nothing comes through a reset
    assert report.lyapunov is None
    state = ll.Elman(2, 5, **DOUBLE)(x)[1]
    changed = tuple(3 * part for part in state)
    begun = memory_report(model, x, target, state=type(state)(*changed))
    plain = memory_report(model, x, target)
    assert not torch.equal(begun.flow.layers[0].by_lag, plain.flow.layers[0].by_lag)
    assert not torch.equal(begun.states.norms, plain.states.norms)


def test_a_half_keeps_to_its_promise():
    """0.5^7 is the first power below 1 %: W = I / 2 without squashing."""
    report = memory_report(linear(0.5), random(3, 40, 2))
    assert report.horizon == 7
    assert report.verdict.kind == "vanishes"
    assert report.verdict.headline.startswith("Memory horizon: 7 steps. Gradients vanish")
    (theory,) = [line for line in report.verdict.evidence if "||W||" in line]
    assert "||W|| = 0.50" in theory
    assert "sufficient for vanishing" in theory
    assert "by a factor of 0.50 a step" in report.verdict.evidence[0]
    assert float(report.lyapunov.exponents[0]) == pytest.approx(math.log(0.5))


def test_what_grows_explodes():
    report = memory_report(linear(1.5), random(3, 30, 2), lag=20)
    assert report.verdict.kind == "explodes"
    assert report.horizon is None
    grown = 30 * math.log10(1.5)
    assert f"the error grows by 10^{grown:.1f}" in "\n".join(report.verdict.evidence)
    assert report.verdict.advice[-1].name == "clip"


def test_what_grows_beyond_the_numbers_is_still_shown():
    model = ll.SequenceModel(linear(30.0).float(), 1, reduce=None, seed=0)
    report = memory_report(model, random(3, 60, 2).float())
    assert report.verdict.kind in ("explodes", "not finite")
    assert "inf" not in str(report.verdict).replace("influence", "").replace("infinite", "")
    json.dumps(report.to_dict(), allow_nan=False)
    for name in ("flow", "growth", "norms", "unrolled"):
        plots.draw(report, name)


@pytest.mark.slow
@pytest.mark.parametrize("bad", [NAN, math.inf])
def test_weights_that_are_not_finite_have_a_page_too(bad):
    model, x = elman()
    with torch.no_grad():
        model.layer.weight_hh[0, 0] = bad
    report = memory_report(model, x, random(3, 30, 2, seed=5), lag=10)
    assert report.verdict.kind == "not finite"
    assert report.verdict.headline.startswith("Weights or states are not finite")
    assert report.verdict.evidence == ()
    assert [each.name for each in report.verdict.advice] == ["restart"]
    assert "not finite" in html.page({"broken": report})
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert data["horizon"] is None


def test_of_weights_that_are_not_finite_vectors_find_nothing():
    layer = ll.LSTM(2, 5, seed=0)
    with torch.no_grad():
        layer.weight_hh[0, 0] = NAN
    found = jacobian_norms(layer, random(2, 9, 2).float(), method="vectors")
    assert found.largest.values[:, 1:].isnan().all()


@pytest.mark.slow
def test_nothing_is_changed():
    inner = ll.Stack(ll.LSTM(2, 3, seed=0), ll.Elman(3, 3, seed=1), dropout=0.5)
    model = ll.SequenceModel(inner, 2, reduce=None, seed=1)
    model.train()
    model.readout.eval()  # as where a part is frozen
    modes = [each.training for each in model.modules()]
    x, target = random(3, 24, 2).float(), random(3, 24, 2, seed=1).float()
    mse(model(x), target).backward()
    before = copy.deepcopy(model)
    grads = [each.grad.clone() for each in model.parameters()]
    drawn = torch.get_rng_state()
    first = memory_report(model, x, target)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert [each.training for each in model.modules()] == modes
    for mine, old, grad in zip(model.parameters(), before.parameters(), grads, strict=True):
        assert torch.equal(mine, old)
        assert torch.equal(mine.grad, grad)
        assert mine.requires_grad
    again = memory_report(model.eval(), x, target)  # without dropout in either mode
    assert torch.equal(again.flow.layers[0].by_lag, first.flow.layers[0].by_lag)
    assert not inner._forward_hooks


def test_a_failure_leaves_the_mode_too():
    model, x = elman()
    model.train()
    with pytest.raises(ValueError, match="mse"):
        memory_report(model, x, random(3, 30, 7))
    assert model.training


def test_it_says_of_itself():
    model, x = elman()
    report = memory_report(model, x, name="mine", exponents=0)
    assert repr(report) == f"<MemoryReport of mine: {report.verdict.headline}>"
    assert report.description.startswith("Elman(2, 5, activation='tanh'), 2 outputs at every step")
    assert report.description.endswith("52 weights")  # 5 (2 + 5 + 1) + 2 (5 + 1)
    assert memory_report(model, x, exponents=0).name == "Elman"


def test_few_steps_have_no_exponents():
    model, x = elman(steps=6)
    report = memory_report(model, x)
    assert report.lyapunov is None
    assert "lyapunov" not in [n for n, panel in plots.PANELS.items() if panel.there(report)]
    with pytest.raises(ValueError, match="name: got 'lyapunov', expected one of unrolled, flow"):
        plots.draw(report, "lyapunov")
    shown(memory_report(model, x[:1, :1]))


def refusals():
    model, x = elman()
    target = random(3, 30, 2)
    holder = nn.Sequential(nn.LSTM(2, 3))
    many = ll.SequenceModel(ll.GRU(2, 3, replicas=2), 1)
    good = {"model": model, "x": x}
    return [
        ({"model": holder}, TypeError, r"got Sequential, which holds .* ll\.watch\(model\)"),
        ({"model": nn.Linear(2, 3)}, TypeError, "model: got Linear, expected a recurrent module"),
        ({"model": "LSTM"}, TypeError, "model: got str, expected a recurrent module"),
        ({"model": many}, ValueError, "model: has 2 replicas, .* replicas=None"),
        ({"x": x.numpy()}, TypeError, "x: got ndarray, expected a torch.Tensor"),
        ({"x": x[0]}, ValueError, r"x: got shape \(30, 2\), expected \(N, T, C\)"),
        ({"x": x[:0]}, ValueError, r"x: got shape \(0, 30, 2\), .* N, T >= 1"),
        ({"x": x[:, :0]}, ValueError, r"x: got shape \(3, 0, 2\), .* N, T >= 1"),
        ({"x": x[..., :1]}, ValueError, "x: .*2"),
        ({"lengths": [0, 0, 0]}, ValueError, "lengths: all are 0"),
        ({"lengths": [31, 1, 1]}, ValueError, "lengths"),
        ({"lag": 0}, ValueError, "lag: got 0, expected at least 1"),
        ({"lag": 2.5}, TypeError, r"lag: got 2\.5"),
        ({"lag": True}, TypeError, "lag: got True"),
        ({"exponents": -1}, ValueError, "exponents: got -1, expected at least 0"),
        ({"fraction": 0}, ValueError, "fraction: got 0, expected a number between 0 and 1"),
        ({"fraction": 1.0}, ValueError, r"fraction: got 1\.0"),
        ({"fraction": NAN}, ValueError, "fraction: got nan"),
        ({"fraction": "1 %"}, ValueError, "fraction: got '1 %'"),
        ({"step": "all"}, TypeError, r"step: got 'all' \(str\), expected a whole number, or None"),
        ({"step": 30}, ValueError, "step: got 30, expected one of the 30 steps"),
        ({"sample": 0}, ValueError, "sample: got 0"),
        ({"loss": "mse"}, ValueError, "target: got None, and a loss; expected both, or neither"),
        ({"target": target, "loss": "cross_entropy"}, ValueError, "loss 'cross_entropy' takes"),
        ({"target": target, "loss": "mes"}, ValueError, "loss is 'mes'; expected one of"),
        ({"target": target[..., :1]}, ValueError, "mse: the model's output has shape"),
    ], good  # fmt: skip


CASES, GOOD = refusals()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[2][:30])
def test_what_is_refused(case):
    given, error, message = case
    with pytest.raises(error, match=message):
        memory_report(**{**GOOD, **given})


def test_a_report_of_a_torch_module_draws_nothing():
    module, x = torch.nn.GRU(2, 4, batch_first=True), torch.ones(3, 30, 2)
    before = torch.random.get_rng_state()
    ll.memory_report(module, x)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["the output", "the cell", "a lower layer", "a direction"])
def test_a_given_state_that_is_not_finite_is_told(value, place):
    if place in ("the output", "the cell"):
        layer = ll.LSTM(2, 3, seed=0)
    elif place == "a lower layer":
        layer = ll.Stack(ll.Elman(2, 3, seed=0), ll.LSTM(3, 3, seed=1))
    else:
        layer = ll.Bidirectional(ll.LSTM(2, 3, seed=0), ll.LSTM(2, 3, seed=1))
    model = ll.SequenceModel(layer, 1, seed=2)
    x = random(2, 12, 2).float()
    with torch.no_grad():
        state = layer(x)[1]
    assert memory_report(model, x, state=state, exponents=0).verdict.kind != "not finite"
    broken = {
        "the output": lambda: state.h,
        "the cell": lambda: state.c,
        "a lower layer": lambda: state[0].h,
        "a direction": lambda: state[1].c,
    }[place]()
    broken[1, 0] = value
    report = memory_report(model, x, state=state, exponents=0)
    assert report.verdict.kind == "not finite"
    assert "reaches back" not in str(report.verdict)


def learnt(lag, count=80, steps=40, seed=0):
    """A linear network that puts out what it read some steps before its end, and such data."""
    layer = ll.Elman(1, lag + 1, activation="identity", bias=False, seed=0, **DOUBLE)
    with torch.no_grad():
        layer.weight_ih.copy_(torch.eye(lag + 1, 1))
        layer.weight_hh.copy_(torch.eye(lag + 1).roll(1, 0).tril())
    model = ll.SequenceModel(layer, 1, seed=0)
    with torch.no_grad():
        model.readout.weight.copy_(torch.eye(lag + 1)[-1:])
        model.readout.bias.zero_()
    x = random(count, steps, 1, seed=seed)
    return model, x, x[:, -1 - lag] + 0.1 * random(count, 1, seed=seed + 1)


@pytest.mark.parametrize("ragged", [False, True])
def test_the_lag_of_the_task_is_found(ragged):
    model, x, target = learnt(13)
    lengths = None
    if ragged:
        lengths = torch.arange(80) % 20 + 21
        target = x[torch.arange(80), lengths - 14]
    report = memory_report(model, x, target, lengths=lengths, exponents=0)
    found = report.task_lag
    assert (found.lag, found.interval, report.lag, report.known_lag) == (13, (13, 13), None, 13)
    assert 1.5 < found.exchanged < 3.5  # the difference of two draws has a variance of 2
    assert found.losses[found.lags.index(12)].item() == pytest.approx(found.exchanged)
    assert found.losses[-1].item() == pytest.approx(found.own)
    assert report.verdict.kind == "remembers"
    assert "the task's lag, found from the data, is 13. The error reaches back far enough" in str(
        report
    )
    assert shown(report)["task_lag"]["interval"] == [13, 13]
    given = memory_report(model, x, target, lengths=lengths, lag=9, exponents=0)
    assert given.task_lag is None


def test_at_the_last_step_that_has_a_target_the_lag_is_found_too():
    model, x, _ = learnt(6)
    tagger = ll.SequenceModel(model.layer, reduce=None, readout=model.readout)
    target = torch.full((80, 40, 1), NAN, **DOUBLE)
    target[:, 35, 0] = x[:, 29, 0]
    found = memory_report(tagger, x, target, exponents=0).task_lag
    assert (found.lag, found.interval) == (6, (6, 6))


def test_both_ways_the_lag_is_that_of_what_lies_before():
    layer = ll.Bidirectional(linear(0.5, 1), linear(0.5, 1))
    with torch.no_grad():
        layer.forward_layer.weight_ih.fill_(1.0)
        layer.backward_layer.weight_ih.zero_()
    x = random(60, 20, 2)
    found = memory_report(layer, x, layer(x)[0], mse, exponents=0).task_lag
    assert found.lag == 2  # 4^-3 < 5 % < 4^-2


def test_without_learning_no_lag_is_found_and_the_reason_told():
    model, x, target = learnt(13)
    noise = random(*target.shape, seed=9)
    report = memory_report(model, x, noise, exponents=0)
    assert report.task_lag.lag is None
    assert "nor found (the loss is no smaller with a sequence's own inputs" in str(report.verdict)
    assert report.verdict.kind == "vanishes"  # compared with all 40 steps
    weak = memory_report(model, x, target, lambda y, t: mse(y, t) + 50, exponents=0)
    assert "little has been learnt yet" in weak.task_lag.reason
    few = memory_report(model, x[:4], target[:4], exponents=0)
    assert few.task_lag.reason == "fewer than 5 sequences have a target"
    whole = memory_report(
        model, x, target, lambda y, t: (y - t).square().mul(torch.ones(80, 1)).mean(), exponents=0
    )
    assert whole.task_lag.lag == 13  # it broadcasts
    assert memory_report(model, x, exponents=0).task_lag is None


def test_an_answer_of_all_steps_needs_no_long_memory():
    layer = ll.Elman(2, 5, seed=0, weight_hh_init=ll.init.SpectralRadius(0.5), **DOUBLE)
    model = ll.SequenceModel(layer, 1, reduce="mean", seed=0)
    report = memory_report(model, random(8, 40, 2), random(8, 1, seed=1), exponents=0)
    assert (report.verdict.kind, report.task_lag) == ("remembers", None)
    assert "the mean over all steps, and the error comes to each directly" in str(report)
    assert memory_report(model, random(8, 40, 2), random(8, 1), lag=30).verdict.kind == "vanishes"


@pytest.mark.slow
def test_reports_of_other_draws_agree_within_their_intervals():
    """A network whose error decays at another rate for each sequence."""
    model = ll.SequenceModel(ll.GRU(2, 8, seed=0, **DOUBLE), 2, seed=1)
    x, target = random(640, 60, 2), random(640, 2, seed=1)
    x = (
        x
        * torch.linspace(0.1, 4.0, 640).double()[
            torch.randperm(640, generator=torch.manual_seed(0)), None, None
        ]
    )
    (flow,) = error_flow(model, x, target, mse).layers
    true = flow.over_sequences().median
    pooled, medians, inside, pairs = [], [], 0, []
    for draw in range(20):
        rows = slice(32 * draw, 32 * draw + 32)
        part = horizon_over_sequences(flow.by_sequence[rows], flow.seen[rows])
        medians.append(part.median)
        pooled.append(horizon(flow.by_sequence[rows].norm(dim=0)))
        low, high = part.interval
        inside += low <= true <= high
        pairs.append((low, high))
        assert low <= part.median <= high
        assert low < high
    assert inside >= 18
    disjoint = sum(a[1] < b[0] or b[1] < a[0] for a in pairs for b in pairs)
    assert disjoint <= 4  # of 380
    report = memory_report(model, x[:32], target[:32], exponents=0, sample=1)
    assert (report.horizon, report.horizon_interval) == (medians[0], pairs[0])


def test_a_lag_beyond_the_steps_seen_cannot_be_remembered(tmp_path):
    layer = ll.Elman(2, 6, bias=False, weight_hh_init=ll.init.Identity(), activation="identity")
    x = random(2, 20, 2).float()
    for lag, kind in (
        (None, "remembers"),
        (20, "remembers"),
        (900, "too short"),
        (21, "too short"),
    ):
        report = memory_report(layer, x, lag=lag, exponents=0)
        assert report.verdict.kind == kind
        report.to_html(tmp_path / "page.html")  # pytest makes errors of the warnings of figures
    headline = report.verdict.headline
    for part in ("beyond the 20 steps seen", "lag is 21", "cannot be told", "shorter than the lag"):
        assert part in headline
    assert report.verdict.advice == ()
