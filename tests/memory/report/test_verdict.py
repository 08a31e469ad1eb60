"""judge and advise: what follows from which numbers, and that advice does what it says."""

import dataclasses
import math

import pytest
import torch

import longlag as ll
from longlag.memory import spectral_facts
from longlag.memory.report.numbers import Numbers
from longlag.memory.report.verdict import EXPLODES, judge

LSTM, GRU, LEAKY, ORTHOGONAL = "lstm-chrono", "gru-chrono", "leaky", "orthogonal"


def numbers(layer=None, **changed):
    """Those of an Elman network of a horizon of 14 steps, and a task with a lag of 100."""
    layer = ll.Elman(3, 8, seed=0) if layer is None else layer
    facts = {"": spectral_facts(layer)} if isinstance(layer, ll.Recurrent) else {}
    base = Numbers(
        layer=layer, steps=120, lag=100, fraction=0.01, horizon=14, noise=None,
        by_layer={"layer": 14}, rate=math.log(0.01) / 14, growth=0.0, facts=facts, half=None,
        units=8, carriers=0, held=None, exponent=None, finite=True, of_loss=True,
    )  # fmt: skip
    return base._replace(**changed)


def evidence(**changed):
    return "\n".join(judge(numbers(**changed)).evidence)


def names(found):
    return [each.name for each in judge(found).advice]


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({}, "vanishes"),
        ({"horizon": 100}, "vanishes"),  # at the lag itself it is below already
        ({"horizon": 101}, "remembers"),
        ({"horizon": None}, "remembers"),
        ({"lag": None}, "vanishes"),
        ({"lag": None, "horizon": 120}, "vanishes"),
        ({"lag": None, "horizon": None}, "remembers"),
        ({"held": 100}, "holds"),
        ({"held": 99}, "holds"),
        ({"held": 98}, "vanishes"),
        ({"held": 120, "horizon": 101}, "remembers"),
        ({"growth": EXPLODES * 1.001}, "explodes"),
        ({"growth": EXPLODES, "horizon": None}, "remembers"),
        ({"growth": math.inf, "horizon": None, "rate": math.nan}, "explodes"),
        ({"lag": 120, "horizon": None}, "remembers"),
        ({"lag": 121, "horizon": None}, "too short"),
        ({"lag": 121}, "vanishes"),
        ({"lag": 121, "held": 120}, "vanishes"),  # as far as seen, which is not the lag
        ({"lag": 121, "horizon": None, "growth": EXPLODES * 1.001}, "explodes"),
        ({"growth": math.inf, "finite": False}, "not finite"),
    ],
)
def test_the_kind_follows_from_the_numbers(changed, kind):
    verdict = judge(numbers(**changed))
    assert verdict.kind == kind
    assert bool(verdict.advice) == (kind not in ("remembers", "holds", "too short"))
    said = str(verdict).replace("an update has made weights infinite or NaN", "")
    assert "inf" not in said.replace("influence", "")
    assert "nan" not in said.lower()


def test_the_headline_compares_horizon_and_lag():
    assert judge(numbers()).headline == (
        "Memory horizon: 14 steps; the task's lag is 100. "
        "Gradients vanish before they reach the lag."
    )
    assert judge(numbers(horizon=1, lag=None)).headline.startswith("Memory horizon: 1 step. ")
    far = judge(numbers(horizon=None, lag=None, steps=1200)).headline
    assert far.startswith("Memory horizon: beyond the 1,200 steps seen. The error reaches back")


def test_the_evidence_has_the_numbers():
    said = evidence(
        noise=40, half=0, carriers=1, units=1, exponent=(-0.2, 0.01), by_layer={"a": 14, "b": None},
        of_loss=False, lag=None,
    )  # fmt: skip
    for part in (
        "falls to 1% within 14 steps, by a factor of 0.72 a step",
        "from lag 40 on it is below the rounding",
        "horizon by layer: a 14, b over 120",
        "comes from the last 1 step\n",
        "left at lag 120 lies in 1 of 1 unit\n",
        "exponent is -0.200 a step; nearby states converge",
        "compared with all 120 steps",
        "the error is a random one at the output",
    ):
        assert part in said + "\n"


@pytest.mark.parametrize(
    ("exponent", "said"),
    [
        ((0.3, 0.1), "chaotic"),
        ((0.1, 0.1), "near the edge of chaos"),
        ((-0.1, 0.1), "near the edge of chaos"),
        ((-0.3, 0.1), "nearby states converge"),
        ((0.3, math.nan), "chaotic"),  # of one short sequence there is no error
    ],
)
def test_the_exponent_is_judged_by_its_error(exponent, said):
    assert said in evidence(exponent=exponent)


