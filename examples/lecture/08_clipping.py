r"""
Clipping, and a regulariser
===========================

Two remedies of Pascanu, Mikolov and Bengio (2013) that leave the network as it is.

**Clipping**, against explosion: a gradient g that is longer than c is shortened, and keeps its
direction,

.. math::

   g \leftarrow g \cdot \min\bigl(1,\; c / \lVert g \rVert\bigr).

**The regulariser**, against vanishing: it asks that the error keeps its size from step to step *in
the direction in which it goes*,

.. math::

   \Omega = \sum_k \left( \frac{\left\lVert \frac{\partial E}{\partial h_{k+1}}
   \frac{\partial h_{k+1}}{\partial h_k} \right\rVert}
   {\left\lVert \frac{\partial E}{\partial h_{k+1}} \right\rVert} - 1 \right)^2 ,

and its gradient is added to that of the loss. Both need nothing but vectors times Jacobians.
"""

import matplotlib.pyplot as plt
import torch

import longlag as ll
from longlag import memory

task = ll.tasks.LongLagRandom(delay=50, at_end=True)
C, D = task.input_size, task.output_size

# %%
# Clipping
# --------
#
# An Elman network whose W begins with the spectral radius 3, trained by plain gradient descent,
# without clipping and with it. A loop of one's own shows the norm of the gradient before each
# update.

norms = {}
for c in (float("inf"), 1.0):
    model = ll.SequenceModel(
        ll.Elman(C, 32, weight_hh_init=ll.init.SpectralRadius(3.0), seed=0), D, reduce=None, seed=0
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    norms[c] = []
    for index in range(100):
        batch = task.batch(8, seed=0, index=index)
        x, target = torch.from_numpy(batch.x), torch.from_numpy(batch.target)
        optimizer.zero_grad()
        ll.training.mse(model(x), target).backward()
        norms[c].append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), c)))
        optimizer.step()
    print(f"clipped at {c}: largest norm {max(norms[c]):.3g}, median {sorted(norms[c])[50]:.3g}")

# %%
# In ``ll.fit`` it is the argument ``clip_norm=1.0``. Norms that go over many orders of magnitude
# are the sign of an exploding gradient: one such update without clipping can undo all that was
# learned.

# %%
# The regulariser
# ---------------
#
# ``ll.Omega`` is a gradient method like BPTT. The error of the last step, by how far back it has
# come, of two networks after the same 150 updates:

task = ll.tasks.LongLagRandom(delay=20, at_end=True)  # a shorter lag
C, D = task.input_size, task.output_size
batch = task.test_batch(32, seed=0, index=0)
x, target = torch.from_numpy(batch.x), torch.from_numpy(batch.target)
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
for c, values in norms.items():
    left.semilogy(values, label="as it comes" if c > 1 else "clipped at 1")
left.set(xlabel="update", ylabel="norm of the gradient, before clipping")
left.legend()

for name, method in (("BPTT", ll.BPTT()), ("BPTT + Omega", ll.Omega(weight=1.0))):
    model = ll.SequenceModel(ll.Elman(C, 32, seed=0), D, reduce=None, seed=0)
    ll.fit(model, task.stream(8), method=method, steps=150, clip_norm=1.0, progress=False)
    flow = memory.error_flow(model, x, target, ll.training.mse).layers[0]
    omega = float(ll.Omega(1.0).value(model, x, target, ll.training.mse))
    right.semilogy(flow.by_lag / flow.by_lag[0], label=name)
    arrived = flow.by_lag[19] / flow.by_lag[0]
    print(f"{name:13} Omega = {omega:.3g}; error left after 19 steps: {arrived:.2g}")
right.axhline(1, color="k", linewidth=0.5)
right.set(xlabel="steps back", ylabel=r"$\Vert \partial E / \partial h \Vert$, of that at lag 0")
right.legend()
plt.show()

# %%
# **What to take from it.** Clip always: it costs nothing. The regulariser does what it says, the
# error arrives; yet a gradient that arrives is not a task that is learned. In a comparison over
# six tasks it helped an Elman network in one trial of five on one of them (:doc:`/choosing`).
# Change the cell first.
