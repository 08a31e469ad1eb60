r"""
Several time scales: removing connections
=========================================

Adding long connections is one way; *removing short ones* is the other. In a clockwork network
(Koutnik and others, 2014) the units are divided into groups, each with a clock of its own. A group
moves only in the steps in which its clock ticks, and rests between:

.. math::

   h^g_t = \begin{cases}
   \sigma_h\bigl(U_g x_t + \sum_{j \ge g} W_{gj}\, h^j_{t-1} + b_g\bigr) & t \bmod T_g = 0 \\
   h^g_{t-1} & \text{otherwise.}
   \end{cases}

Fast groups read slow ones, not the other way round. While a group rests, its error passes
unchanged; over k steps it meets :math:`k / T_g` factors.
"""

import matplotlib.pyplot as plt
import torch

import longlag as ll
from longlag import memory

rng = torch.Generator().manual_seed(0)
layer = ll.Clockwork(1, 32, periods=(1, 4, 16, 64), seed=0)
x = torch.randn(8, 129, 1, generator=rng)
with torch.no_grad():
    h = layer(x)[0]
moved = (h[:, 1:] != h[:, :-1]).float().mean(dim=(0, 1)).reshape(4, 8).mean(1)
print("share of steps in which a group moves:", moved.numpy().round(3))

# %%
# Half of the blocks of W are not there:

blocks = layer.recurrent_matrix().detach().reshape(4, 8, 4, 8).abs().sum((1, 3)) > 0
print(blocks.int().numpy())

# %%
# The error on its way back
# -------------------------
#
# From the last step, of all units together and by group, as the network is drawn.

model = ll.SequenceModel(layer, 1, reduce=None, seed=0)
target = torch.full((8, 129, 1), torch.nan)
target[:, -1] = 1.0
flow = memory.error_flow(model, x, target, ll.training.mse).layers[0]
by_group = flow.by_unit.reshape(-1, 4, 8).square().sum(2).sqrt()
for lag in (0, 16, 64, 120):
    print(f"{lag:3} steps back:", by_group[lag].numpy().round(4))

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
image = left.imshow(h[0].T, aspect="auto", cmap="RdBu", vmin=-1, vmax=1)
left.set(
    xlabel="step t",
    ylabel="unit",
    yticks=[4, 12, 20, 28],
    yticklabels=["T=1", "T=4", "T=16", "T=64"],
)
for group, period in enumerate((1, 4, 16, 64)):
    right.semilogy(by_group[:129, group].clamp(min=1e-8), label=f"T = {period}")
right.set(xlabel="steps back", ylabel=r"$\Vert \partial E / \partial h^g \Vert$")
right.legend()
plt.show()

# %%
# **What to take from it.** The slow groups hold their state, and the error in them holds too:
# stairs in place of a slope. A group that rests is not computed, either: with eight periods, a
# fifth of the products is left. What is read between two ticks of a slow group has to be handed on
# by a fast one.
