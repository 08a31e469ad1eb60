"""What the numbers of a report mean, in plain words, with the evidence for each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from longlag.layers.sequence_model import SHARES
from longlag.memory.measures.horizon import LEVEL
from longlag.memory.measures.spectra import SpectralFacts
from longlag.memory.measures.task_lag import TaskLag
from longlag.memory.report.advice import Advice, advise, grown
from longlag.memory.report.numbers import Kind, Numbers
from longlag.messages import count

_READ = {
    "last": "the last step",
    "mean": "the mean over all steps",
    "attention": "a weighted mean over all steps",
    "share": "the shares of all steps at which units are above 0",
    "share_max": "shares and greatest values over all steps",
}
"""What a readout reads of a sequence."""

EXPLODES = math.log(100.0)
"""The error is said to explode where at some lag it is so much larger than at lag 0."""


@dataclass(frozen=True)
class Verdict:
    """A report in words; prints as text.

    Attributes:
        kind: "remembers": the error comes as far back as it should, or to each step directly,
            where the readout takes the mean over all; "holds": it does not, but the output depends
            on what lies so far back, which is held in stable states; "vanishes", "explodes";
            "too short": the error reaches the beginning, and the lag is longer than the sequences;
            "not finite".
        headline: the horizon, and whether it is enough.
        evidence: sentences with the numbers that it rests on.
        advice: what to try, the most promising first; empty where there is nothing to mend.
    """

    kind: Kind
    headline: str
    evidence: tuple[str, ...]
    advice: tuple[Advice, ...]

    def __str__(self) -> str:
        lines = [self.headline, *(f"  - {sentence}" for sentence in self.evidence)]
        if self.advice:
            lines.append("Try:")
        for number, advice in enumerate(self.advice, 1):
            lines += [f"  {number}. {advice.text}", f"     {advice.why}", f"     {advice.code}"]
        return "\n".join(lines)


def judge(numbers: Numbers) -> Verdict:
    """The verdict that follows from the numbers; the rules are in docs/memory.md."""
    kind = _kind(numbers)
    return Verdict(kind, _headline(kind, numbers), tuple(_evidence(numbers)), advise(kind, numbers))


def _kind(n: Numbers) -> Kind:
    if not n.finite:
        return "not finite"
    if n.growth > EXPLODES:
        return "explodes"
    beyond = n.lag is not None and n.lag > n.steps
    if n.horizon is None:
        return "too short" if beyond else "remembers"
    lag = n.known_lag
    if (lag is not None and n.horizon > lag) or (n.lag is None and n.reads_all):
        return "remembers"
    if n.lag is None and lag is not None:  # the answers rest on it, so it is not forgotten
        return "remembers" if _overlap(n) else "holds"
    # The state one step after the first is the earliest that two pasts can differ in.
    holds = n.held is not None and n.held >= _far(n) - 1
    return "holds" if holds and not beyond else "vanishes"


def _overlap(n: Numbers) -> bool:
    """Whether the horizon could be beyond the lag that was found, as far as intervals tell."""
    assert n.found is not None
    if n.interval is None or n.found.interval is None:
        return False
    return n.interval[1] is None or n.interval[1] > n.found.interval[0]


def _far(n: Numbers) -> int:
    """How far back the network should see: the task's lag, or all steps."""
    return n.steps if n.known_lag is None else min(n.known_lag, n.steps)


def _headline(kind: Kind, n: Numbers) -> str:
    if kind == "not finite":
        return "Weights or states are not finite: nothing can be measured."
    if n.horizon is None:
        horizon = f"Memory horizon: beyond the {count(n.steps, 'step')} seen"
    else:
        horizon = f"Memory horizon: {count(n.horizon, 'step')}{_between(n)}"
    directly = kind == "remembers" and n.lag is None and n.reads_all and n.horizon is not None
    task = ""
    if n.lag is not None:
        task = f"; the task's lag is {n.lag}"
    elif n.known_lag is not None:
        task = f"; the task's lag, found from the data, is {n.known_lag}"
    lag_is_known = n.known_lag is not None
    end = {
        "remembers": "The error reaches back far enough."
        if lag_is_known
        else f"The answer is read from {_READ[n.reads or 'last']}, "
        "and the error comes to each directly."
        if directly
        else "The error reaches back to the beginning.",
        "holds": "Gradients vanish, and what was read is held all the same, in stable states.",
        "vanishes": "Gradients vanish before they reach the lag."
        if lag_is_known
        else "Gradients vanish before they reach the beginning.",
        "explodes": "Gradients explode on the way back.",
        "too short": "Whether the error reaches so far cannot be told: the sequences are shorter "
        "than the lag.",
    }[kind]
    return f"{horizon}{task}. {end}"


def _between(n: Numbers) -> str:
    """The interval of the horizon, in brackets."""
    if n.interval is None or n.interval == (n.horizon, n.horizon):
        return ""
    low, high = (f"over {n.steps}" if end is None else f"{end:,}" for end in n.interval)
    return f" ({low} to {high})"