def test_a_small_fraction_is_not_rounded_to_nothing():
    assert "falls to 0.1% within" in evidence(fraction=0.001)
    assert "below 0.05% of itself" in evidence(fraction=5e-4, rate=math.nan, horizon=None)


def theory(layer, **changed):
    (line,) = [each for each in judge(numbers(layer, **changed)).evidence if "||W||" in each]
    return line


def elman(matrix, **options):
    layer = ll.Elman(3, len(matrix), seed=0, **options)
    with torch.no_grad():
        layer.weight_hh.copy_(torch.as_tensor(matrix))
    return layer


def test_a_small_norm_is_sufficient_for_vanishing():
    said = theory(elman(0.61 * torch.eye(4)))
    assert said.startswith("||W|| = 0.61, spectral radius 0.61, 1/gamma = 1: sufficient for")
    assert "no more than 0.61" in said
    said = theory(elman(3.2 * torch.eye(4), activation="sigmoid"))
    assert said.startswith("||W|| = 3.20, spectral radius 3.20, 1/gamma = 4: sufficient for")
    assert "no more than 0.80" in said


def test_a_large_norm_is_only_necessary_for_exploding():
    large = elman(2.0 * torch.eye(4))
    assert "slopes of the activation take" in theory(large)
    exploded = {"rate": math.nan, "horizon": None, "growth": 9.0}
    assert "necessary for exploding holds" in theory(large, **exploded)


def test_a_norm_of_one_makes_nothing_larger():
    said = theory(elman(torch.eye(4), activation="identity"), rate=math.nan, horizon=None)
    assert "no step makes the influence of the past larger" in said


def test_where_the_radius_is_small_the_slopes_are_not_to_blame():
    """Without squashing all slopes are 1; W is not normal, and its powers vanish."""
    said = theory(elman([[0.5, 9.0], [0.0, 0.5]], activation="identity"))
    assert "the radius is small: W^k vanishes" in said
    assert "activation take" not in said


def test_gates_have_no_bound_and_the_reason_is_told():
    assert "no bound follows from the weights alone: LSTM has 2 states" in evidence(
        layer=ll.LSTM(3, 8, seed=0)
    )


FAMILIES = {
    "Elman": ll.Elman(3, 8, seed=0),
    "LSTM": ll.LSTM(3, 8, seed=0),
    "GRU": ll.GRU(3, 8, seed=0),
    "Leaky": ll.Leaky(3, 8, seed=0),
    "IndRNN": ll.IndRNN(3, 8, seed=0),
}


@pytest.mark.parametrize(
    ("family", "lag", "expected"),
    [
        ("Elman", 15, [ORTHOGONAL, LSTM, GRU]),
        ("Elman", 16, [LSTM, GRU, LEAKY, ORTHOGONAL]),
        ("LSTM", 100, [LSTM, GRU, LEAKY]),
        ("GRU", 100, [GRU, LSTM, LEAKY]),
        ("Leaky", 100, [LEAKY, LSTM, GRU]),
        ("IndRNN", 100, [LSTM, GRU, LEAKY, ORTHOGONAL, "indrnn"]),
    ],
)
def test_the_order_of_advice_against_vanishing(family, lag, expected):
    found = numbers(FAMILIES[family], lag=lag, horizon=3)
    assert names(found) == expected
    for each in judge(found).advice:
        assert "the horizon is 3 and should be" in each.why
        assert str(lag) in each.why


def test_the_order_of_advice_against_exploding():
    wild = {"growth": 12.0, "horizon": None, "rate": math.nan}
    loud, calm = elman(2 * torch.eye(4)), elman(0.9 * torch.eye(4))
    assert names(numbers(loud, **wild)) == [LSTM, GRU, ORTHOGONAL, "clip"]
    assert names(numbers(loud, lag=10, **wild)) == [ORTHOGONAL, LSTM, GRU, "clip"]
    assert names(numbers(calm, **wild)) == ["clip"]
    assert names(numbers(ll.LSTM(3, 8, seed=0), **wild)) == ["clip"]
    for each in judge(numbers(loud, **wild)).advice:
        assert "10^5.2" in each.why or each.name == ORTHOGONAL  # 12 / ln 10
        assert "horizon is" not in each.why


def test_a_squashing_that_is_flat_is_named():
    found = numbers(ll.Elman(3, 8, activation="sigmoid", seed=0), lag=10, horizon=3)
    assert judge(found).advice[0].why.startswith("the slope of its activation is 0.25 at the most")


