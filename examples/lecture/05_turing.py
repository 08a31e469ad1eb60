r"""
What such a network can compute: anything
=========================================

Siegelmann and Sontag (1992) proved that a finite recurrent network can do whatever a Turing
machine does. So it is not for want of power that the Elman network forgets. The network of the
proof is

.. math::

   h_t = \operatorname{sat}(W h_{t-1} + b), \qquad \operatorname{sat}(a) = \min(1, \max(0, a)),

with rational weights and no input. A tape is a number: with two symbols, the stack
:math:`a_1 a_2 a_3 \dots` is

.. math::

   x = \sum_{i \ge 1} 2\, a_i\, 4^{-i},

so that pushing and popping are linear maps and the top is read by one unit. ``ll.turing.compile``
makes the weights from the table of any machine (:doc:`/turing` has the construction and its
proof).
"""

import matplotlib.pyplot as plt

import longlag as ll

# %%
# The third busy beaver: of all machines with three states, one that writes the most ones before it
# halts.

machine = ll.turing.TuringMachine.parse("1RB1RH_1LB0RC_1LC1LA")
net = ll.turing.compile(machine)
print(net)
run = net.run()
print(run)
assert run == machine.simulate()  # the plain simulator ends with the same tape, cell by cell

# %%
# The network is an ordinary layer, and its weights are plain numbers:

print(type(net.layer).__name__, tuple(net.layer.weight_hh.shape))
print(net.layer.weight_hh.unique().tolist())

# %%
# Step by step, as text, and as a picture: the tape with the head in red, and the units that stand
# for it.

print(net.trace(steps=8))

trace = net.trace(steps=run.steps)
cells, first = trace.cells()
figure, (left, right) = plt.subplots(
    1, 2, figsize=(8, 4), width_ratios=(1, 2), layout="constrained"
)
left.imshow(cells, cmap="Greys", vmax=1.5, aspect="auto")
left.plot(trace.heads - first, range(len(cells)), "r.-")
left.set(xlabel="cell of the tape", ylabel="step of the machine", yticks=range(0, 22, 3))
right.imshow(trace.activity, aspect="auto")
right.set(xlabel="unit", ylabel="update of the network, two for a step")
plt.show()

# %%
# **What to take from it.** There *are* weights with which a small recurrent network computes
# anything. That says nothing about finding them: whether gradient descent gets there is another
# question, and :doc:`the answer is sobering <06_long_lags>`. The numbers have to be exact, too:
# float64 holds the tape of this machine, and ``net.run(exact=True)`` any tape.
