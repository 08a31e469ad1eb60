"""What a compiled step can do, and why it cannot do the rest."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from longlag.batch import IGNORED_CLASS, Batch
from longlag.gradients import BPTT, Loss, TruncatedBPTT
from longlag.gradients.losses import (
    Quantile,
    WeightedCrossEntropy,
    WeightedLogistic,
    cross_entropy,
    logistic,
    mae,
    mse,
    name_of,
)
from longlag.layers import (
    Attention,
    Bidirectional,
    Embedded,
    Recurrent,
    SequenceModel,
    Stack,
)
from longlag.layers.readout import Readout
from longlag.layers.sequence_model import SHARES
from longlag.recurrence.lowered import lower
from longlag.scan.cpu.backend import Cpu
from longlag.torch_private import dispatching, has_hooks
from longlag.training.compiled.head import CLASSES, LOGITS, LOSSES, SUMS, RowLoss
from longlag.training.compiled.optimizers import Rule, rule_of, step_of


class Unfit(Exception):
    """Something of a training cannot be compiled; the message says what."""


class Chain(NamedTuple):
    """Layers one on another, in one direction.

    Attributes:
        layers: the lowest first.
        between: the dropout of what each is given from the one below; of the first 0.
    """

    layers: list[Recurrent]
    between: list[float]


class Network(NamedTuple):
    """A model as a compiled step sees it.

    Attributes:
        levels: the recurrent layers, those that read x first; of two chains in a level, the second
            reads each sequence from its last step to its first, and their outputs stand side by
            side.
        between: the dropout of what each level is given from the one below.
        readout: of the top one.
        reduce: what is read out: "last", "mean", "attention", "share", "share_max", or None for
            every step.
        loss: its name, or one's own.
        weights: of classes, or of labels that hold; or None.
        level: of a quantile.
        window: steps of an update, from the state after those before; None: whole sequences.
        before: steps before a window that its errors go back to.
        since: the step of a window to which its errors go back, where they do not reach its first.
        attention: what weighs the steps, with "attention".
    """

    levels: list[list[Chain]]
    between: list[float]
    readout: Readout
    reduce: str | None
    loss: str | RowLoss
    weights: tuple[float, ...] | None = None
    level: float = 0.0
    window: int | None = None
    before: int = 0
    since: int = 0
    attention: Attention | None = None

    @property
    def layers(self) -> list[Recurrent]:
        """All layers."""
        return [layer for level in self.levels for chain in level for layer in chain.layers]

    @property
    def frozen(self) -> bool:
        """Whether no layer is trained, and no error has to go back."""
        return not any(p.requires_grad for layer in self.layers for p in layer.parameters())

    @property
    def sees_steps(self) -> bool:
        """Whether what reads the top level reads each of its steps, where they are in x."""
        return self.reduce is None or self.attention is not None

    @property
    def looks_back(self) -> bool:
        """Whether states are read from further back than a step."""
        return any(
            layer.dilation > 1 or any(lower(layer.undilated).depths) for layer in self.layers
        )

    @property
    def draws(self) -> bool:
        """Whether an update draws random numbers."""
        own = [p for layer in self.layers for p in (layer.input_dropout, layer.recurrent_dropout)]
        between = [share for level in self.levels for chain in level for share in chain.between]
        return any((*own, *self.between, *between))


def network_of(model: nn.Module, loss: Loss | str, method: object) -> Network:
    """The parts of a model that is trained.

    Args:
        model: the model.
        loss: its function, or a name of :data:`LOSSES` or :data:`SUMS`.
        method: of the gradient.

    Raises:
        Unfit: it cannot be compiled.
    """
    window, before, since = None, 0, 0
    if type(method) is TruncatedBPTT:
        window, before, since = method.k1, method.before, method.since
    elif type(method) is not BPTT:
        raise Unfit(f"the method is {method!r}; expected BPTT(), or TruncatedBPTT(k1, k2)")
    if type(model) is not SequenceModel:
        raise Unfit(f"the model is a {type(model).__name__}; expected a longlag.SequenceModel")
    name, settings = _compiled_loss(loss)
    if torch.is_autocast_enabled("cpu") or dispatching():
        raise Unfit("autocast, or a mode that follows operations, is on")
    hooked = [name or "the model" for name, part in model.named_modules() if has_hooks(part)]
    hooked += [name for name, p in model.named_parameters() if has_hooks(p)]
    if hooked:
        raise Unfit(f"{hooked[0]} has hooks")
    network = network_with(model, name)
    network = network._replace(window=window, before=before, since=since, **settings)
    if window is not None and (network.reduce is not None or not model.layer.causal):
        raise Unfit("windows want an output at each step of a model that reads forward")
    if window is not None and network.looks_back:
        raise Unfit("a layer is dilated or has delays, and windows go on from the state before")
    if network.draws and (before or since):
        raise Unfit(
            "dropout is drawn anew for the steps before a window, of which k2 > k1 has some, or "
            "those of it that k2 < k1 does not go back to"
        )
    return network


def network_with(model: SequenceModel, loss: str | RowLoss) -> Network:
    """The parts of a model with a loss.

    Raises:
        Unfit: they cannot be compiled.
    """
    attention = model.attention
    if attention is not None and type(attention) is not Attention:
        raise Unfit(f"the attention is a {type(attention).__name__}; expected an Attention")
    readout = _linear(model.readout, model.reduce)
    if readout.activation != "identity" and (isinstance(loss, RowLoss) or loss in LOGITS):
        raise Unfit(
            f"the readout has the activation {readout.activation!r}, and the loss is of logits"
        )
    levels, between = _levels(model.layer)
    network = Network(levels, between, readout, model.reduce, loss, attention=attention)
    if model.reduce in SHARES and not network.frozen:
        raise Unfit(
            f"reduce={model.reduce!r} sends no error to the layer; freeze it by "
            "model.layer.requires_grad_(False)"
        )
    lowest = [chain.layers[0] for chain in levels[0]]
    for layer in network.layers:
        if layer.input_dropout and layer not in lowest:
            raise Unfit("a layer above the first has input_dropout")
        why = _why_not(layer)
        if why is not None:
            raise Unfit(why)
    return network


_FUNCTIONS = {"cross_entropy": cross_entropy, "logistic": logistic, "mse": mse, "mae": mae}


def _compiled_loss(loss: Loss | str) -> tuple[str, dict[str, Any]]:
    """The name of a loss, and what is set of it."""
    if isinstance(loss, WeightedCrossEntropy):
        return "cross_entropy", {"weights": loss.weights}
    if isinstance(loss, WeightedLogistic):
        return "logistic", {"weights": loss.weights}
    if isinstance(loss, Quantile):
        return "quantile", {"level": loss.level}
    for name in (*LOSSES, *SUMS):
        if loss == name or _FUNCTIONS.get(name) is loss:
            return name, {}
    assert not isinstance(loss, str)
    raise Unfit(f"the loss is {name_of(loss)}; expected one of {', '.join(LOSSES)}")


def _linear(readout: nn.Module, reduce: str | None) -> Readout:
    if type(readout) is not Readout:
        raise Unfit(f"the readout is a {type(readout).__name__}; expected a linear Readout")
    means = reduce in ("mean", "attention", *SHARES)
    if readout.weight_squares is not None or (readout.direct_size is not None and means):
        raise Unfit("the readout sees squares, or means of x")
    return readout


def _levels(module: nn.Module) -> tuple[list[list[Chain]], list[float]]:
    """The layers by level, and the dropout of what each level is given from the one below."""
    if type(module) is Stack:
        levels, dropout = list[list[Chain]](), list[float]()
        for number, part in enumerate(module.layers):
            inner, between = _levels(part)
            levels += inner
            dropout += [module.dropout if number else 0.0, *between[1:]]
        return levels, dropout
    if type(module) is Bidirectional:
        return [[_chain(part) for part in module.directions.values()]], [0.0]
    return [[_chain(module)]], [0.0]


def _chain(module: nn.Module) -> Chain:
    """The layers of one direction."""
    if type(module) is not Stack:
        return Chain([_layer(module)], [0.0])
    whole = Chain([], [])
    for number, part in enumerate(module.layers):
        layers, between = _chain(part)
        whole.layers.extend(layers)
        whole.between.extend([module.dropout if number else 0.0, *between[1:]])
    return whole


def _layer(module: nn.Module) -> Recurrent:
    if isinstance(module, Embedded):
        raise Unfit("the vectors of categories are learned by PyTorch's operations")
    if not isinstance(module, Recurrent) or type(module).forward is not Recurrent.forward:
        raise Unfit(
            f"a recurrent module is a {type(module).__name__}; expected layers, a Stack of them, "
            "both directions of either, or a Stack of these"
        )
    return module


def _why_not(layer: Recurrent) -> str | None:
    """Why the kernels of a layer cannot be noted; None where they can."""
    recurrence, name = layer.undilated, type(layer).__name__
    if layer.replicas is not None:
        return "the model has replicas"
    if layer.backend not in ("auto", Cpu.name):
        return f"{name} has backend={layer.backend!r}"
    if layer.input_size == 0:
        return f"{name} reads no input"
    if layer.dilation > 1 and recurrence.delayed:
        return f"{name} is dilated, and its cell has delays"
    if layer.weights is not None:
        return f"{name} reads its W rounded to {layer.weights}"
    if layer.entries is not None or recurrence.patterned or recurrence.timed or layer.computed:
        return f"the recurrent matrix of {name} is not a plain one"
    for unit, declared in recurrence.unit_parameters.items():
        if declared.trained and (declared.shared or declared.interval is not None):
            return f"{name} trains {unit}, which is one for all units, or within bounds"
    return Cpu().unsupported(layer.weight_ih)


def check_parameters(model: nn.Module, optimizer: Optimizer) -> None:
    """Every trained parameter is the optimizer's, whose formulas are known, and lies as expected.

    Raises:
        Unfit: not so.
    """
    for group in optimizer.param_groups:
        rule = rule_of(optimizer, group)
        if isinstance(rule, str):
            raise Unfit(rule)
    if has_hooks(optimizer):
        raise Unfit("the optimizer has hooks")
    named = dict(model.named_parameters(remove_duplicate=False))
    if len({id(p) for p in named.values()}) < len(named):
        raise Unfit("parameters are tied")
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in named.items():
        if parameter.requires_grad and id(parameter) not in held:
            raise Unfit(f"the optimizer has no {name}")
        if not parameter.is_contiguous():
            raise Unfit(f"{name} is not contiguous")
    if len(held - {id(p) for p in named.values()}):
        raise Unfit("the optimizer has parameters beside the model's")


def check_data(network: Network, data: Batch[Tensor]) -> None:
    """The data fit the network, so that every number that is read is there.

    Raises:
        Unfit: not so.
    """
    x, target, _, resets, weights = data
    if resets is not None and any(len(level) > 1 for level in network.levels):
        raise Unfit("the data have resets, and the model reads in both directions")
    if resets is not None and network.looks_back:
        raise Unfit("the data have resets, and a layer is dilated or has delays")
    if resets is not None and resets.dtype != torch.bool:
        raise Unfit(f"resets of data have dtype {resets.dtype}")
    count, steps = x.shape[:2]
    outputs, classes = network.readout.output_size, network.loss in CLASSES
    front = (count, steps) if network.reduce is None else (count,)
    wanted = front if classes else (*front, outputs)
    weight = network.readout.weight
    if x.shape != (count, steps, network.layers[0].input_size) or x.dtype != weight.dtype or (
        steps == 0 or not x.is_cpu
    ):  # fmt: skip
        raise Unfit(f"x of data has shape {tuple(x.shape)} and dtype {x.dtype}")
    if network.weights is not None and len(network.weights) != outputs:
        raise Unfit(f"there are {len(network.weights)} weights of classes, and {outputs} outputs")
    if weights is not None and (weights.shape != (count,) or weights.dtype != weight.dtype):
        raise Unfit(f"weights of data have shape {tuple(weights.shape)} and {weights.dtype}")
    if target.shape != wanted or target.dtype != (torch.int64 if classes else weight.dtype):
        raise Unfit(
            f"target of data has shape {tuple(target.shape)} and dtype {target.dtype}; expected "
            f"{wanted}"
        )
    if classes:
        due = target[target != IGNORED_CLASS]
        if len(due) and not (int(due.min()) >= 0 and int(due.max()) < outputs):
            raise Unfit(f"target of data has classes beyond 0..{outputs - 1}")


def states_are_there(optimizer: Optimizer) -> bool:
    """Whether the optimizer has made all its state, and all of a group had as many updates."""
    for group in optimizer.param_groups:
        rule = rule_of(optimizer, group)
        assert isinstance(rule, Rule)
        states = [optimizer.state.get(p, {}) for p in group["params"] if p.requires_grad]
        if any(state.get(name) is None for state in states for name in rule.states):
            return False
        if len({step_of(state) for state in states}) > 1:
            return False
    return True
