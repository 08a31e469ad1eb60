r"""
Truncated back-propagation through time
=======================================

Back-propagation waits for the end of the sequence. The truncated form goes back early and not far:
after every :math:`k_1` steps, over the last :math:`k_2` steps,

.. math::

   \frac{\partial E_t}{\partial W} \approx \sum_{s = t - k_2 + 1}^{t}
   \frac{\partial E_t}{\partial h_t} \frac{\partial h_t}{\partial h_s}
   \frac{\partial h_s}{\partial W}.

The *state* is carried on all the same; only the gradient is cut. Memory and the wait for an update
no longer grow with the length of the sequence, so that a stream without end can be learned from.
Rather than solving the problem of long dependencies it avoids them.
"""

import matplotlib.pyplot as plt
import torch

import longlag as ll

# %%
# What is cut off
# ---------------
#
# The cosine of the angle between the truncated gradient and the exact one; at :math:`k_2 \ge T`
# they are the same, bit for bit.

rng = torch.Generator().manual_seed(0)
signs = torch.where(torch.rand(32, 100, 1, generator=rng) < 0.5, -1.0, 1.0)
model = ll.SequenceModel(ll.Elman(1, 32, seed=0), 1, reduce=None, seed=0)
target = torch.full((32, 100, 1), torch.nan)  # NaN: no error is due
target[:, 10:] = signs[:, :-10]  # what was read 10 steps before

exact = ll.BPTT().gradients(model, signs, target, ll.training.mse)["layer.weight_hh"]
lengths = (1, 2, 5, 10, 20, 50, 100)
cosines = []
for k2 in lengths:
    method = ll.TruncatedBPTT(k1=1, k2=k2)
    found = method.gradients(model, signs, target, ll.training.mse)["layer.weight_hh"]
    cosines.append(float(torch.cosine_similarity(exact.flatten(), found.flatten(), dim=0)))
    print(f"k2 = {k2:3}: cosine {cosines[-1]:.3f}")
assert torch.equal(exact, found)

# %%
# What is not learned
# -------------------
#
# The same task, trained by windows of several lengths: to say what was read 10 steps before.

losses = {}
for k2 in (5, 10, 20):
    model = ll.SequenceModel(ll.Elman(1, 32, seed=0), 1, reduce=None, seed=0)
    history = ll.fit(
        model,
        (signs, target),
        method=ll.TruncatedBPTT(k1=5, k2=k2),
        optimizer=lambda weights: torch.optim.Adam(weights, lr=0.003),
        epochs=20,
        clip_norm=1.0,
        progress=False,
    )
    losses[k2] = [record.loss for record in history.records]
    print(
        f"k1 = 5, k2 = {k2:2}: loss {losses[k2][-1]:.3f} after {history.records[-1].step} updates"
    )

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
left.semilogx(lengths, cosines, "o-")
left.axvline(11, color="k", linestyle=":", label="the lag is reached")
left.set(xlabel="k2, steps back", ylabel="cosine with the exact gradient", ylim=(0, 1.05))
left.legend()
for k2, values in losses.items():
    right.plot(values, label=f"k2 = {k2}")
right.axhline(1, color="k", linestyle=":", label="a guess")
right.set(xlabel="epoch", ylabel="loss")
right.legend()
plt.show()

# %%
# **What to take from it.** :math:`k_2` has to be longer than the lag. It is the tool for streams,
# with ``ll.Streams`` and the state carried on (:doc:`/gradients`); where all states fit into
# memory, take plain BPTT, and where they do not, ``ll.CheckpointedBPTT``, which is exact.
