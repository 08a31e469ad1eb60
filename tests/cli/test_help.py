"""`--help`, `--version`, and how quickly they come."""

import dataclasses
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import longlag.cli
from longlag.cli.options import declared
from longlag.cli.parser import COMMANDS


def module(name):
    return importlib.import_module(f"longlag.cli.{name}")


def test_help_lists_the_commands(longlag):
    for words in (["--help"], []):
        shown = longlag(*words)
        assert shown.status == (0 if words else 2)
        for name in COMMANDS:
            assert re.search(rf"^    {name}(  |$)", shown.out, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_explains_every_option(longlag, name):
    shown = longlag(name, "--help")
    assert shown.status == 0
    text = " ".join(shown.out.split())
    for each in declared(module(name).Options):
        assert f"--{each.key}" in text
        assert "".join(each.full_help.split()) in "".join(text.split())  # lines break at hyphens
        assert len(each.help) >= 12
        if each.range is not None:
            assert each.range.text in each.full_help
        assert "default: " in each.full_help or "required" in each.full_help
    for flag in ("--config FILE", "--print_config", "--debug"):
        assert flag in text


@pytest.mark.parametrize("name", COMMANDS)
def test_printed_config_has_every_option_and_nothing_else(longlag, name):
    import yaml

    shown = longlag(name, "--print_config")
    assert shown.status == 0
    printed = yaml.safe_load(shown.out)
    fields = [field.name for field in dataclasses.fields(module(name).Options)]
    assert sorted(printed) == sorted([*fields, "debug"])


def test_version(longlag):
    import importlib.metadata

    shown = longlag("--version")
    assert shown.status == 0
    assert shown.out == f"longlag {importlib.metadata.version('longlag')}\n"


def test_an_unknown_command_is_refused(longlag):
    refused = longlag("trian")
    assert refused.status == 2
    assert "no command 'trian'" in refused.err
    assert "did you mean train?" in refused.err


def test_the_command_line_itself_loads_nothing_heavy():
    # The package around it may: a stand-in takes its place.
    folder = str(Path(longlag.cli.__file__).parents[1])
    code = f"""
import sys, types
package = types.ModuleType("longlag")
package.__path__, package.__version__ = [{folder!r}], "0"
sys.modules["longlag"] = package
from longlag.cli import main
for words in (["--help"], ["train", "--help"], ["predict", "--help"], ["--version"], ["train"]):
    main(words)
heavy = {{"torch", "numpy", "sympy", "rich", "matplotlib", "lightning_fabric"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "DATA is missing" in done.stderr
