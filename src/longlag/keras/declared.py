"""Any declared cell as a layer of Keras, with its weights as Keras' variables."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import torch
from torch import Tensor
from typing_extensions import Self

from longlag import cells, layers
from longlag.arguments import check_number, check_whole
from longlag.keras.loop import Compiled, Pass, as_tensor
from longlag.layers.cell_data import build, describe
from longlag.layers.checks import check_groups, probability
from longlag.layers.init import Initializer
from longlag.layers.topology import Topology, as_topology, build_topology
from longlag.recurrence import Cell
from longlag.scan import Weights

_NAMES = {
    "weight_ih": "kernel",
    "weight_hh": "recurrent_kernel",
    "weight_hh_raw": "recurrent_kernel_raw",
    "weight_hh_base": "recurrent_kernel_base",
    "weight_hh_indptr": "recurrent_indptr",
    "weight_hh_indices": "recurrent_indices",
    "weight_hh_diagonal": "recurrent_diagonal",
}
"""What Keras' layers call a weight, by longlag's name; the others have one name in both."""

_ROLES = {
    "weight_ih": "kernel",
    "weight_hh": "recurrent",
    "weight_hh_raw": "recurrent",
    "bias": "bias",
}
"""Of which regularizer and constraint a weight is."""


@dataclass(frozen=True)
class _OfKeras(Initializer):
    """An initializer of Keras, for one gate's block."""

    draw: Any
    by_width = True

    def fill_(self, block: Tensor, generator: torch.Generator | None = None) -> None:
        block.copy_(as_tensor(self.draw(block.shape[::-1], "float32")).T)


