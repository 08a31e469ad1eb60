"""Layers for Keras 3 on its PyTorch backend; an import of this package imports Keras."""

import importlib

_HOW = (
    "set the environment variable KERAS_BACKEND=torch before Keras is first imported, or "
    '"backend": "torch" in ~/.keras/keras.json'
)


def _check_backend() -> None:
    """Keras is there, and runs on PyTorch."""
    try:
        keras = importlib.import_module("keras")
    except ModuleNotFoundError as error:
        if error.name == "keras":
            fix = 'install it with: pip install "longlag[keras]"'
            raise ModuleNotFoundError(
                f"longlag.keras: needs Keras 3; {fix}", name="keras"
            ) from None
        raise ImportError(
            f"longlag.keras: Keras cannot import its backend ({error}), expected the backend "
            f"torch; {_HOW}"
        ) from error
    if keras.backend.backend() != "torch":
        raise ImportError(
            f"longlag.keras: Keras runs on the backend {keras.backend.backend()!r}, expected "
            f"'torch'; {_HOW}"
        )


_check_backend()

from longlag.keras.declared import RNN, EchoState, Leaky  # noqa: E402
from longlag.keras.layers import GRU, LSTM, SimpleRNN  # noqa: E402
from longlag.keras.models import Model, Sequential  # noqa: E402

__all__ = ["GRU", "LSTM", "RNN", "EchoState", "Leaky", "Model", "Sequential", "SimpleRNN"]
