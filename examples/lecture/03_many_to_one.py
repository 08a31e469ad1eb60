r"""
Many-to-one, and a problem that looks easy
==========================================

One answer for a whole sequence needs a small change only: the output is read from the last state.

.. math::

   h_t = \sigma_h(U x_t + W h_{t-1} + b_h), \qquad y = \sigma_o(V h_T + b_v).

Naming the sentiment of a sentence is of this kind, and so is this: the sequences have p symbols
from an alphabet of p + 1, and the network has to *remember the first one and repeat it at the
end*. It seems to be enough to show it sequences with the wanted answer.
"""

import matplotlib.pyplot as plt
import torch

import longlag as ll


def sequences(p, count, seed):
    """One-hot symbols (N, p, p + 1), and the first of each as a class (N,)."""
    rng = torch.Generator().manual_seed(seed)
    symbols = torch.randint(p + 1, (count, p), generator=rng)
    return torch.nn.functional.one_hot(symbols, p + 1).float(), symbols[:, 0]


# %%
# ``reduce="last"`` makes the model many-to-one; the rest is as before.

curves, scores = {}, {}
for p in (4, 16, 32, 64):
    x, first = sequences(p, 1000, seed=0)
    model = ll.SequenceModel(ll.Elman(p + 1, 32, seed=0), output_size=p + 1, reduce="last", seed=0)
    history = ll.fit(
        model,
        (x, first),
        optimizer=lambda weights: torch.optim.Adam(weights, lr=0.003),
        epochs=20,
        clip_norm=1.0,
        progress=False,
    )
    new, answer = sequences(p, 500, seed=1)
    with torch.no_grad():
        scores[p] = float((model(new).argmax(-1) == answer).float().mean())
    curves[p] = [record.loss for record in history.records]
    guess = 1 / (p + 1)
    print(f"p = {p:2}: {scores[p]:6.1%} right on new sequences; guessing {guess:.1%}")

# %%
# The loss of each network, divided by that of a guess, log(p + 1).

figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
for p, losses in curves.items():
    axes.plot(torch.tensor(losses) / torch.tensor(p + 1.0).log(), label=f"p = {p}")
axes.axhline(1, color="k", linestyle=":", label="a guess")
axes.set(xlabel="epoch of 1,000 sequences", ylabel="loss / loss of a guess", ylim=(0, 1.2))
axes.legend()
plt.show()

# %%
# **What to take from it.** The network is the same, the task is the same, only the distance
# between question and answer grows; and what is learned within some epochs at p = 4 is learned in
# part at p = 32, and not at all at p = 64. More training is not what is missing:
# :doc:`the table of 1997 <06_long_lags>` gave it five million sequences.
