r"""
The Elman network: an answer at each step
=========================================

A recurrent network reads a sequence :math:`x_1 x_2 x_3 \dots` one element at a time and puts out a
sequence :math:`y_1 y_2 y_3 \dots`. Between two steps it keeps a *state* :math:`h_t`, which begins
as :math:`h_0` (here 0):

.. math::

   h_t = g_h(x_t, h_{t-1}), \qquad y_t = g_o(h_t).

Where the elements are vectors, both functions are ordinary dense layers, a linear map and a
nonlinearity for each element:

.. math::

   h_t = \sigma_h(U x_t + W h_{t-1} + b_h), \qquad y_t = \sigma_o(V h_t + b_v).

"Time" is no more than the index of the sequence. The same U, W, V serve at each step.
"""

import matplotlib.pyplot as plt
import torch

import longlag as ll

layer = ll.Elman(input_size=3, hidden_size=4, seed=0)  # U, W and b_h
x = torch.randn(1, 6, 3, generator=torch.Generator().manual_seed(0))  # (N, T, C)

# %%
# Unrolled
# --------
#
# Written out over time, the network is a deep one with T layers that share their weights. This is
# the loop; the layer makes the same numbers, by one compiled kernel for all steps.

h = torch.zeros(4)
for t in range(6):
    h = torch.tanh(layer.weight_ih @ x[0, t] + layer.weight_hh @ h + layer.bias)
output, state = layer(x)
print("loop  ", h.detach().numpy().round(4))
print("layer ", state.h[0].detach().numpy().round(4))

# %%
# Learning
# --------
#
# The data are n sequences of inputs and wanted outputs, all of length T,
#
# .. math::
#
#    S = \bigl\{ (x_t^{(i)}, y_t^{(i)})_{t=1}^T \bigr\}_{i=1}^n,
#
# and training looks for U, V and W that make the cost small, which is added up over steps and
# sequences:
#
# .. math::
#
#    J(\Theta) = \sum_{i=1}^n \sum_{t=1}^T E\bigl(f(x_t^{(i)}), y_t^{(i)}\bigr).
#
# An example with an answer at each step (*many-to-many*): two buttons are pressed at random times,
# and the network says at each step which one was pressed last. That cannot be read off the present
# input alone.

rng = torch.Generator().manual_seed(1)
pressed = torch.rand(500, 40, generator=rng) < 0.15
which = torch.where(torch.rand(500, 40, generator=rng) < 0.5, -1.0, 1.0)
buttons = (pressed * which).unsqueeze(-1)  # (N, T, 1): -1, 0 or 1
latest = torch.zeros(500)
target = torch.zeros(500, 40, dtype=torch.long)
for t in range(40):
    latest = torch.where(pressed[:, t], which[:, t], latest)
    target[:, t] = torch.where(latest == 0, -100, (latest > 0).long())  # -100: no answer is due

model = ll.SequenceModel(ll.Elman(1, 8, seed=0), output_size=2, reduce=None, seed=0)
history = ll.fit(
    model,
    (buttons[:400], target[:400]),
    optimizer=lambda weights: torch.optim.Adam(weights, lr=0.02),
    epochs=40,
    clip_norm=1.0,
    progress=False,
)
with torch.no_grad():
    probability = model(buttons[400:]).softmax(-1)
due = target[400:] >= 0
right = (probability.argmax(-1) == target[400:])[due].float().mean()
print(f"right on new sequences: {right:.1%} of the steps")

# %%
# Seen on one of the new sequences: what is read, the eight units, and the answer.

with torch.no_grad():
    units = model.layer(buttons[400:401])[0][0]
figure, (above, middle, below) = plt.subplots(3, sharex=True, figsize=(7, 5), layout="constrained")
above.stem(buttons[400, :, 0], basefmt="C7-")
above.set(ylabel="input x", yticks=[-1, 0, 1])
middle.imshow(units.T, aspect="auto", cmap="RdBu", vmin=-1, vmax=1)
middle.set(ylabel="unit of h")
below.plot(probability[0, :, 1], label="network")
below.step(
    range(40),
    torch.where(target[400] < 0, torch.nan, target[400]),
    "k:",
    where="mid",
    label="wanted",
)
below.set(xlabel="step t", ylabel="P(right button)")
below.legend()
plt.show()

# %%
# **What to take from it.** A recurrent network is a state that is updated by one dense layer,
# again and again. The state is its whole memory: here some units stay at one end until the other
# button is pressed. How the gradient of J is found is on :doc:`the next page <02_bptt>`.
