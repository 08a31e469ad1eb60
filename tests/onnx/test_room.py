"""What is imported when, and what is said where the extra is not installed."""

import subprocess
import sys

import pytest


def run(code):
    """A Python of its own: what it printed, or the last line of its error."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def test_only_longlag_onnx_imports_onnx():
    code = "import sys, longlag.training, longlag.cli; longlag.LSTM; print('onnx' in sys.modules)"
    assert run(code) == "False"


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_without_it_the_extra_is_named(missing):
    said = run(f"import sys, longlag; sys.modules[{missing!r}] = None; longlag.export_onnx")
    assert said == (
        f"ModuleNotFoundError: longlag.onnx: needs {missing}; "
        'install it with: pip install "longlag[onnx]"'
    )
