r"""
Several time scales: skip connections
=====================================

In a plain recurrent network every connection goes from t to t + 1: there is one time scale. The
idea common to many ways around the vanishing gradient is to work on *several time scales at once*.
The simplest is a connection that skips steps, here back by d as well as by 1:

.. math::

   h_t = \sigma_h\bigl(U x_t + W^{(1)} h_{t-1} + W^{(d)} h_{t-d} + b\bigr).

An error of t that goes back to s can take the long edges: it meets about :math:`(t - s) / d`
factors in place of :math:`t - s`.
"""

import matplotlib.pyplot as plt
import torch

import longlag as ll

print(ll.cells.Skip((1, 10)).latex("update"))

# %%
# How far does the input reach?
# -----------------------------
#
# The gradient of the last output by the input of each step, of two networks as they are drawn,
# both with weights that are a little too small: W has the norm 0.8, or two of 0.4.

rng = torch.Generator().manual_seed(0)


def reach(layer):
    """The size of d h_T / d x_t, by the distance T - t."""
    x = (
        torch.randn(16, 100, 1, generator=torch.Generator().manual_seed(0))
        .mul(0.1)
        .requires_grad_()
    )
    layer(x)[0][:, -1].sum().backward()
    return x.grad.norm(dim=(0, 2)).flip(0)


elman, skip = ll.Elman(1, 32, seed=0), ll.Skip(1, 32, delays=(1, 10), seed=0)
with torch.no_grad():
    elman.weight_hh *= 0.8
    skip.weight_hh *= 0.4
for name, layer in (("Elman", elman), ("skip ", skip)):
    print(name, "60 steps back:", f"{reach(layer)[60] / reach(layer)[0]:.1e}")

# %%
# Trained
# -------
#
# To say what was read 30 steps before. The skip network has a connection of 30.

signs = torch.where(torch.rand(200, 80, 1, generator=rng) < 0.5, -1.0, 1.0)
target = torch.full((200, 80, 1), torch.nan)
target[:, 30:] = signs[:, :-30]
losses = {}
for name, layer in (
    ("Elman", ll.Elman(1, 32, seed=0)),
    ("skip 1, 15", ll.Skip(1, 32, delays=(1, 15), seed=0)),
    ("skip 1, 30", ll.Skip(1, 32, delays=(1, 30), seed=0)),
):
    model = ll.SequenceModel(layer, 1, reduce=None, seed=0)
    history = ll.fit(
        model,
        (signs, target),
        optimizer=lambda weights: torch.optim.Adam(weights, lr=0.003),
        epochs=25,
        clip_norm=1.0,
        progress=False,
    )
    losses[name] = [record.loss for record in history.records]
    print(f"{name:10} loss {losses[name][-1]:.3f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
left.semilogy(reach(elman), label="Elman")
left.semilogy(reach(skip), label="skip 1, 10")
left.set(xlabel="steps back", ylabel=r"$\Vert \partial h_T / \partial x_t \Vert$")
left.legend()
for name, values in losses.items():
    right.plot(values, label=name)
right.axhline(1, color="k", linestyle=":", label="a guess")
right.set(xlabel="epoch", ylabel="loss")
right.legend()
plt.show()

# %%
# **What to take from it.** Where the lag is known, a connection that spans it is the cheapest
# memory there is (:doc:`/which-memory` copies ten symbols over 2,000 steps with one). Where it is
# not, the peaks on the left show the weakness: between its delays a skip network is as blind as
# any other.
