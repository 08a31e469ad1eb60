"""A cell of one's own: an equation that no library ships, trained like any other.

A unit with a fast and a slow memory: the slow one follows the fast one with a leak of its own for
each unit, learnt, and a gate chooses which of the two the unit shows.

    f_t = tanh(U_f x_t + W_f h_{t-1} + b_f)
    s_t = (1 - a) s_{t-1} + a f_t
    g_t = sigmoid(U_g x_t + W_g h_{t-1} + b_g)
    h_t = g_t f_t + (1 - g_t) s_t
"""

import torch

import longlag as ll
from longlag.recurrence import UnitParameter, sigmoid, tanh


class TwoMemories(ll.Cell):
    state = ("h", "s")
    gates = ("fast", "gate")
    unit_parameters = {"leak": UnitParameter(0.05, interval=(0.0, 1.0))}

    def update(self, pre, state, unit):
        fast, gate = tanh(pre.fast), sigmoid(pre.gate)
        slow = (1 - unit.leak) * state.s + unit.leak * fast
        return {"h": gate * fast + (1 - gate) * slow, "s": slow}


if __name__ == "__main__":
    print(TwoMemories().latex("jacobian"))
    task = ll.tasks.Adding(length=50)
    layer = ll.Recurrent(TwoMemories(), task.input_size, hidden_size=32, seed=0)
    model = ll.SequenceModel(layer, task.output_size, reduce="last", seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    ll.fit(model, task.stream(32), optimizer=optimizer, steps=1000, clip_norm=1.0)
    print("backend:", layer.backend_used)
    print("leaks after training:", layer.unit("leak").detach().sort().values)
