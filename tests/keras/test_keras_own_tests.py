"""Keras' own tests of its layers, on ours: they come with Keras."""

import types
import unittest

import keras
import pytest

import longlag.keras as ours

OURS = types.SimpleNamespace(
    **{**vars(keras.layers), **{name: getattr(ours, name) for name in ("SimpleRNN", "LSTM", "GRU")}}
)
FILES = ("simple_rnn_test", "lstm_test", "gru_test", "bidirectional_test", "time_distributed_test")
VALUES = ("correctness", "statefulness", "initial_state", "return_state", "masking")
"""What the names of those have in common that compare with kept numbers."""


def run(name, monkeypatch, wanted):
    """Run the tests of a file whose names `wanted` takes."""
    file = pytest.importorskip(f"keras.src.layers.rnn.{name}", reason="Keras without its tests")
    monkeypatch.setattr(file, "layers", OURS)
    suite = unittest.TestSuite()
    for kind in vars(file).values():
        if getattr(kind, "__module__", None) != file.__name__:
            continue
        for test in unittest.defaultTestLoader.loadTestsFromTestCase(kind):
            if wanted(test.id().rsplit(".", 1)[1]):
                suite.addTest(test)
    result = unittest.TestResult()
    suite.run(result)
    assert not result.errors + result.failures, (result.errors + result.failures)[0][1]
    assert result.testsRun


@pytest.mark.parametrize("name", FILES[:3])
def test_the_values_of_keras_own_tests(name, monkeypatch):
    run(name, monkeypatch, lambda test: any(value in test for value in VALUES))


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", FILES)
def test_all_of_keras_own_tests(name, monkeypatch):
    run(name, monkeypatch, lambda test: "symbolic_batch_size" not in test)  # of TensorFlow
