"""What the tests of the chunker share: small nets, streams, and the equations once more."""

import numpy as np
import torch
from torch import nn

import longlag as ll
from longlag.chunker import Chunker

SYMBOLS, TARGETS = 4, 2


def nets(
    *, targets=TARGETS, replicas=3, imitate="state", direct=True, bias=True, hidden=(3, 2),
    activation="sigmoid", output="sigmoid", state=None, seed=0, cell=ll.Elman,
):  # fmt: skip
    """A chunker in float64 with weights far from zero."""
    options = {"activation": activation} if cell is ll.Elman else {}
    a, c = (
        cell(SYMBOLS + targets, size, bias=bias, replicas=replicas, dtype=torch.float64, **options)
        for size in hidden
    )
    made = Chunker(
        a, c, target_size=targets, imitate=imitate, direct=direct, bias=bias,
        output_activation=output, state_activation=state,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.uniform_(-1.5, 1.5, generator=generator)
    return made


def stream(steps, *, replicas=3, targets=TARGETS, seed=0, vectors=False, starts=0.1):
    """Symbols or vectors, targets that are due now and then, starts."""
    rng = np.random.default_rng(seed)
    front = () if replicas is None else (replicas,)
    x = rng.integers(SYMBOLS, size=(*front, steps))
    if vectors:
        x = rng.normal(size=(*front, steps, SYMBOLS))
    target = None
    if targets:
        target = rng.uniform(size=(*front, steps, targets))
        target[rng.uniform(size=target.shape[:-1]) < 0.5] = np.nan
    return x, target, rng.uniform(size=(*front, steps)) < starts


def one(many, replica):
    """A replica on its own, a chunker without replicas."""
    a, c = many.automatizer.layer, many.chunker.layer
    single = nets(
        targets=many.target_size, replicas=None, imitate=many.imitate,
        direct=many.automatizer.direct, bias=many.imitation.bias is not None,
        hidden=(a.output_size, c.output_size), output=many.automatizer.readout.activation,
        state=many.imitation.activation, cell=type(a),
        activation=getattr(a.cell, "activation", "tanh"),
    )  # fmt: skip
    single.load_state_dict({name: w[replica].clone() for name, w in many.state_dict().items()})
    return single


def weights(chunker):
    return {name: parameter.detach().clone() for name, parameter in chunker.named_parameters()}


PHI = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "identity": lambda a: a}


class Plain:
    """One Elman chunker, written from the equations: autograd through the last `steps` inputs.

    The window begins from the state that the net had then, with the weights it had then.
    """

    def __init__(self, chunker, rate, threshold, steps, factor=1.0):
        self.size, self.hidden_only = chunker.symbol_size, chunker.imitate == "hidden"
        self.rate, self.threshold, self.steps, self.factor = rate, threshold, steps, factor
        self.w = {k: v.detach().clone().requires_grad_() for k, v in chunker.named_parameters()}
        self.act = {
            "automatizer": chunker.automatizer.layer.cell.activation,
            "chunker": chunker.chunker.layer.cell.activation,
            "automatizer.readout": chunker.automatizer.readout.activation,
            "chunker.readout": chunker.chunker.readout.activation,
            "imitation": chunker.imitation.activation,
        }
        self.past = {"automatizer": [], "chunker": []}  # pairs (h before, input)
        self.now = {}
        self.surprised = []

    def layer(self, net):
        h, w = None, self.w
        for before, x in self.past[net][-self.steps :]:
            h = before if h is None else h
            a = w[f"{net}.layer.weight_ih"] @ x + w[f"{net}.layer.weight_hh"] @ h
            if f"{net}.layer.bias" in w:
                a = a + w[f"{net}.layer.bias"]
            h = PHI[self.act[net]](a)
        return h

    def read_out(self, name, net):
        w, a = self.w, self.w[f"{name}.weight"] @ self.layer(net)
        if f"{name}.weight_direct" in w:
            a = a + w[f"{name}.weight_direct"] @ self.past[net][-1][1]
        if f"{name}.bias" in w:
            a = a + w[f"{name}.bias"]
        return PHI[self.act[name]](a)

    def descend(self, error):
        named = {k: v for k, v in self.w.items() if v.requires_grad}
        gradients = torch.autograd.grad(error, list(named.values()), allow_unused=True)
        with torch.no_grad():
            for value, gradient in zip(named.values(), gradients, strict=True):
                if gradient is not None:
                    value -= self.rate * gradient

    def read(self, net, x):
        hidden = len(self.w[f"{net}.layer.weight_hh"])
        before = torch.zeros(hidden, dtype=torch.float64)
        if self.past[net]:
            before = self.now[net]
        self.past[net].append((before, x))
        self.now[net] = self.layer(net).detach()

    def step(self, x, d, start):
        x = x if x.ndim else nn.functional.one_hot(x.long(), self.size)
        x = x.double()
        due = d is not None and not bool(d.isnan().any())
        surprised = start
        if not start:
            p = self.read_out("automatizer.readout", "automatizer")
            wrong = p[: self.size] - x
            if due:
                wrong = torch.cat([wrong, p[self.size :] - d])
            surprised = bool(wrong.abs().max() >= self.threshold)
            goal = self.now["chunker"]
            if not self.hidden_only:
                goal = torch.cat([goal, self.read_out("chunker.readout", "chunker")])
            strange = self.read_out("imitation", "automatizer") - goal.detach()
            self.descend(0.5 * wrong.square().sum() + 0.5 * self.factor * strange.square().sum())
            if surprised:
                p = self.read_out("chunker.readout", "chunker")
                wrong = p[: self.size] - x
                if due:
                    wrong = torch.cat([wrong, p[self.size :] - d])
                self.descend(0.5 * wrong.square().sum())
        else:
            self.now = {}
            self.past = {"automatizer": [], "chunker": []}
        i = x if d is None else torch.cat([x, d.nan_to_num(0.0)])
        if surprised:
            self.read("chunker", i)
        self.read("automatizer", i)
        self.surprised.append(surprised)

    def run(self, x, target, starts):
        starts = np.array(starts)
        starts[0] = True
        for t in range(len(starts)):
            d = None if target is None else torch.as_tensor(target[t])
            self.step(torch.as_tensor(x[t]), d, bool(starts[t]))
