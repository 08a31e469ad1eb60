"""Keras' models, whose ``fit`` trains by compiled steps where it can."""

import functools
from typing import Any

import keras

from longlag.keras.batches import hasten
from longlag.keras.step import TrainFunction


class _Compiled:
    step_used: str | None = None
    step_reason = ""

    @functools.wraps(keras.Model.fit)
    def fit(self: Any, *args: Any, **options: Any) -> Any:
        if self.train_function is not None:
            self.train_function.look()
        own: Any = super()
        return own.fit(*args, **options)

    def make_train_function(self: Any, force: bool = False) -> Any:
        """Keras' step behind a compiled one; Keras calls it before a training."""
        if force or self.train_function is None:
            own: Any = super()
            own.make_train_function(force)
            step: Any = self.train_function
            self.train_function = TrainFunction(self, step)
        return self.train_function

    def _symbolic_build(self: Any, iterator: Any = None, data_batch: Any = None) -> None:
        """Keras', which calls it before it reads data."""
        if iterator is not None:
            hasten(iterator)
        own: Any = super()
        own._symbolic_build(iterator=iterator, data_batch=data_batch)


@keras.saving.register_keras_serializable("longlag")
class Sequential(_Compiled, keras.Sequential):
    """``keras.Sequential`` whose ``fit`` makes each update in one compiled step, where it can.

    It can where the layers are ``SimpleRNN``, ``LSTM`` and ``GRU`` of ``longlag.keras`` and one
    ``Dense`` layer with its activation, the loss is a cross-entropy or a squared or absolute error,
    and the optimizer is RMSprop, Adam or SGD; docs/keras.md has the whole list. Batches, their
    order, callbacks, metrics, weights, the optimizer's variables and the numbers, to rounding, are
    those of Keras. What cannot be compiled is Keras' own step.

    Args:
        layers, trainable, name: as for ``keras.Sequential``.

    Attributes:
        step_used: ``"compiled"`` or ``"keras"``, of the latest update; None before the first.
        step_reason: why it was Keras' own; else "".

    Cost: of an update, that of :func:`longlag.fit` and a quarter of a millisecond.

    Example:
        >>> import keras, numpy as np
        >>> from longlag.keras import SimpleRNN
        >>> model = Sequential([
        ...     keras.Input((64, 15)), SimpleRNN(16), keras.layers.Dense(8, activation="softmax"),
        ... ])
        >>> model.compile("rmsprop", "categorical_crossentropy")
        >>> x, y = np.zeros((32, 64, 15), "float32"), np.eye(8, dtype="float32")[[0] * 32]
        >>> history = model.fit(x, y, verbose=0)
        >>> model.step_used
        'compiled'
    """


@keras.saving.register_keras_serializable("longlag")
class Model(_Compiled, keras.Model):
    """``keras.Model`` whose ``fit`` makes each update in one compiled step, where it can.

    As :class:`Sequential`, for ``Model(inputs, outputs)`` of layers each of which reads the one
    before. A subclass with a ``call``, ``train_step`` or ``compute_loss`` of its own is trained by
    Keras' own step.

    Args:
        inputs, outputs, name, further: as for ``keras.Model``.

    Attributes:
        step_used: ``"compiled"`` or ``"keras"``, of the latest update; None before the first.
        step_reason: why it was Keras' own; else "".

    Cost: that of :class:`Sequential`.

    Example:
        >>> import keras
        >>> from longlag.keras import LSTM
        >>> x = keras.Input((None, 3))
        >>> Model(x, keras.layers.Dense(2)(LSTM(4)(x))).count_params()
        138
    """
