"""A report as JSON data."""

import math
from typing import Any

from torch import Tensor

from longlag.memory.measures.directions import by_direction
from longlag.memory.measures.flow import LayerFlow
from longlag.memory.measures.lyapunov import LyapunovSpectrum
from longlag.memory.measures.norms import JacobianNorms
from longlag.memory.measures.spectra import SpectralFacts
from longlag.memory.report.data import ReportData

VERSION = 1
"""Of the form; a change that old readers cannot take makes it one more."""


def json_data(report: ReportData) -> dict[str, Any]:
    """All numbers of a report; see :meth:`MemoryReport.to_dict`."""
    verdict, exchange, linear = report.verdict, report.exchange, report.states.linear
    found = report.task_lag
    advice = [_fields(one, "name", "text", "why", "code", "clip_norm") for one in verdict.advice]
    return plain({
        "version": VERSION,
        "name": report.name,
        "network": report.description,
        **_fields(report, "sequences", "steps", "lag", "fraction", "horizon"),
        "horizon_interval": report.horizon_interval,
        "task_lag": None if found is None else _fields(
            found, "lag", "interval", "reason", "lags", "losses", "own", "exchanged"
        ),
        "verdict": {**_fields(verdict, "kind", "headline", "evidence"), "advice": advice},
        "loss": report.flow.loss,
        "error_of_loss": report.of_loss,
        "error": [_flow(layer, report.fraction) for layer in report.flow.layers],
        "jacobian_norms": _by_direction(report.jacobian_norms, _norms),
        "weights": {name or "layer": _facts(facts) for name, facts in report.facts.items()},
        "lyapunov": None if report.lyapunov is None else _by_direction(report.lyapunov, _lyapunov),
        "exchange": None if exchange is None else _fields(exchange, "lags", "effects"),
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


def _fields(result: Any, *names: str) -> dict[str, Any]:
    """Some attributes of a result by their names."""
    return {name: getattr(result, name) for name in names}


def _by_direction(result: Any, form: Any) -> Any:
    forms = {name: form(one) for name, one in by_direction(result).items()}
    return forms.get("", forms)


def _flow(layer: LayerFlow, fraction: float) -> dict[str, Any]:
    return {
        "layer": layer.layer or "layer",
        "horizon": layer.over_sequences(fraction).median,
        "horizon_of_all": layer.horizon(fraction),
        "noise": layer.noise(),
        "by_lag": layer.by_lag,
        "unit_horizons": layer.unit_horizons(fraction),
        "shares": layer.shares(),
    }


def _norms(norms: JacobianNorms) -> dict[str, Any]:
    logs = {
        f"log_{name}": None if statistics is None else _fields(statistics, "mean", "quantiles")
        for name, statistics in _fields(norms, "largest", "frobenius", "smallest").items()
    }
    return {"method": norms.method, "chains": norms.ends.shape[-1], "lags": norms.lags, **logs}


def _facts(facts: SpectralFacts) -> dict[str, Any]:
    return {
        "matrices": {gate: matrix._asdict() for gate, matrix in facts.matrices.items()},
        **_fields(facts, "gamma", "step_bound", "vanishes"),
        "no_bound_because": facts.reason or None,
    }


def _lyapunov(spectrum: LyapunovSpectrum) -> dict[str, Any]:
    return _fields(spectrum, "exponents", "error", "kaplan_yorke", "steps")
