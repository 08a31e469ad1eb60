r"""
Several time scales: leaky units
================================

Units that recur linearly, each by itself:

.. math::

   h_t = (1 - \alpha)\, h_{t-1} + \alpha\, \sigma_h(U x_t + b).

Each keeps a moving average of its past activations. Unrolled,

.. math::

   h_t = \alpha \sum_{k \ge 0} (1 - \alpha)^k\, \sigma_h(U x_{t-k} + b),

so what was read k steps ago counts :math:`(1-\alpha)^k \approx e^{-\alpha k}`: the unit remembers
about :math:`1/\alpha` steps. Near 0 it forgets slowly, near 1 at once. It is a skip connection
made continuous: the past comes in from all distances, and :math:`\alpha` says from which most. The
Jacobian is the number :math:`1 - \alpha` itself, with no matrix and no slope in it.
"""

import matplotlib.pyplot as plt
import torch

import longlag as ll

print(ll.cells.Leaky(recurrent=False).latex("update"))

# %%
# A pulse, and what is left of it
# -------------------------------

leaks = (0.5, 0.1, 0.02, 0.005)
layer = ll.Leaky(1, 4, leak=leaks, recurrent=False, bias=False, seed=0)
with torch.no_grad():
    layer.weight_ih.fill_(3.0)
    pulse = torch.zeros(1, 200, 1)
    pulse[0, 0] = 1.0
    left_of_it = layer(pulse)[0][0]
    left_of_it = left_of_it / left_of_it[0]
for a, unit in zip(leaks, left_of_it.T, strict=True):
    third = int((unit > 1 / torch.e).sum())
    print(f"leak {a:5}: a third is left after {third} steps, 1/a = {1 / a:.0f}")

# %%
# Time constants that are learned
# -------------------------------
#
# Eight such units with leaks of 0.3, which training may change. The wanted output is a slow
# average of a noisy signal, with a time constant of 50 steps.

rng = torch.Generator().manual_seed(0)
signal = torch.randn(64, 300, 1, generator=rng)
target = torch.zeros_like(signal)
for t in range(1, 300):
    target[:, t] = 0.98 * target[:, t - 1] + 0.02 * signal[:, t]
target = target / target.std()

model = ll.SequenceModel(
    ll.Leaky(1, 8, leak=0.3, train_leak=True, recurrent=False, seed=0), 1, reduce=None, seed=0
)
before = model.layer.unit("leak").detach().clone()
history = ll.fit(
    model,
    (signal, target),
    optimizer=lambda weights: torch.optim.Adam(weights, lr=0.05),
    epochs=80,
    clip_norm=1.0,
    progress=False,
)
after = model.layer.unit("leak").detach()
print(f"loss {history.records[0].loss:.3f} to {history.records[-1].loss:.3f}")
print("time constants before:", (1 / before).numpy().round(1))
print("and after:            ", (1 / after).sort().values.numpy().round(1))

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
for a, unit in zip(leaks, left_of_it.T, strict=True):
    left.plot(unit, label=rf"$\alpha$ = {a}")
left.axhline(1 / torch.e, color="k", linestyle=":")
left.set(xlabel="steps after a pulse", ylabel="what is left of it")
left.legend()
with torch.no_grad():
    right.plot(model(signal[:1])[0, :, 0], label="network")
right.plot(target[0, :, 0], "k:", label="wanted")
right.set(xlabel="step", ylabel="slow average")
right.legend()
plt.show()

# %%
# **What to take from it.** Spread the leaks over the time scales of the task: ``ll.Leaky(...,
# time_scales=(2, T))`` does it on a logarithmic scale. With that, leaky units solve five of six
# tasks of long lags at a quarter of an LSTM's weights (:doc:`/choosing`). What they cannot do is
# to *choose*: a number that must be kept whole fades like all others.