class DeclaredCell(keras.layers.Layer):
    """The weights of a layer, as Keras keeps them; the layer runs them.

    Args:
        cell: the cell.
        units: H.
        draw: from C, the longlag layer whose initial weights these are to be.
        of_role: regularizers and constraints, as ``kernel_regularizer``.
        dropout, recurrent_dropout, seed: as for :class:`RNN`.
        options: name, dtype and trainable.
    """

    def __init__(
        self,
        cell: Cell,
        units: int,
        draw: Callable[[int], layers.Recurrent],
        of_role: dict[str, Any],
        dropout: float,
        recurrent_dropout: float,
        seed: int | None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.declared, self.units, self.output_size, self._draw = cell, units, units, draw
        self.of_role = of_role
        self.dropout, self.recurrent_dropout, self.seed = dropout, recurrent_dropout, seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        clock = [1] * cell.recurrence.timed
        states = len(cell.recurrence.carried) - len(clock)
        self.state_size = [units] * states + clock

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the variables: matrices turned as in Keras, (C, G H) and (H, G' H)."""
        size: Any = input_shape[-1]
        holder, stored = self._draw(size), []
        trained = dict(holder.named_parameters())
        for name, tensor in holder.state_dict().items():
            turned = tensor.dim() == 2
            initial = tensor.T if turned else tensor
            role = _ROLES.get(name, "")
            variable = self.add_weight(
                shape=tuple(initial.shape),
                initializer=_always(initial),
                dtype=None if tensor.is_floating_point() else "int64",
                trainable=name in trained and trained[name].requires_grad,
                name=_NAMES.get(name, name),
                regularizer=self.of_role.get(f"{role}_regularizer"),
                constraint=self.of_role.get(f"{role}_constraint"),
            )
            if name in _NAMES or name == "bias":
                setattr(self, variable.name, variable)
            numbers = holder._parameters if name in trained else holder._buffers
            numbers[name] = None
            stored.append((name, variable, turned, numbers))
        self.__dict__["_holder"], self.__dict__["_stored"] = holder, stored  # not for Keras

    def scanned(self) -> Weights:
        """The weights as the scan takes them: the holder reads what the variables are now."""
        holder: layers.Recurrent = self.__dict__["_holder"]
        stored = self.__dict__["_stored"]
        for name, variable, turned, numbers in stored:
            value = as_tensor(variable)
            numbers[name] = value.T if turned else value
        try:
            recurrent = holder.weight_hh
            matrix, bias = holder.weight_ih, holder.bias
            return Weights(recurrent, holder.unit_rows(), matrix, bias, holder.entries)
        finally:
            for name, _, _, numbers in stored:
                numbers[name] = None

    def mask(self, like: Tensor, rate: float) -> Tensor:
        """A dropout mask of the shape of a tensor."""
        ones = torch.ones_like(like)
        return as_tensor(keras.random.dropout(ones, rate, seed=self.seed_generator))


def _always(tensor: Tensor) -> Any:
    def initial(shape: Any, dtype: Any = None) -> Tensor:
        return as_tensor(tensor, dtype)

    return initial


@keras.saving.register_keras_serializable("longlag")
class RNN(Compiled, keras.layers.RNN):
    r"""Any declared cell as a layer of Keras, run by longlag's kernels.

    For gates g: :math:`a^g_t = x_t K_g + b_g`, :math:`r^g_t = h_{t-1} R_g`, and the cell's update,
    as for :class:`longlag.Recurrent`. The weights are matrices as Keras has them: ``kernel``
    (C, G H) and ``recurrent_kernel`` (H, G' H), gates in the cell's order; ``bias`` (G H,); and the
    numbers per unit under the names that the cell gives them.

    Args:
        cell: an instance of a :class:`longlag.Cell` class. To load a file with a cell of your own:
            ``keras.saving.load_model(path, custom_objects={"TheCell": TheCell})``.
        units: H.
        use_bias: whether there is b.
        kernel_initializer, recurrent_initializer: how each gate's (C, H) block of K and each (H, H)
            matrix of R is drawn, as in Keras.
        bias_initializer: of b, added to what the cell gives its gates.
        kernel_regularizer, recurrent_regularizer, bias_regularizer, kernel_constraint,
            recurrent_constraint, bias_constraint, activity_regularizer: as in Keras; of a matrix
            that the cell keeps orthogonal or antisymmetric, for the one that is trained.
        dropout, recurrent_dropout: probability in [0, 1) with which a feature of x, and of the
            state that R reads, is dropped for a whole sequence, in training.
        return_sequences, return_state, go_backwards, stateful, unroll, zero_output_for_mask: as for
            ``keras.layers.RNN``; ``unroll`` changes nothing.
        seed: of the dropout, and of what the cell draws; None for Keras' own.
        options: name, dtype and trainable.

    Attributes:
        backend_used: the backend of the latest call.

    Raises:
        DeclarationError: for a cell whose declaration has no meaning.
        ValueError, TypeError: for an argument out of range.

    Cost: that of :class:`longlag.Recurrent`.

    Example:
        >>> import longlag as ll
        >>> layer = RNN(ll.cells.CoRNN(), 8, return_sequences=True)
        >>> layer(torch.zeros(2, 5, 3)).shape, layer.cell.kernel.shape
        (torch.Size([2, 5, 8]), (3, 8))
    """

    _loops_on_gpu = False

    def __init__(
        self,
        cell: Cell,
        units: int,
        *,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        zero_output_for_mask: bool = False,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        if not isinstance(cell, Cell):
            raise TypeError(
                f"cell: got {cell!r:.80}, expected an instance of a longlag.Cell class; a cell of "
                "Keras goes to keras.layers.RNN"
            )
        check_groups(cell.recurrence, check_whole("units", units, 1), "units")
        if recurrent_dropout and not cell.recurrence.dense_gates:
            raise ValueError(
                f"recurrent_dropout: got {recurrent_dropout}, but {type(cell).__name__} has no "
                "recurrent matrix to drop from; use dropout"
            )
        initializers = {
            "kernel_initializer": keras.initializers.get(kernel_initializer),
            "recurrent_initializer": keras.initializers.get(recurrent_initializer),
            "bias_initializer": keras.initializers.get(bias_initializer),
        }
        of_role = {
            "kernel_regularizer": keras.regularizers.get(kernel_regularizer),
            "recurrent_regularizer": keras.regularizers.get(recurrent_regularizer),
            "bias_regularizer": keras.regularizers.get(bias_regularizer),
            "kernel_constraint": keras.constraints.get(kernel_constraint),
            "recurrent_constraint": keras.constraints.get(recurrent_constraint),
            "bias_constraint": keras.constraints.get(bias_constraint),
        }
        self.__dict__["_parts"] = {"use_bias": use_bias, **initializers, **of_role}
        holder = DeclaredCell(
            cell,
            units,
            self._draw,
            of_role,
            probability("dropout", dropout),
            probability("recurrent_dropout", recurrent_dropout),
            seed,
            dtype=options.get("dtype"),
            trainable=options.get("trainable", True),
            name=f"{type(cell).__name__.lower()}_cell",
        )
        super().__init__(
            holder,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            zero_output_for_mask=zero_output_for_mask,
            activity_regularizer=activity_regularizer,
            **options,
        )
        self.input_spec = keras.layers.InputSpec(ndim=3)

    def _draw(self: Any, size: int) -> layers.Recurrent:
        """A longlag layer with the initial weights."""
        parts = self._parts
        drawn = layers.Recurrent(
            self.cell.declared,
            size,
            self.cell.units,
            bias=parts["use_bias"],
            weight_ih_init=_OfKeras(parts["kernel_initializer"]),
            weight_hh_init=_OfKeras(parts["recurrent_initializer"]),
            seed=self.cell.seed,
        )
        if drawn.bias is not None:
            shape = tuple(drawn.bias.shape)
            with torch.no_grad():
                drawn.bias.add_(as_tensor(parts["bias_initializer"](shape)))
        return drawn

    def _pass(self: Any, x: Tensor, state: Sequence[Tensor], training: bool) -> Pass:
        cell, mask = self.cell, None
        if training and cell.dropout:
            x = x * cell.mask(x[:, 0], cell.dropout).unsqueeze(1)
        if training and cell.recurrent_dropout:
            mask = cell.mask(state[0], cell.recurrent_dropout)
        return Pass(cell.declared.recurrence, x, cell.scanned(), mask)

    def get_config(self: Any) -> dict[str, Any]:
        """What :meth:`from_config` needs."""
        parts = {
            name: keras.saving.serialize_keras_object(part) for name, part in self._parts.items()
        }
        return {
            **keras.layers.Layer.get_config(self),
            "cell": describe(self.cell.declared),
            "units": self.cell.units,
            **parts,
            "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer),
            "dropout": self.cell.dropout,
            "recurrent_dropout": self.cell.recurrent_dropout,
            **{name: getattr(self, name) for name in _OF_LOOP},
            "seed": self.cell.seed,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Self:
        """The layer that a configuration describes.

        Raises:
            ValueError: its cell is not built in, and its class was not given; or has other
                equations.
        """
        described = config["cell"]
        known = []
        if not described["built_in"]:
            name = described["type"]
            kind = keras.saving.get_registered_object(name, custom_objects)
            if not (isinstance(kind, type) and issubclass(kind, Cell)):
                raise ValueError(
                    f"cell: {name} is not built in; import that class, and load with "
                    f'custom_objects={{"{name}": {name}}}'
                )
            known = [kind]
        return cls(**{**config, "cell": build(described, known)})


_OF_LOOP = (
    "return_sequences", "return_state", "go_backwards", "stateful", "unroll",
    "zero_output_for_mask",
)  # fmt: skip


@keras.saving.register_keras_serializable("longlag")
class Leaky(RNN):
    r"""Leaky units as a layer of Keras: each keeps a part of its state and moves by the rest.

    .. math:: h_t = (1 - a) \odot h_{t-1} + a \odot \phi(x_t K + h_{t-1} R + b)

    Args:
        units: H.
        leak, train_leak, shared_leak, recurrent, activation, time_scales: as for
            :class:`longlag.cells.Leaky`; an ``activation`` may be a function of Keras with such a
            name, and one of ``"linear"`` or None is ``"identity"``.
        options: as for :class:`RNN`.

    Attributes:
        backend_used: the backend of the latest call.

    Raises:
        ValueError, TypeError: for an argument out of range.

    Cost: that of :class:`longlag.Leaky`.

    Source: that of :class:`longlag.cells.Leaky`.

    Example:
        >>> layer = Leaky(4, leak=(0.5, 0.1, 0.02, 0.004))
        >>> layer(torch.zeros(2, 5, 3)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        units: int,
        leak: float | Sequence[float] = 0.1,
        *,
        train_leak: bool = False,
        shared_leak: bool = False,
        recurrent: bool = True,
        activation: str | Callable[..., Any] | None = "tanh",
        time_scales: tuple[float, float] | None = None,
        **options: Any,
    ) -> None:
        cell = cells.Leaky(
            leak, train_leak, shared_leak, recurrent, _activation(activation), time_scales
        )
        super().__init__(cell, units, **options)

    def get_config(self: Any) -> dict[str, Any]:  # noqa: D102
        config = super().get_config()
        del config["cell"]
        return {**config, **asdict(self.cell.declared)}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:  # noqa: D102
        return cls(**config)


def _activation(given: Any) -> Any:
    """longlag's name of what Keras takes for an activation: a name, a function, None."""
    if callable(given):
        given = getattr(given, "__name__", repr(given))
    return "identity" if given in (None, "linear") else given


@keras.saving.register_keras_serializable("longlag")
class EchoState(RNN):
    r"""An echo state network as a layer of Keras: leaky units whose weights stay as drawn.

    .. math:: h_t = (1 - a) h_{t-1} + a\,\phi(x_t K + h_{t-1} R + b)

    Args:
        units: H.
        spectral_radius, leak, density, input_scaling, bias_scaling, topology, activation: as for
            :class:`longlag.EchoState`; ``activation`` also as for :class:`Leaky`.
        trained: whether the weights are trained.
        seed: of the weights and of the dropout; None for one that Keras draws.
        options: as for :class:`RNN`, but for ``use_bias`` and the initializers, in whose place
            stand the arguments above.

    Attributes:
        backend_used: the backend of the latest call.

    Raises:
        ValueError, TypeError: for an argument out of range.

    Cost: that of :class:`longlag.EchoState`: a step costs as many multiply-adds as R has entries.

    Source: that of :class:`longlag.EchoState`.

    Example:
        >>> layer = EchoState(200, spectral_radius=0.95, leak=0.5, seed=0)
        >>> layer(torch.zeros(2, 5, 3)).shape, layer.trainable_weights
        (torch.Size([2, 200]), [])
    """

    def __init__(
        self,
        units: int,
        *,
        spectral_radius: float = 0.9,
        leak: float | Sequence[float] = 1.0,
        density: float = 0.1,
        input_scaling: float | Sequence[float] = 1.0,
        bias_scaling: float = 0.0,
        topology: str | Topology = "random",
        activation: str | Callable[..., Any] | None = "tanh",
        trained: bool = False,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        for name in options:
            if name.endswith("_initializer") or name == "use_bias":
                raise TypeError(
                    f"{name}: got {options[name]!r:.80}, but the weights of an echo state network "
                    "are drawn by spectral_radius, density, input_scaling and bias_scaling"
                )
        self.__dict__["_reservoir"] = {
            "spectral_radius": check_number("spectral_radius", spectral_radius, least=0.0),
            "density": check_number("density", density, above=0.0, most=1.0),
            "input_scaling": input_scaling,
            "bias_scaling": check_number("bias_scaling", bias_scaling, least=0.0),
            "topology": as_topology(topology),
            "trained": trained,
        }
        # A seed, so that who reads the configuration draws as many entries.
        seed = int(as_tensor(keras.random.randint((), 0, 2**31 - 1))) if seed is None else seed
        cell = cells.Leaky(leak, activation=_activation(activation))
        super().__init__(cell, units, seed=seed, **options)

    def _draw(self: Any, size: int) -> layers.Recurrent:
        leaky = self.cell.declared
        return layers.EchoState(
            size,
            self.cell.units,
            leak=leaky.leak,
            activation=leaky.activation,
            seed=self.cell.seed,
            **self._reservoir,
        )

    def get_config(self: Any) -> dict[str, Any]:  # noqa: D102
        config, leaky = super().get_config(), self.cell.declared
        for name in ("cell", "use_bias", *(n for n in config if n.endswith("_initializer"))):
            del config[name]
        topology = self._reservoir["topology"].config()
        own = {"leak": leaky.leak, "activation": leaky.activation}
        return {**config, **own, **self._reservoir, "topology": topology}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:  # noqa: D102
        return cls(**{**config, "topology": build_topology(config["topology"])})
