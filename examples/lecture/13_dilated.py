r"""
Several time scales: dilated stacks
===================================

Stack layers, and let each read its past twice as far back as the one below:

.. math::

   h^{(l)}_t = \sigma_h\bigl(U^{(l)} h^{(l-1)}_t + W^{(l)} h^{(l)}_{t - d_l} + b^{(l)}\bigr),
   \qquad d_l = 1, 2, 4, 8, \dots

(Chang and others, 2017). Within a layer the short connection is *replaced* by the long one, as in
:doc:`12_clockwork`; the stack as a whole has all of them, and the number of factors that an error
meets over a distance k is about the logarithm of k.
"""

import matplotlib.pyplot as plt
import torch

import longlag as ll

plain = ll.Stack(*(ll.Elman(1 if i == 0 else 12, 12, seed=i) for i in range(6)))
dilated = ll.Dilated(ll.Elman, 1, 12, dilations=(1, 2, 4, 8, 16, 32), seed=0)

# %%
# A layer with dilation d is d interleaved sequences that never meet. Run on every second step
# alone it says the same:

layer = ll.Elman(1, 12, dilation=2, seed=0)
single = ll.Elman(1, 12, seed=0)  # the same weights, without the dilation
x = torch.randn(2, 100, 1, generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    torch.testing.assert_close(layer(x)[0][:, ::2], single(x[:, ::2])[0])

# %%
# The shortest way back
# ---------------------
#
# Over a distance k an error meets k recurrent matrices in the plain stack. In the dilated one it
# may take the long edges of the upper layers first and the short ones of the lower layers then:
# with dilations 1, 2, 4, ..., 32 as many as k has ones as a binary number, and two for each 64
# beyond.

for k in (7, 32, 63, 200):
    print(
        f"distance {k:3}: {k:3} factors, or {k // 64 * 2 + (k % 64).bit_count():2} with dilations"
    )

# %%
# Trained
# -------
#
# A number is read in the first step, and is to be said after 64 steps of noise.

rng = torch.Generator().manual_seed(0)
noise = 0.3 * torch.randn(400, 64, 1, generator=rng)
first = torch.where(torch.rand(400, generator=rng) < 0.5, -1.0, 1.0)
noise[:, 0, 0] = first
losses = {}
for name, net in (("stack of 6", plain), ("dilated 1, 2, ..., 32", dilated)):
    model = ll.SequenceModel(net, 1, reduce="last", seed=0)
    history = ll.fit(
        model,
        (noise, first.unsqueeze(-1)),
        optimizer=lambda weights: torch.optim.Adam(weights, lr=0.003),
        epochs=8,
        clip_norm=1.0,
        progress=False,
    )
    losses[name] = [record.loss for record in history.records]
    print(f"{name:22} loss {losses[name][-1]:.4f}")

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
for level, dilation in enumerate((1, 2, 4, 8)):
    for t in range(16):
        if t >= dilation:
            curve = {"arrowstyle": "-", "connectionstyle": "arc3,rad=-0.3", "color": f"C{level}"}
            left.annotate("", (t, level), (t - dilation, level), arrowprops=curve)
    left.plot(range(16), [level] * 16, f"C{level}o", markersize=4)
left.set(xlabel="step", yticks=range(4), yticklabels=["d = 1", "2", "4", "8"], ylim=(-0.5, 4.2))
left.set_title("what each layer reads of its past", fontsize=10)
for name, values in losses.items():
    right.plot(values, label=name)
right.axhline(1, color="k", linestyle=":", label="a guess")
right.set(xlabel="epoch of 400 sequences", ylabel="loss")
right.legend()
plt.show()

# %%
# **What to take from it.** ``ll.Dilated`` takes any layer, GRU too, and costs no more than a
# stack. It is the way when the lag is long and not known; where gates with biases for the lag do,
# they need fewer weights (:doc:`/which-memory`).