def test_several_layers_get_words_alone():
    stack = ll.Stack(ll.Elman(3, 8, seed=0), ll.Elman(8, 8, seed=1))
    for changed, name in (({}, LSTM), ({"growth": 12.0}, "clip")):
        (advice,) = judge(numbers(stack, **changed)).advice
        assert advice.name == name
        assert not advice.builds
        with pytest.raises(ValueError, match=f"{name}: it asks for another training"):
            advice.build()


def by_hand(advice):
    """The layer that the line of code makes, with nothing but longlag at hand."""
    return eval(advice.code, {"ll": ll})  # noqa: S307 (of our own making)


def every_advice():
    wild = {"growth": 12.0, "horizon": None, "rate": math.nan}
    for name, layer in FAMILIES.items():
        for lag in (2, 9, 100):
            for advice in judge(numbers(layer, lag=lag, horizon=1)).advice:
                yield pytest.param(advice, lag, id=f"{name}-{lag}-{advice.name}")
    loud = elman(2 * torch.eye(8))
    for advice in judge(numbers(loud, **wild)).advice:
        yield pytest.param(advice, 100, id=f"wild-{advice.name}")


@pytest.mark.parametrize(("advice", "lag"), list(every_advice()))
def test_the_line_of_code_builds_the_same_layer(advice, lag):
    if not advice.builds:
        assert "..." in advice.code
        return
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mine = advice.build()
        torch.manual_seed(0)
        theirs = by_hand(advice)
    assert type(mine) is type(theirs)
    assert (mine.input_size, mine.hidden_size) == (3, 8)
    assert mine.cell == theirs.cell
    for (name, own), (_, other) in zip(
        mine.named_parameters(), theirs.named_parameters(), strict=True
    ):
        assert torch.equal(own, other), name
    assert all(torch.equal(a, b) for a, b in zip(mine.buffers(), theirs.buffers(), strict=True))
    # And it is what was promised.
    reach = max(3, lag)
    if advice.name == LSTM:
        forget, enter = mine.bias.chunk(4)[1], mine.bias.chunk(4)[0]
        assert (forget >= 0).all()
        assert (forget <= math.log(reach - 1)).all()
        assert torch.equal(enter, -forget)
    elif advice.name == GRU:
        kept = mine.bias.chunk(3)[1]
        assert (kept >= 0).all()
        assert (kept <= math.log(reach - 1)).all()
    elif advice.name == LEAKY:
        leaks = mine.unit("leak").double()
        assert leaks[0].item() == pytest.approx(0.5)
        assert leaks[-1].item() == pytest.approx(1 / reach)
        steps = leaks.log().diff()
        torch.testing.assert_close(steps, steps.mean().expand(7), rtol=1e-4, atol=1e-6)
    elif advice.name == ORTHOGONAL:
        W = mine.weight_hh.detach()
        torch.testing.assert_close(W @ W.T, torch.eye(8), rtol=0, atol=1e-5)
        assert mine.cell.activation == "tanh"
        assert advice.clip_norm == 1.0
    else:
        assert advice.name == "indrnn"
        kept = mine.unit("diagonal.candidate") ** reach
        assert (kept >= 0.5 - 1e-5).all()
        assert (kept <= 1).all()


def test_a_layer_that_is_built_is_like_the_one_looked_at():
    layer = ll.Elman(3, 8, seed=0, dtype=torch.float64)
    for advice in judge(numbers(layer)).advice:
        first, again = advice.build(7), advice.build(7)
        assert first.weight_ih.dtype == torch.float64
        assert all(
            torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)
        )
        assert not torch.equal(first.weight_ih, advice.build(8).weight_ih)
        assert advice.build(7, replicas=2).replicas == 2
        assert advice.build(7, dtype=torch.float32).weight_ih.dtype == torch.float32


def test_one_unit_alone_can_be_leaky():
    layer = ll.Elman(2, 1, seed=0)
    (leaky,) = [each for each in judge(numbers(layer)).advice if each.name == LEAKY]
    assert torch.equal(leaky.build().unit("leak"), by_hand(leaky).unit("leak"))


def test_a_verdict_prints_as_text():
    text = str(judge(numbers(half=3)))
    lines = text.splitlines()
    assert lines[0].startswith("Memory horizon: 14 steps")
    assert "  - half of the gradient of the recurrent weights comes from the last 4 steps" in lines
    at = lines.index("Try:")
    assert lines[at + 1].startswith("  1. take an LSTM with biases for lags to 100")
    assert lines[at + 3] == "     ll.LSTM(3, 8, bias_init=ll.init.Chrono(100))"
    assert "Try:" not in str(judge(numbers(horizon=None)))


def test_advice_can_be_compared():
    one, other = (judge(numbers()).advice[0] for _ in range(2))
    assert one == other
    assert one != dataclasses.replace(one, code="")
    assert "lambda" not in repr(one)
