"""The lecture's many-to-many network in Keras, with its imports changed: an answer at each step.

    python examples/keras_many_to_many.py

Made data: sequences of 64 steps of 15 symbols, one at a time; the answer at each step is the
symbol, of the first 8, that came last.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")  # or in the shell: export KERAS_BACKEND=torch

import numpy as np
from keras.layers import Activation, Dense, Input

from longlag.keras import Sequential, SimpleRNN  # in place of keras.models and keras.layers

InputDim = 15
MaxSeqLen = 64
HiddenSize = 16
OutputSize = 8
n_samples = 1000


def data():
    """One-hot sequences (N, T, C) and one-hot answers (N, T, 8)."""
    symbols = np.random.default_rng(0).integers(0, InputDim, (n_samples, MaxSeqLen))
    symbols[:, 0] %= OutputSize  # there is an answer
    latest = symbols.copy()
    for step in range(1, MaxSeqLen):
        later = latest[:, step] >= OutputSize
        latest[later, step] = latest[later, step - 1]
    return np.eye(InputDim, dtype="float32")[symbols], np.eye(OutputSize)[latest]


def main(epochs=20):
    model = Sequential()
    model.add(Input((MaxSeqLen, InputDim)))
    model.add(SimpleRNN(HiddenSize, return_sequences=True))
    model.add(Dense(OutputSize))
    model.add(Activation("softmax"))
    model.compile(loss="categorical_crossentropy", optimizer="rmsprop", metrics=["accuracy"])
    model.summary()
    model.fit(*data(), batch_size=32, epochs=epochs, verbose=2)


if __name__ == "__main__":
    main()
