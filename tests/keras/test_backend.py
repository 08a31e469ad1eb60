"""What is imported when, and what is said where Keras does not run on PyTorch."""

import os
import subprocess
import sys

import pytest


def run(code, **environment):
    """A Python of its own: what it printed, or the last line of its error."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def test_only_longlag_keras_imports_keras():
    code = "import sys, longlag.training, longlag.cli; longlag.LSTM; print('keras' in sys.modules)"
    assert run(code) == "False"


def test_another_backend_is_refused_with_what_to_set():
    said = run("import longlag.keras", KERAS_BACKEND="tensorflow")  # which is not installed
    assert said.startswith("ImportError: longlag.keras: Keras cannot import its backend")
    assert "tensorflow" in said
    assert "KERAS_BACKEND=torch" in said
    other = """
import sys, types
keras = sys.modules["keras"] = types.ModuleType("keras")  # a Keras that runs on JAX
keras.backend = types.SimpleNamespace(backend=lambda: "jax")
import longlag.keras
"""
    said = run(other)
    assert said.startswith("ImportError: longlag.keras: Keras runs on the backend 'jax'")
    assert "KERAS_BACKEND=torch" in said


def test_without_keras_the_extra_is_named():
    code = "import sys; sys.modules['keras'] = None; import longlag.keras"
    assert 'pip install "longlag[keras]"' in run(code)


@pytest.mark.long
def test_a_compiled_call_gives_the_same():
    code = """
import keras, torch
import longlag.keras as lk
x, mask = torch.randn(4, 7, 3), torch.rand(4, 7) < 0.5
def compiled(layer):
    layer(x)
    return torch.compile(lambda *given: layer(*given), backend="eager", fullgraph=True)
try:
    compiled(keras.layers.GRU(5))(x)
except torch._dynamo.exc.TorchDynamoException:  # Keras 3.12 with newer versions of PyTorch
    raise SystemExit(print("no layer of this Keras can be compiled"))
layer = lk.GRU(5, return_sequences=True)
found = compiled(lambda *given: layer(x, mask=mask))(x, mask)
torch.testing.assert_close(found, layer(x, mask=mask))
print("same")
"""
    said = run(code)
    if said.startswith("no layer"):
        pytest.skip(said)
    assert said == "same"
