r"""
Back-propagation through time
=============================

J adds up over steps and sequences, so its derivative by any parameter does too:

.. math::

   \frac{\partial J}{\partial \theta} = \sum_i \sum_t \frac{\partial E_t^{(i)}}{\partial \theta},
   \qquad E_t^{(i)} = E\bigl(f(x_t^{(i)}), y_t^{(i)}\bigr),

and it is enough to look at one step t of one sequence. The weights are shared: W acts on
:math:`E_t` through every state :math:`h_s` with :math:`s \le t`. By the chain rule

.. math::

   \frac{\partial E_t}{\partial W}
   = \sum_{s=1}^t \frac{\partial E_t}{\partial h_s} \frac{\partial h_s}{\partial W}
   = \sum_{s=1}^t \frac{\partial E_t}{\partial h_t} \frac{\partial h_t}{\partial h_s}
     \frac{\partial h_s}{\partial W}
   = \sum_{s=1}^t \frac{\partial E_t}{\partial y_t} \frac{\partial y_t}{\partial h_t}
     \left(\frac{\partial h_t}{\partial h_s}\right) \frac{\partial h_s}{\partial W},

where :math:`\partial h_s / \partial W` is the direct effect alone, with :math:`h_{s-1}` held
fixed. The matrix in brackets is the *state-to-state Jacobian*: how much step s matters for the
error at step t. For U it reads the same, with :math:`\partial h_s / \partial U` at the end. The
output matrix V acts through :math:`y_t` only:

.. math::

   \frac{\partial E_t}{\partial V}
   = \frac{\partial E_t}{\partial y_t} \frac{\partial y_t}{\partial V}.

With :math:`a_t = U x_t + W h_{t-1} + b` and :math:`h_t = \tanh(a_t)` one factor of the Jacobian is
:math:`\partial h_t / \partial h_{t-1} = \operatorname{diag}(1 - h_t^2)\, W`, and

.. math::

   \frac{\partial h_t}{\partial h_s} = \frac{\partial h_t}{\partial h_{t-1}}
   \frac{\partial h_{t-1}}{\partial h_{t-2}} \cdots \frac{\partial h_{s+1}}{\partial h_s}.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

import longlag as ll

# %%
# Term by term
# ------------
#
# A small network in double precision, an error at the last of 12 steps. The sum above, written
# out:

T, H = 12, 5
layer = ll.Elman(3, H, seed=0, dtype=torch.float64)
model = ll.SequenceModel(layer, output_size=2, reduce=None, seed=1)
rng = torch.Generator().manual_seed(0)
x = torch.randn(1, T, 3, generator=rng, dtype=torch.float64)
wanted = torch.full((1, T, 2), torch.nan, dtype=torch.float64)  # NaN: no error is due
wanted[0, -1] = torch.tensor([0.5, -0.5])

with torch.no_grad():
    h = layer(x)[0][0]  # (T, H)
    before = torch.cat([torch.zeros(1, H, dtype=torch.float64), h[:-1]])
    y = model(x)[0, -1]
    to_output = y - wanted[0, -1]  # dE_t/dy_t, for E = mean of squares of two outputs
    to_state = to_output @ model.readout.weight  # dE_t/dh_t
    jacobians = ll.state_jacobians(layer, x)[0]  # (T, H, H): dh_t/dh_{t-1}
    of_w, of_u = [], []
    for s in range(T - 1, -1, -1):
        to_sum = to_state * (1 - h[s] ** 2)  # dE_t/da_s
        of_w.append(torch.outer(to_sum, before[s]))  # the term of step s in dE_t/dW
        of_u.append(torch.outer(to_sum, x[0, s]))  # and in dE_t/dU
        to_state = to_state @ jacobians[s]  # one factor further back
    of_v = torch.outer(to_output, h[-1])

# %%
# Automatic differentiation of the unrolled network, and ``ll.BPTT``, the compiled backward pass,
# give the same:

found = ll.BPTT().gradients(model, x, wanted, ll.training.mse)
for name, terms in (
    ("layer.weight_hh", sum(of_w)),
    ("layer.weight_ih", sum(of_u)),
    ("readout.weight", of_v),
):
    print(f"{name:16} largest difference {(found[name] - terms).abs().max():.1e}")

# %%
# ``ll.gradient_by_lag`` gives the terms of any layer, by how many steps back they lie:

by_lag = ll.gradient_by_lag(model, x, wanted, ll.training.mse)
norms = by_lag.norms()
print("of W, lags 0 to 3:", norms["layer.weight_hh"][:4].numpy().round(4))
print("by hand:          ", torch.stack(of_w[:4]).norm(dim=(1, 2)).numpy().round(4))

figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
lags = np.arange(T)
axes.bar(
    lags - 0.2, torch.stack(of_w).norm(dim=(1, 2)).numpy(), 0.4, label=r"$\partial E_t/\partial W$"
)
axes.bar(
    lags + 0.2, torch.stack(of_u).norm(dim=(1, 2)).numpy(), 0.4, label=r"$\partial E_t/\partial U$"
)
axes.set(xlabel="steps back, t - s", ylabel="norm of the term", xticks=lags)
axes.legend()
plt.show()

# %%
# What back-propagation does with it
# ----------------------------------
#
# Nobody adds the terms up one by one. The error :math:`\delta_t = \partial E / \partial h_t` of
# all later steps together is sent back once, step by step. longlag derives these equations from
# those of the cell and prints them:

print(ll.cells.Elman().latex("bptt"))

# %%
# As formulas:
#
# .. math::
#
#    \delta^{a}_t = \delta^{h}_t \odot (1 - h_t^2), \qquad
#    \delta^{h}_{t-1} = \frac{\partial E_{t-1}}{\partial h_{t-1}} + W^\top \delta^{a}_t, \qquad
#    \frac{\partial E}{\partial W} = \sum_t \delta^{a}_t h_{t-1}^\top, \qquad
#    \frac{\partial E}{\partial U} = \sum_t \delta^{a}_t x_t^\top .
#
# **What to take from it.** The gradient of a shared weight is a sum over the past, and each term
# carries a product of Jacobians as long as the distance. In the figure the terms become smaller
# the further back they lie: :doc:`that is the problem of this course <07_vanishing>`.
