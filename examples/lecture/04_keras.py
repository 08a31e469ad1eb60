r"""
The two notebooks in Keras
==========================

The same two networks as a program in Keras: one answer for a sequence, and one answer at each
step. The layer here is ``longlag.keras.SimpleRNN``, which has the arguments, weights and names of
Keras' own layer and runs as one compiled kernel; :doc:`/keras` says more. ``pip install
"longlag[keras]"`` brings Keras.
"""

import os

os.environ["KERAS_BACKEND"] = "torch"  # before Keras is imported

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras.layers import Activation, Dense, Input
from keras.models import Sequential

import longlag as ll
from longlag.keras import SimpleRNN  # in place of keras.layers

keras.utils.set_random_seed(0)

InputDim = 15
MaxSeqLen = 64
HiddenSize = 16
OutputSize = 8
n_samples = 1000

# %%
# Many-to-one
# -----------
#
# ``return_sequences=False``: the layer puts out its last state alone.

model = Sequential()
model.add(Input((MaxSeqLen, InputDim)))
model.add(SimpleRNN(HiddenSize, return_sequences=False))
model.add(Dense(OutputSize))
model.add(Activation("softmax"))
model.compile(loss="categorical_crossentropy", optimizer="rmsprop")
model.summary(line_length=70)

# %%
# Where the numbers come from: U has 16 x 15, W has 16 x 16, the bias 16, together 512; the dense
# layer 8 x 16 and 8, together 136. In all 648.

# %%
# Many-to-many
# ------------
#
# ``return_sequences=True``: the layer puts out every state, and the dense layer is applied to
# each. There are as many weights, since they are the same at each step.

tagger = Sequential()
tagger.add(Input((MaxSeqLen, InputDim)))
tagger.add(SimpleRNN(HiddenSize, return_sequences=True))
tagger.add(Dense(OutputSize))
tagger.add(Activation("softmax"))
tagger.compile(loss="categorical_crossentropy", optimizer="rmsprop")
tagger.summary(line_length=70)

# %%
# Trained
# -------
#
# The notebooks stop here. Some data to train on: sequences of 15 symbols, one at a time; the
# answer at each step is the symbol, of the first 8, that came last.

symbols = np.random.default_rng(0).integers(0, InputDim, (n_samples, MaxSeqLen))
symbols[:, 0] %= OutputSize
latest = symbols.copy()
for step in range(1, MaxSeqLen):
    later = latest[:, step] >= OutputSize
    latest[later, step] = latest[later, step - 1]
x, y = np.eye(InputDim, dtype="float32")[symbols], np.eye(OutputSize)[latest]

tagger.fit(x, y, batch_size=32, epochs=6, verbose=0)
probability = tagger.predict(x[:1], verbose=0)[0]

figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
image = axes.imshow(probability.T, aspect="auto", cmap="Greys", vmin=0, vmax=1)
axes.plot(latest[0], "C1.", label="wanted")
axes.set(xlabel="step", ylabel="class")
axes.legend(loc="upper right")
figure.colorbar(image, label="probability")
plt.show()

# %%
# The same in longlag
# -------------------

print(ll.SequenceModel(ll.Elman(InputDim, HiddenSize), OutputSize, reduce="last").summary())

# %%
# **What to take from it.** Many-to-one and many-to-many differ in what is read of the states, not
# in the network. The number of weights does not depend on the length of the sequences.
