r"""
Echo state networks: train the output alone
===========================================

The extreme way around the vanishing gradient: do not train the recurrent weights at all. U and W
are drawn once and stay; V alone is fitted, by least squares with a penalty, in one step,

.. math::

   h_t = \sigma_h(U x_t + W h_{t-1} + b), \qquad y_t = V h_t, \qquad
   V = Y H^\top \bigl(H H^\top + \lambda I\bigr)^{-1},

where the columns of H and Y are the states and the wanted outputs of all steps. No gradient goes
back in time, so none vanishes. The explosion in the other direction, forward, is held by a
squashing nonlinearity and by a W of controlled size: its spectral radius is set, in the classical
version below 1, today sometimes a little above.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

import longlag as ll

# %%
# A large extractor of features
# -----------------------------
#
# Why does a linear readout do? Because the features are many and not linear. Two rings in the
# plane cannot be told apart by a line, but in :math:`\Phi(x_1, x_2) = (x_1^2, \sqrt 2\, x_1 x_2,
# x_2^2)` they can by a plane. A reservoir is such a map, of the whole past of the input.

rng = np.random.default_rng(0)
angle, ring = rng.uniform(0, 2 * np.pi, 200), np.arange(200) % 2
points = (1 + ring)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.1 * rng.normal(
    size=(200, 2)
)
features = np.stack([points[:, 0] ** 2, 2**0.5 * points[:, 0] * points[:, 1], points[:, 1] ** 2], 1)


def by_least_squares(inputs):
    """The share of points that the best linear separation gets right."""
    matrix = np.c_[inputs, np.ones(len(inputs))]
    weights = np.linalg.lstsq(matrix, 2 * ring - 1, rcond=None)[0]
    return ((matrix @ weights > 0) == ring).mean()


plane, mapped = by_least_squares(points), by_least_squares(features)
print(f"right: {plane:.0%} in the plane, {mapped:.0%} in the features")

# %%
# How long it echoes
# ------------------
#
# The effect of a pulse on reservoirs of 200 units, by the spectral radius of W.

pulse = torch.zeros(1, 100, 1, dtype=torch.float64)
for radius in (0.5, 0.9, 0.99):
    layer = ll.EchoState(1, 200, spectral_radius=radius, seed=0, dtype=torch.float64)
    pulse[0, 0] = 0.01
    echo = layer(pulse)[0][0].norm(dim=1)
    print(f"radius {radius}: left after 30 steps {echo[30] / echo[0]:.1e}")

# %%
# A chaotic series that goes on by itself
# ---------------------------------------
#
# The Mackey-Glass series, which is chaotic: 3,000 steps to fit on, then the network reads its own
# outputs.

task = ll.tasks.MackeyGlass(tau=17, mapped=True)
training, forced, free = map(torch.from_numpy, task.runs(seed=0))
reservoir = ll.EchoState(
    0, 400, feedback_size=1, leak=0.4, spectral_radius=0.88, density=0.0125,
    feedback_scaling=0.56, bias_scaling=0.03, seed=0, dtype=torch.float64,
)  # fmt: skip
model = ll.SequenceModel(reservoir, 1, reduce=None)
series = training.unsqueeze(0)
ll.fit(model, (series[:, :-1], series[:, 1:]), method=ll.Ridge(alpha=1e-13, washout=1000))
ahead, _ = model.generate(84, warmup=forced)
score = task.nrmse84(ahead[:, -1].detach().numpy(), free[:, -1].numpy())
print(f"{model.readout.weight.numel() + 1} weights are fitted")
print(f"error 84 steps ahead, as a share of the deviation: {score:.1e}")

figure = plt.figure(figsize=(9, 3.4), layout="constrained")
plane, space, forecast = (
    figure.add_subplot(1, 3, 1),
    figure.add_subplot(1, 3, 2, projection="3d"),
    figure.add_subplot(1, 3, 3),
)
plane.scatter(*points.T, c=ring, cmap="coolwarm", s=8)
plane.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
space.scatter(*features.T, c=ring, cmap="coolwarm", s=8)
space.set(xlabel="$x_1^2$", ylabel=r"$\sqrt{2} x_1 x_2$", zlabel="$x_2^2$")
forecast.plot(free[0, :, 0], "k:", label="series")
forecast.plot(ahead[0, :, 0].detach(), label="network, by itself")
forecast.set(xlabel="steps ahead")
forecast.legend()
plt.show()

# %%
# **What to take from it.** Seconds of fitting in place of training, and on smooth dynamics nothing
# is better; a reservoir is also the first thing to try against which all others are to be
# measured. Its memory is what was drawn: what the task needs to be kept, and for how long, it does
# not learn (:doc:`/reservoirs`, :doc:`/which-memory`).
