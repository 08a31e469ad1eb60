"""Which versions longlag asks for, in the three places that say so."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no reader of TOML")

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def requirements():
    """All that pyproject.toml asks for, longlag's own extras apart."""
    texts = [*PROJECT["dependencies"], *(text for extra in EXTRAS.values() for text in extra)]
    return [Requirement(text) for text in texts if not text.startswith("longlag[")]


def pinned(name):
    """The lines of a constraints file: names with versions."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs), pairs
    return {canonicalize_name(distribution): version for distribution, version in pairs}


def test_the_lowest_versions_are_those_that_the_ranges_begin_with():
    lowest = {}
    for requirement in requirements():
        (bound,) = requirement.specifier
        assert bound.operator == ">=", f"{requirement}: a lowest version, and no highest"
        lowest[canonicalize_name(requirement.name)] = bound.version
    assert pinned("constraints-lowest.txt") == lowest


def test_the_pinned_versions_are_in_the_ranges():
    pins = pinned("constraints.txt")
    for requirement in requirements():
        version = pins.get(canonicalize_name(requirement.name))
        assert version is None or requirement.specifier.contains(version), requirement
    needed = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    assert needed <= pins.keys()


def test_hosted_ci_runs_every_python_that_is_promised():
    promised = {line.rsplit(" ", 1)[1] for line in PROJECT["classifiers"] if "Python :: 3." in line}
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert set(re.findall(r'"(3\.\d+)"', text)) == promised
    assert PROJECT["requires-python"] == ">=" + min(promised, key=lambda v: int(v[2:]))