def _evidence(n: Numbers) -> Sequence[str]:
    if not n.finite:
        return []
    lines = [_decay(n), *_draw(n), *_lag(n)]
    if n.growth > EXPLODES:
        lines.append(f"on the way back the error grows {grown(n)}")
    if n.noise is not None:
        lines.append(
            f"from lag {n.noise} on it is below the rounding error: training cannot use it"
        )
    if len(n.by_layer) > 1:
        horizons = ", ".join(f"{name} {_horizon(h, n.steps)}" for name, h in n.by_layer.items())
        lines.append(f"horizon by layer: {horizons}")
    for name, facts in n.facts.items():
        lines += _theory(name if len(n.facts) > 1 else "", facts, n)
    if n.half is not None:
        lines.append(
            f"half of the gradient of the recurrent weights comes from the last "
            f"{count(n.half + 1, 'step')}"
        )
    far = _far(n)
    if n.carriers:
        lines.append(
            f"half of the squared error that is left at lag {far} lies in {n.carriers} of "
            f"{count(n.units, 'unit')}"
        )
    if n.held is not None:
        lines.append(
            f"exchanging the state with that of another sequence {count(n.held, 'step')} before "
            "the end still changes the output by a tenth or more of the distance between two "
            "outputs"
        )
    if n.exponent is not None:
        value, error = n.exponent
        means = "chaotic: nearby states diverge" if value > 0 else "nearby states converge"
        if abs(value) <= 2 * error:
            means = "near the edge of chaos"
        lines.append(f"the largest Lyapunov exponent is {value:+.3f} a step; {means}")
    if not n.of_loss:
        why = "no target was given, or none is due"
        if n.reads in SHARES:
            why = "how often units are above 0, or how far, passes no error back"
        lines.append(f"the error is a random one at the output: {why}")
    return lines


def _draw(n: Numbers) -> list[str]:
    """Over what the horizon is a median, and whether another draw could give another verdict."""
    if n.horizon is None or n.interval is None:
        return []
    low, high = n.interval
    said = (
        f"the horizon is the median over {n.sequences} sequences; over others like them it is "
        f"{_between(n).strip(' ()') or 'the same'} (with {LEVEL:.0%})"
    )
    if n.lag is not None and low is not None and low <= n.lag and (high is None or high > n.lag):
        said += "; the lag is between, so other sequences could give another verdict"
    return [said]


def _lag(n: Numbers) -> list[str]:
    """What is known of the lag of the task, where none was given."""
    if n.lag is not None:
        return []
    found = n.found
    if found is not None and found.lag is not None and found.interval is not None:
        low, high = found.interval
        between = f" ({low} to {high})" if low < high else ""
        if found.lag == found.lags[-1]:
            rests = "the answers rest on inputs as far back as the beginning"
        else:
            rests = f"the answers rest on inputs up to {found.lag}{between} steps back"
        return [
            f"{rests}: with those of another sequence in place of all the loss is "
            f"{found.exchanged:.3g}, of those further back {_loss_beyond(found):.3g}, of none "
            f"{found.own:.3g}; a longer lag than what was learnt would not show"
        ]
    if n.reads_all or n.horizon is None:
        return []
    given = "not given" if found is None else f"neither given nor found ({found.reason})"
    return [f"the task's lag was {given}: it is compared with all {n.steps} steps"]


def _loss_beyond(found: TaskLag) -> float:
    """The loss where only the inputs beyond the lag are exchanged."""
    assert found.lag is not None
    return float(found.losses[found.lags.index(found.lag)])


def _decay(n: Numbers) -> str:
    what = "the error of the last step" if n.of_loss else "a random error at the last step"
    if n.reads_all:
        what += f" (of {_READ[n.reads or 'last']})"
    if math.isnan(n.rate):
        seen = count(n.steps, "step")
        return f"{what} does not fall below {_percent(n)} of itself within {seen} back"
    lag = n.horizon if n.horizon is not None else n.steps
    return (
        f"{what} falls to {_percent(n)} within {count(lag, 'step')}, by a factor of "
        f"{math.exp(n.rate):.2f} a step"
    )


def _percent(n: Numbers) -> str:
    return f"{100 * n.fraction:.3g}%"


def _theory(name: str, facts: SpectralFacts, n: Numbers) -> list[str]:
    of = f"{name}: " if name else ""
    if facts.gamma is None or facts.step_bound is None:
        return [f"{of}no bound follows from the weights alone: {facts.reason}"]
    bound, critical = float(facts.step_bound), 1 / facts.gamma
    if len(facts.matrices) != 1 or not math.isfinite(bound):
        return []
    (matrix,) = facts.matrices.values()
    norm, radius = float(matrix.norm), float(matrix.radius)
    said = f"{of}||W|| = {norm:.2f}, spectral radius {radius:.2f}, 1/gamma = {critical:g}"
    if facts.vanishes:
        return [
            f"{said}: sufficient for vanishing; whatever the input, a step keeps no more than "
            f"{bound:.2f} of the influence of the past"
        ]
    if bound <= 1 + 1e-6:
        return [f"{said}: no step makes the influence of the past larger"]
    if not math.isnan(n.rate) and n.rate < 0 and radius < critical:
        return [f"{said}: the norm alone does not decide it, but the radius is small: W^k vanishes"]
    if not math.isnan(n.rate) and n.rate < 0:
        return [
            f"{said}: the weights alone do not decide it: the slopes of the activation take away "
            "what they amplify"
        ]
    return [f"{said}: the condition that is necessary for exploding holds"]


def _horizon(lag: int | None, steps: int) -> str:
    return f"over {steps}" if lag is None else str(lag)
