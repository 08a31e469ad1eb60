r"""
LSTM and GRU: gates
===================

The last remedy of the course keeps a memory whose Jacobian is near 1 *where the network wants it
to be*. In an LSTM it is a state c of its own, a carousel on which the error goes round unchanged:

.. math::

   \begin{aligned}
   i_t, f_t, o_t &= \operatorname{sigmoid}(U_\cdot x_t + W_\cdot h_{t-1} + b_\cdot) \\
   c_t &= f_t \odot c_{t-1} + i_t \odot \tanh(U_g x_t + W_g h_{t-1} + b_g) \\
   h_t &= o_t \odot \tanh(c_t),
   \end{aligned}
   \qquad
   \frac{\partial c_t}{\partial c_{t-1}} = \operatorname{diag}(f_t).

Leaky units have one leak for good; here the forget gate f is a leak that the network sets anew at
every step, and the input gate i says what gets in. A GRU has one state, and a gate z that is both:

.. math::

   h_t = (1 - z_t) \odot n_t + z_t \odot h_{t-1}, \qquad
   n_t = \tanh\bigl(U_n x_t + r_t \odot (W_n h_{t-1} + c_n) + b_n\bigr).
"""

import matplotlib.pyplot as plt
import torch

import longlag as ll
from longlag import memory

print(ll.cells.LSTM().latex("jacobian"))

# %%
# A bias is worth a hundred steps
# -------------------------------
#
# With f = 1 - 1/k the memory lasts for about k steps. An LSTM usually begins with a bias of 1 in
# the forget gate: f = 0.73, so that a third is left after four steps. *Chrono* initialisation
# (Tallec and Ollivier 2018) spreads the biases so that k goes up to the lag of the task. The error
# of the last step on its way back, as the networks are drawn:

task = ll.tasks.Adding(length=100)
batch = task.test_batch(32, seed=0, index=0)
x, target = torch.from_numpy(batch.x), torch.from_numpy(batch.target)
layers = {
    "Elman": ll.Elman(task.input_size, 32, seed=0),
    "LSTM, forget bias 1": ll.LSTM(task.input_size, 32, seed=0),
    "LSTM, chrono": ll.LSTM(task.input_size, 32, bias_init=ll.init.Chrono(100), seed=0),
    "GRU, chrono": ll.GRU(task.input_size, 32, bias_init=ll.init.Chrono(100), seed=0),
}
models, arrived, curves = {}, {}, {}
for name, layer in layers.items():
    model = ll.SequenceModel(layer, task.output_size, reduce=task.reduce, seed=0)
    flow = memory.error_flow(model, x, target, ll.training.mse).layers[0]
    models[name] = model
    arrived[name] = (flow.by_lag[:100] / flow.by_lag[0]).clamp(min=1e-12)
    print(f"{name:20} after 99 steps {arrived[name][99]:.1e} of the error is left")

# %%
# Trained
# -------
#
# Adding: of 100 random numbers two are marked, and their sum is to be said at the end. Knowing
# nothing costs 0.167.

for name, model in models.items():
    history = ll.fit(
        model,
        task.stream(16, seed=0),
        optimizer=lambda weights: torch.optim.Adam(weights, lr=0.01),
        steps=350,
        validate_every=10,
        clip_norm=1.0,
        progress=False,
    )
    curves[name] = [(16 * record.step, record.loss) for record in history.records]
    sequences, loss = curves[name][-1]
    print(f"{name:20} {loss:.4f} after {sequences:,} sequences")

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
for name in models:
    left.semilogy(arrived[name], label=name)
    right.semilogy(*zip(*curves[name], strict=True), label=name)
left.set(xlabel="steps back", ylabel=r"$\Vert \partial E / \partial s \Vert$, of that at lag 0")
left.legend(fontsize=8)
right.axhline(0.167, color="k", linestyle=":")
right.set(xlabel="sequences", ylabel="mean squared error")
right.legend(fontsize=8)
plt.show()

# %%
# **What to take from it.** An LSTM or a GRU, with biases for the lag of the task, is what to begin
# with where lags are long. The gates alone are not enough: the same LSTM with the usual bias
# begins by forgetting. ``ll.memory_report`` measures how far back any network remembers
# (:doc:`/memory`), and :doc:`/choosing` says when to take something else.
