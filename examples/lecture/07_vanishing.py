r"""
Vanishing and exploding gradients
=================================

The influence of step s on the error at step t goes through the product of Jacobians of
:doc:`02_bptt`:

.. math::

   \left\lVert \frac{\partial h_t}{\partial h_s} \right\rVert
   = \left\lVert \prod_{k=s+1}^{t} \frac{\partial h_k}{\partial h_{k-1}} \right\rVert .

In a *linear* network every factor is the same matrix J = W, and for a multiple of an orthogonal
one

.. math::

   \left\lVert \frac{\partial h_t}{\partial h_s} \right\rVert = \lVert J \rVert^{\,t-s}.

Below 1 it vanishes, above 1 it explodes, with the distance in the exponent. At exactly 1 it is
carried without loss, but then alike for all times between s and t: a memory that cannot choose
what it keeps.

In a *nonlinear* network each factor is :math:`\operatorname{diag}(g'(\cdot))\, W`, so (Pascanu,
Mikolov and Bengio 2013)

.. math::

   \left\lVert \frac{\partial h_k}{\partial h_{k-1}} \right\rVert
   \le \lVert W \rVert\, \lVert \operatorname{diag}(g'(\cdot)) \rVert \le \lVert W \rVert\, \gamma,
   \qquad \gamma = \sup |g'| = \begin{cases} 1 & \tanh \\ 1/4 & \text{sigmoid.} \end{cases}

:math:`\lVert W \rVert < 1/\gamma` is *sufficient* for gradients to vanish, and :math:`\lVert W
\rVert > 1/\gamma` is *necessary* for them to explode: necessary only, since the slopes can take
away what W amplifies.
"""

import math

import matplotlib.pyplot as plt
import torch

import longlag as ll
from longlag import memory

rng = torch.Generator().manual_seed(0)
x = 0.3 * torch.randn(4, 61, 2, generator=rng, dtype=torch.float64)
options = {"seed": 0, "dtype": torch.float64}

# %%
# Linear: the norm to the power of the distance
# ---------------------------------------------

for size in (0.9, 1.0, 1.1):
    layer = ll.Elman(2, 16, activation="identity", **options)  # W is drawn orthogonal
    with torch.no_grad():
        layer.weight_hh *= size
    norms = memory.jacobian_norms(layer, x, lags=[0, 10, 50])
    after = norms.largest.mean.exp().tolist()
    print(f"||J|| = {size}; after 0, 10, 50 steps:", [f"{value:.4g}" for value in after])

# %%
# Nonlinear: the bound, and what happens
# --------------------------------------
#
# Three networks of 32 tanh units, and one of logistic ones, each with the bound :math:`(\gamma
# \lVert W \rVert)^k`.

nets = {
    "tanh, radius 0.5": ll.Elman(2, 32, weight_hh_init=ll.init.SpectralRadius(0.5), **options),
    "tanh, radius 1": ll.Elman(2, 32, weight_hh_init=ll.init.SpectralRadius(1.0), **options),
    "tanh, radius 3": ll.Elman(2, 32, weight_hh_init=ll.init.SpectralRadius(3.0), **options),
    "sigmoid, radius 1": ll.Elman(
        2, 32, activation="sigmoid", weight_hh_init=ll.init.SpectralRadius(1.0), **options
    ),
}
measured, bounds = {}, {}
for name, layer in nets.items():
    norms = memory.jacobian_norms(layer, x, sample=8)
    facts = memory.spectral_facts(layer)
    measured[name] = norms.largest.mean / math.log(10)  # powers of ten, by lag
    bounds[name] = facts.log_bound(norms.lags) / math.log(10)
    assert bool((measured[name] <= bounds[name] + 1e-9).all())
    print(f"{name}: 1/gamma = {facts.critical:.0f}, 10^{measured[name][50]:.1f} at lag 50")
    print(f"    surely vanishes: {bool(facts.vanishes)}; may explode: {bool(facts.may_explode)}")

# %%
# The second and the fourth tell the two conditions apart: of the second the norm is above 1, so it
# *may* explode, and does not. The third is chaotic.
#
# Forward
# -------
#
# In a linear network the states themselves explode, :math:`\lVert h_t \rVert \propto \lVert J
# \rVert^t \lVert h_0 \rVert`. A squashing nonlinearity keeps them within :math:`\sqrt H`, and with
# them hides what happens to the gradient: nothing in the outputs shows it.

states = memory.state_norms(nets["tanh, radius 3"], x)
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
for number, name in enumerate(nets):
    left.plot(norms.lags, measured[name], f"C{number}-", label=name)
    left.plot(norms.lags, bounds[name], f"C{number}:")
right.semilogy(states.linear[0], label="without tanh")
right.semilogy(states.norms[0], label="with tanh")
right.axhline(32**0.5, color="k", linestyle=":", label=r"$\sqrt{H}$")
right.set(xlabel="step t", ylabel=r"$\Vert h_t \Vert$, radius 3", ylim=(1e-2, 1e12))
right.legend()
left.set(xlabel="distance t - s", ylabel=r"$\log_{10} \Vert \partial h_t / \partial h_s \Vert$")
left.set_ylim(-30, 25)
left.legend(fontsize=8, loc="lower left")
plt.show()

# %%
# Dotted on the left: the bounds.
#
# **What to take from it.** Over a distance every factor that is not 1 becomes 0 or infinity. What
# is left to do is told in the next pages: keep the gradient in bounds (:doc:`08_clipping`), give
# up the distance (:doc:`09_truncated_bptt`), shorten the way (:doc:`10_skip` to
# :doc:`13_dilated`), train no recurrent weight at all (:doc:`14_echo_state`), or build a factor
# that is near 1 on purpose (:doc:`15_lstm_gru`). :doc:`/vanishing` measures trained networks.
