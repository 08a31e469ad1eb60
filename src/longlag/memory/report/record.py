"""A report as JSON data."""

import math
from typing import TYPE_CHECKING, Any

from torch import Tensor

from longlag.memory.measures.directions import by_way
from longlag.memory.measures.flow import LayerFlow
from longlag.memory.measures.lyapunov import LyapunovSpectrum
from longlag.memory.measures.norms import JacobianNorms, LogStatistics
from longlag.memory.measures.spectra import SpectralFacts

if TYPE_CHECKING:
    from longlag.memory.report.report import MemoryReport

__all__ = ["VERSION", "numbers", "plain", "record"]

VERSION = 1
"""Of the form; a change that old readers cannot take makes it one more."""


def record(report: "MemoryReport") -> dict[str, Any]:
    """All numbers of a report; see :meth:`MemoryReport.to_dict`."""
    verdict = report.verdict
    return {
        "version": VERSION,
        "name": report.name,
        "network": report.description,
        "sequences": report.sequences,
        "steps": report.steps,
        "lag": report.lag,
        "fraction": report.fraction,
        "horizon": report.horizon,
        "verdict": {
            "kind": verdict.kind,
            "headline": verdict.headline,
            "evidence": list(verdict.evidence),
            "advice": [
                {"name": each.name, "text": each.text, "why": each.why, "code": each.code,
                 "clip_norm": each.clip_norm}
                for each in verdict.advice
            ],
        },
        "loss": numbers(report.flow.loss),
        "error_of_loss": report.of_loss,
        "error": [_flow(each, report.fraction) for each in report.flow.layers],
        "jacobian_norms": _each_way(report.jacobian_norms, _norms),
        "weights": {name or "layer": _facts(facts) for name, facts in report.facts.items()},
        "lyapunov": _each_way(report.lyapunov, _lyapunov),
        "exchange": None if report.exchange is None
        else {"lags": list(report.exchange.lags), "effects": numbers(report.exchange.effects)},
        "state_norms": {
            "median": numbers(report.states.norms.nanmedian(-2).values),
            "median_without_squashing": None if report.states.linear is None
            else numbers(report.states.linear.nanmedian(-2).values),
        },
    }  # fmt: skip


def numbers(values: Tensor) -> Any:
    """Nested lists of a tensor; None for what is infinite or not a number."""
    return plain(values.tolist())


def plain(tree: Any) -> Any:
    """A tree of dicts, lists, tuples and numbers as JSON data; None for what is not finite."""
    if isinstance(tree, dict):
        return {key: plain(each) for key, each in tree.items()}
    if isinstance(tree, list | tuple):
        return [plain(each) for each in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _each_way(found: Any, one: Any) -> Any:
    if found is None:
        return None
    each_way = {way: one(each) for way, each in by_way(found).items()}
    return each_way.get("", each_way)


def _flow(each: LayerFlow, fraction: float) -> dict[str, Any]:
    assert each.by_lag is not None
    return {
        "layer": each.layer or "layer",
        "horizon": each.horizon(fraction),
        "noise": each.noise(),
        "by_lag": numbers(each.by_lag.double()),
        "unit_horizons": numbers(each.unit_horizons(fraction)),
        "shares": {name: numbers(share.double()) for name, share in each.shares().items()},
    }


def _statistics(found: LogStatistics) -> dict[str, Any]:
    return {"mean": numbers(found.mean), "quantiles": numbers(found.quantiles)}


def _norms(found: JacobianNorms) -> dict[str, Any]:
    return {
        "method": found.method,
        "chains": found.ends.shape[-1],
        "lags": found.lags.tolist(),
        "log_largest": _statistics(found.largest),
        "log_frobenius": _statistics(found.frobenius),
        "log_smallest": None if found.smallest is None else _statistics(found.smallest),
    }


def _facts(found: SpectralFacts) -> dict[str, Any]:
    return {
        "matrices": {
            gate: {"norm": numbers(each.norm), "smallest": numbers(each.smallest),
                   "radius": numbers(each.radius)}
            for gate, each in found.matrices.items()
        },
        "gamma": found.gamma,
        "step_bound": None if found.step_bound is None else numbers(found.step_bound),
        "vanishes": None if found.vanishes is None else bool(found.vanishes),
        "no_bound_because": found.reason or None,
    }  # fmt: skip


def _lyapunov(found: LyapunovSpectrum) -> dict[str, Any]:
    return {
        "exponents": numbers(found.exponents),
        "error": numbers(found.error),
        "kaplan_yorke": numbers(found.kaplan_yorke),
        "steps": found.steps,
    }
