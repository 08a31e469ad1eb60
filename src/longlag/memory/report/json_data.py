"""A report as JSON data."""

import math
from typing import Any

from torch import Tensor

from longlag.memory.measures.directions import by_direction
from longlag.memory.measures.flow import LayerFlow
from longlag.memory.measures.lyapunov import LyapunovSpectrum
from longlag.memory.measures.norms import JacobianNorms, LogStatistics
from longlag.memory.measures.spectra import SpectralFacts
from longlag.memory.report.data import ReportData

VERSION = 1
"""Of the form; a change that old readers cannot take makes it one more."""


def json_data(report: ReportData) -> dict[str, Any]:
    """All numbers of a report; see :meth:`MemoryReport.to_dict`."""
    verdict, exchange, linear = report.verdict, report.exchange, report.states.linear
    return plain({
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
            "evidence": verdict.evidence,
            "advice": [
                {"name": advice.name, "text": advice.text, "why": advice.why, "code": advice.code,
                 "clip_norm": advice.clip_norm}
                for advice in verdict.advice
            ],
        },
        "loss": report.flow.loss,
        "error_of_loss": report.of_loss,
        "error": [_flow(layer, report.fraction) for layer in report.flow.layers],
        "jacobian_norms": _by_direction(report.jacobian_norms, _norms),
        "weights": {name or "layer": _facts(facts) for name, facts in report.facts.items()},
        "lyapunov": None if report.lyapunov is None else _by_direction(report.lyapunov, _lyapunov),
        "exchange": None if exchange is None
        else {"lags": exchange.lags, "effects": exchange.effects},
        "state_norms": {
            "median": report.states.norms.nanmedian(-2).values,
            "median_without_squashing": None if linear is None else linear.nanmedian(-2).values,
        },
    })  # fmt: skip


def plain(tree: Any) -> Any:
    """A tree of dicts, lists, tuples, numbers and tensors as JSON data; None for not finite."""
    if isinstance(tree, dict):
        return {key: plain(part) for key, part in tree.items()}
    if isinstance(tree, list | tuple):
        return [plain(part) for part in tree]
    if isinstance(tree, Tensor):
        return plain(tree.tolist())
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def _by_direction(result: Any, form: Any) -> Any:
    forms = {name: form(one) for name, one in by_direction(result).items()}
    return forms.get("", forms)


def _flow(layer: LayerFlow, fraction: float) -> dict[str, Any]:
    return {
        "layer": layer.layer or "layer",
        "horizon": layer.horizon(fraction),
        "noise": layer.noise(),
        "by_lag": layer.by_lag,
        "unit_horizons": layer.unit_horizons(fraction),
        "shares": layer.shares(),
    }


def _norms(norms: JacobianNorms) -> dict[str, Any]:
    return {
        "method": norms.method,
        "chains": norms.ends.shape[-1],
        "lags": norms.lags,
        "log_largest": _statistics(norms.largest),
        "log_frobenius": _statistics(norms.frobenius),
        "log_smallest": None if norms.smallest is None else _statistics(norms.smallest),
    }


def _statistics(logs: LogStatistics) -> dict[str, Any]:
    return {"mean": logs.mean, "quantiles": logs.quantiles}


def _facts(facts: SpectralFacts) -> dict[str, Any]:
    return {
        "matrices": {gate: matrix._asdict() for gate, matrix in facts.matrices.items()},
        "gamma": facts.gamma,
        "step_bound": facts.step_bound,
        "vanishes": facts.vanishes,
        "no_bound_because": facts.reason or None,
    }


def _lyapunov(spectrum: LyapunovSpectrum) -> dict[str, Any]:
    return {
        "exponents": spectrum.exponents,
        "error": spectrum.error,
        "kaplan_yorke": spectrum.kaplan_yorke,
        "steps": spectrum.steps,
    }
