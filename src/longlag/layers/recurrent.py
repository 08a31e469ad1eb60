"""The recurrent layer: any cell as a torch.nn module."""

import functools
import math
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from longlag.arguments import check_whole
from longlag.layers.base import LayerPart, RecurrentModule
from longlag.layers.cell_data import describe
from longlag.layers.checks import (
    check_dilation,
    check_groups,
    check_input,
    check_lengths,
    check_resets,
    check_state,
    check_weights,
    probability,
)
from longlag.layers.constraints import constrained_matrix, draw_bases, draw_raw
from longlag.layers.init import Chrono, Initializer, as_generator, initializer
from longlag.layers.sparse import draw_entries, draw_values
from longlag.recurrence import Cell, DeclarationError, Recurrence, UnitParameter
from longlag.recurrence.wiring import Geometric, Groups, Uniform
from longlag.scan import Weights, check_backend, register
from longlag.scan.connections import Entries, matrix_of, without_blocks
from longlag.scan.dilated import Dilation, scan_dilated
from longlag.scan.inputs import with_noise
from longlag.torch_private import (
    dispatching,
    name_in_files,
    recomputes,
    transforms_active,
    under_transforms,
)


class Options(TypedDict, total=False):
    """What every recurrent layer takes beside its sizes; see :class:`Recurrent`."""

    bias: bool
    input_dropout: float
    recurrent_dropout: float
    weight_ih_init: str | Initializer
    weight_hh_init: str | Initializer
    density: float | Tensor | None
    bias_init: Chrono | None
    dilation: int
    replicas: int | None
    weights: str | None
    backend: str
    seed: int | torch.Generator | None
    device: Any
    dtype: torch.dtype | None


@functools.cache
def _state_type(cell: str, names: tuple[str, ...]) -> Any:
    kind: Any = namedtuple(f"{cell}State", names)
    kind.__reduce__ = lambda state: (_state_of, (cell, names, *state))
    name_in_files(kind, f"longlag.{cell}State({', '.join(names)})")
    return kind


def _state_of(cell: str, names: tuple[str, ...], *parts: Any) -> Any:
    """A state from a pickle, which cannot name the type that is made for a cell."""
    return _state_type(cell, names)(*parts)


class Recurrent(RecurrentModule):
    r"""A cell over sequences: the layer that every other recurrent layer is made of.

    For gates g: :math:`a^g_t = U_g x_t + b_g`, :math:`r^g_t = \sum_d W_{g,d} h_{t-d}` (d = 1 alone
    unless the cell says otherwise), and the cell's update.

    Args:
        cell: the recurrence; an instance of a :class:`~longlag.Cell` class.
        input_size: C, features per step; 0 for a network that runs by itself, where x is (N, T, 0).
        hidden_size: H, units.
        bias: whether there are biases b.
        input_dropout: probability in [0, 1) with which an input feature is dropped, for a whole
            sequence at a time, in training.
        recurrent_dropout: the same for the state that W reads.
        weight_ih_init: how each gate's (H, C) block of U is drawn: ``"glorot"``,
            ``"orthogonal"``, ``"identity"``, ``"uniform"``, ``"normal"`` or an object of
            :mod:`longlag.init`.
        weight_hh_init: how each (H, H) matrix of W is drawn; where a pattern has no block, it is
            then set to zero.
        density: None for a dense W. Else W is sparse: a fraction in (0, 1], the share of the units
            that each unit reads, at least one, drawn anew for each; or a boolean matrix (G' H, H),
            True for the entries that are there. A step costs as many multiply-adds as there are
            entries. Glorot and orthogonal matrices are scaled by the square root of 1 / share.
        bias_init: None for the cell's own biases, or :class:`~longlag.init.Chrono`.
        dilation: d, at least 1: the update reads the states of d steps before in place of those of
            one step before. The state is then d steps deep: the declared ones, as ever, then those
            of 1 .. d - 1 steps before, as h_1, h_2.
        replicas: R independent networks in one: an R stands in front of every parameter, of x,
            of the state and of the output.
        weights: None for W as it is stored; ``"bfloat16"`` for W with each number rounded to the
            nearest of bfloat16, which has 8 bits of precision, a relative error of at most 2^-9.
            The compiled kernels keep it in 2 bytes a number for fewer than four sequences a thread,
            whose step takes as long as reading W. States and sums are of float32 as before, and so
            is the stored W: its gradient is that of the rounded one, and updates add up in it. Of
            float32 alone, dense and without a constraint. As an attribute it may be set later.
        backend: ``"auto"``, or a backend of :data:`longlag.scan.BACKENDS`.
        seed: for the initial parameters: a whole number, a generator, or None for PyTorch's
            global generator.
        device, dtype: as in torch.nn.

    Attributes:
        weight_ih: U, (G H, C); gates in the cell's order.
        weight_hh: W, (G' H, H), H rows for each matrix that the cell wires: gates in the cell's
            order, the matrices of a gate as declared; None without any. Zero, and of gradient
            zero, where a pattern has no block. Of a sparse W the numbers (E,) of its entries, which
            ``weight_hh_indptr`` (G' H + 1,) and ``weight_hh_indices`` (E,) place, as the arrays of
            the same names of a ``scipy.sparse.csr_array``; replicas share the places. Where the
            cell keeps a matrix orthogonal or antisymmetric, it is no parameter but follows from
            ``weight_hh_raw``, which is trained, and from ``weight_hh_base``, a buffer, which an
            orthogonal one starts from.
        weight_hh_diagonal: (G'' H,), for the gates with diagonal wiring; None without any.
        bias: b, (G H,), one per gate and unit, or None.
        backend_used: the backend of the latest call; inside torch.compile, the one asked for.

    Raises:
        DeclarationError: for a cell whose declaration has no meaning.
        ValueError, TypeError: for an argument out of range.

    Cost: G H (C + H) multiply-adds per sequence and step forward, about twice that backward;
    memory in training: the states, N T H numbers per state; compiled cells whose derivative reads
    their activations keep those too, up to 256 MB.

    Example:
        >>> import longlag as ll
        >>> layer = ll.Recurrent(ll.cells.Elman("relu"), input_size=3, hidden_size=5)
        >>> output, state = layer(torch.zeros(2, 7, 3))
        >>> output.shape, state.h.shape
        (torch.Size([2, 7, 5]), torch.Size([2, 5]))
    """

    cell: Cell
    dilation: int = 1
    drive_noise: Callable[[Tensor], Tensor] | None = None
    _weights: str | None = None
    weight_ih: nn.Parameter
    weight_hh: nn.Parameter | None
    weight_hh_diagonal: nn.Parameter | None
    weight_hh_raw: nn.Parameter
    weight_hh_base: Tensor | None
    bias: nn.Parameter | None

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_ih_init: str | Initializer = "glorot",
        weight_hh_init: str | Initializer = "orthogonal",
        density: float | Tensor | None = None,
        bias_init: Chrono | None = None,
        dilation: int = 1,
        replicas: int | None = None,
        weights: str | None = None,
        backend: str = "auto",
        seed: int | torch.Generator | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(cell, Cell):
            hint = f"; write {cell.__name__}()" if isinstance(cell, type) else ""
            raise TypeError(f"cell: got {cell!r}, expected an instance of a Cell class{hint}")
        self.dilation = check_dilation(dilation, cell.recurrence)
        self._set_cell(cell)
        self.input_size = check_whole("input_size", input_size, 0)
        self.hidden_size = self.output_size = check_whole("hidden_size", hidden_size, 1)
        check_groups(self.recurrence, hidden_size)
        self.replicas = None if replicas is None else check_whole("replicas", replicas, 1)
        self.input_dropout = probability("input_dropout", input_dropout)
        self.recurrent_dropout = probability("recurrent_dropout", recurrent_dropout)
        if recurrent_dropout and not self.recurrence.dense_gates:
            raise ValueError(
                f"recurrent_dropout: got {recurrent_dropout}, but {type(cell).__name__} has no "
                "recurrent matrix W to drop from; use input_dropout"
            )
        check_backend(backend)
        self.backend = backend
        self.backend_used: str | None = None
        self._weight_ih_init = initializer("weight_ih_init", weight_ih_init)
        self._weight_hh_init = initializer("weight_hh_init", weight_hh_init)
        self._bias_init = bias_init
        self._rows: dict[str, tuple[Tensor, Tensor]] = {}
        if bias_init is not None:
            self._check_chrono(bias_init, bias)

        def parameter(*shape: int) -> nn.Parameter:
            shape = shape if self.replicas is None else (self.replicas, *shape)
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self._entries: Entries | None = None
        if density is not None and self.recurrence.constrained:
            raise ValueError(
                f"density: got {density!r:.80}, expected None, as {type(cell).__name__} keeps W "
                f"{self.recurrence.constrained}, which only a full matrix can be"
            )
        if density is not None:
            drawing = as_generator(seed, "entries")
            # `load` knows them already.
            known = density if isinstance(density, Entries) else None
            self._set_entries(
                known or draw_entries(self.recurrence, hidden_size, density, drawing), device
            )
        wires, diagonal = len(self.recurrence.wires), len(self._diagonal)
        rows = len(self.recurrence.gates) * hidden_size
        self.weight_ih = parameter(rows, input_size)
        matrix = (wires * hidden_size, hidden_size)
        if self._entries is not None:
            matrix = tuple(self._entries.indices.shape)
        self._register_matrix(parameter, matrix)
        self.weights = weights
        self.register_parameter(
            "weight_hh_diagonal", parameter(diagonal * hidden_size) if diagonal else None
        )
        self.register_parameter("bias", parameter(rows) if bias else None)
        for name, declared in self.recurrence.unit_parameters.items():
            if name not in self._diagonal:
                self._register_unit(name, declared, parameter)
        self.reset_parameters(seed)

    def parts(self, state: Any = None) -> Iterator[LayerPart]:  # noqa: D102
        yield LayerPart("", self, state)

    def _set_cell(self, cell: Cell) -> None:
        self._dilation = Dilation.of(cell.recurrence, self.dilation)
        self.cell, self.recurrence = cell, self._dilation.whole
        register(cell.recurrence)
        register(self.recurrence)
        self._state_type = _state_type(self.recurrence.name, self.recurrence.carried)

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle or a copy holds: all but what follows from the cell."""
        derived = ("recurrence", "_dilation", "_state_type")
        kept = {name: value for name, value in vars(self).items() if name not in derived}
        if recomputes(self):  # their graphs stay here
            kept |= {name: kept[name].detach() for name in self.computed if name in kept}
        return {**kept, "_rows": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._set_cell(self.cell)

    def _set_entries(self, entries: Entries, device: Any) -> None:
        rows = len(self.recurrence.wires) * self.hidden_size
        if len(entries.indptr) != rows + 1:
            raise ValueError(
                f"weight_hh_indptr: got {len(entries.indptr) - 1} rows, expected {rows}"
            )
        indptr, indices = entries.indptr.to(device), entries.indices.to(device)
        self.register_buffer("weight_hh_indptr", indptr)
        self.register_buffer("weight_hh_indices", indices)
        # On the meta device there are no numbers to read.
        own = entries if indptr.is_meta else Entries(indptr, indices, self.hidden_size)
        self._entries = own

    @property
    def density(self) -> float | None:
        """The share of the entries of W that are there; None where W is dense."""
        if self._entries is None:
            return None
        return len(self._entries.indices) / (len(self._entries.indptr) - 1) / self.hidden_size

    @property
    def entries(self) -> Entries | None:
        """Which entries of a sparse W are there; None of a dense one."""
        known = self._entries
        if known is None:
            return None
        places: Any = map(self._buffers.get, ("weight_hh_indptr", "weight_hh_indices"))
        indptr, indices = places
        if not known.come_from(indptr, indices):
            if under_transforms(indptr) is not indptr or under_transforms(indices) is not indices:
                raise ValueError(
                    "weight_hh_indptr, weight_hh_indices: got other places of entries for each "
                    "call of vmap, expected the same for all; map weight_hh alone, with "
                    "in_dims=None for these two"
                )
            known = self._entries = Entries(indptr, indices, self.hidden_size)
        return known

    @property
    def weights(self) -> str | None:
        """What W is rounded to before it is read: ``"bfloat16"``, or None. It may be set."""
        return self._weights

    @weights.setter
    def weights(self, weights: str | None) -> None:
        sparse, dtype = self._entries is not None, self.weight_ih.dtype
        check_weights(weights, self.recurrence, sparse, dtype)
        self._weights = weights

    def recurrent_matrix(self) -> Tensor | None:
        """W as steps read it, a matrix (G' H, H), zero where nothing is there; None without one.

        >>> import longlag as ll
        >>> layer = ll.Elman(1, 50, density=0.1)
        >>> layer.weight_hh.shape, layer.recurrent_matrix().shape
        (torch.Size([250]), torch.Size([50, 50]))
        """
        return matrix_of(self.recurrence, self.weight_hh, self.entries, bool(self._weights))

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, *args: Any, **options: Any
    ) -> None:
        indptr, indices = (
            state_dict.get(f"{prefix}weight_hh_{name}") for name in ("indptr", "indices")
        )
        if self._entries is not None and indptr is not None and indices is not None:
            # A sparse W may come with other entries than this one was made with, and more.
            old = self.weight_hh
            assert old is not None
            self._set_entries(Entries(indptr, indices, self.hidden_size), old.device)
            if old.shape[-1] != len(indices):
                values = old.new_empty((*old.shape[:-1], len(indices)))
                self.weight_hh = nn.Parameter(values, old.requires_grad)
        super()._load_from_state_dict(state_dict, prefix, *args, **options)

    @property
    def _diagonal(self) -> list[str]:
        """Names of the unit parameters that are recurrent weights of diagonal gates."""
        return [name for name in self.recurrence.units if name.startswith("diagonal.")]

    def _check_chrono(self, bias_init: Any, bias: bool) -> None:
        name = type(self.cell).__name__
        if not isinstance(bias_init, Chrono):
            expected = "expected None or longlag.init.Chrono(...)"
            raise TypeError(f"bias_init: got {bias_init!r}, {expected}")
        if not self.cell.keeping_gates:
            raise ValueError(
                f"bias_init: {name} declares no keeping_gates, whose biases Chrono sets; use it "
                "with LSTM or GRU"
            )
        if not bias:
            raise ValueError(f"bias_init: got {bias_init} with bias=False, expected bias=True")

    def _register_matrix(self, parameter: Any, shape: tuple[int, ...]) -> None:
        if not self.recurrence.constrained:
            wires = self.recurrence.wires
            self.register_parameter("weight_hh", parameter(*shape) if wires else None)
            return
        self.register_parameter("weight_hh_raw", parameter(*shape))
        orthogonal = sum(wire.constraint == "orthogonal" for wire in self.recurrence.wires)
        base = (orthogonal * self.hidden_size, self.hidden_size)
        self.register_buffer("weight_hh_base", parameter(*base).detach() if orthogonal else None)

    def __getattr__(self, name: str) -> Any:
        """A W that is no parameter, as the cell keeps it orthogonal or antisymmetric."""
        if name == "weight_hh" and name not in self._parameters and self.recurrence.constrained:
            return constrained_matrix(self.recurrence, self.weight_hh_raw, self.weight_hh_base)
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight_hh" and self.recurrence.constrained:
            raise AttributeError(
                f"weight_hh: {type(self.cell).__name__} keeps it {self.recurrence.constrained}, so "
                "that it follows from weight_hh_raw; change that one in place, or draw anew with "
                "weight_hh_init"
            )
        super().__setattr__(name, value)

    def _register_unit(self, name: str, declared: UnitParameter, parameter: Any) -> None:
        stored = self._stored_name(name)
        if hasattr(self, stored):
            raise DeclarationError(
                f"{type(self.cell).__name__}.unit_parameters: {name!r} is already an attribute of "
                "every layer; choose another name"
            )
        size = 1 if declared.shared else self.hidden_size
        if isinstance(declared.initial, tuple) and len(declared.initial) not in (1, size):
            raise ValueError(
                f"{name}: got {len(declared.initial)} values, expected one, or one for each of the "
                f"{self.hidden_size} units"
            )
        if declared.trained:
            self.register_parameter(stored, parameter(size))
        else:
            self.register_buffer(stored, parameter(size).detach())

    @torch.no_grad()
    def reset_parameters(self, seed: int | torch.Generator | None = None) -> None:
        """Draw the initial parameters anew.

        Args:
            seed: a whole number, a generator, or None for PyTorch's global generator.

        Raises:
            ValueError: a weight is computed from other parameters.
        """
        if self.replaced:
            raise ValueError(
                f"{self.replaced[0]}: is computed from other parameters, whose initial values are "
                "not the layer's to draw; draw before parametrizing or pruning"
            )
        if self.weight_ih.is_meta:
            return  # there is nothing to draw into
        generator = as_generator(seed, "layer")
        for replica in range(self.replicas or 1):
            for stored, draw in self._draws():
                part = stored if self.replicas is None else stored[replica]
                # Drawn on the CPU, and not in half precision, so that a seed means the same there.
                wide = torch.float64 if part.dtype == torch.float64 else torch.float32
                block = torch.empty(part.shape, dtype=wide)
                draw(block, generator)
                part.copy_(block)

    def _draws(self) -> Iterator[tuple[Tensor, Callable[[Tensor, torch.Generator | None], None]]]:
        """Each stored tensor with how one replica's part of it is drawn."""
        hidden, recurrence = self.hidden_size, self.recurrence

        def by_block(initial: Initializer) -> Callable[[Tensor, torch.Generator | None], None]:
            def draw(weight: Tensor, generator: torch.Generator | None) -> None:
                for block in weight.split(hidden, dim=0):
                    initial.fill_(block, generator)

            return draw

        def biases(bias: Tensor, generator: torch.Generator | None) -> None:
            names = [gate.name for gate in recurrence.gates]
            parts = dict(zip(names, bias.split(hidden), strict=True))
            for name, part in parts.items():
                part.fill_(recurrence.initial_bias.get(name, 0.0))
            if self._bias_init is not None:
                drawn = self._bias_init.draw(hidden, generator)
                for name, sign in self.cell.keeping_gates.items():
                    parts[name].copy_(sign * drawn)

        def diagonal(weight: Tensor, generator: torch.Generator | None) -> None:
            for name, part in zip(self._diagonal, weight.split(hidden), strict=True):
                _draw_unit(part, generator, recurrence.unit_parameters[name])

        def matrices(weight: Tensor, generator: torch.Generator | None) -> None:
            if self._entries is None:
                by_block(self._weight_hh_init)(weight, generator)
                weight.copy_(without_blocks(recurrence, weight))
            else:
                initial = self._weight_hh_init
                weight.copy_(
                    draw_values(recurrence, self._entries, initial, generator, weight.dtype)
                )

        def raw(weight: Tensor, generator: torch.Generator | None) -> None:
            draw_raw(recurrence, weight, self._weight_hh_init, generator)
            weight.copy_(without_blocks(recurrence, weight))

        yield self.weight_ih, by_block(self._weight_ih_init)
        if recurrence.constrained:
            if self.weight_hh_base is not None:
                yield self.weight_hh_base, functools.partial(draw_bases, self._weight_hh_init)
            yield self.weight_hh_raw, raw
        elif self.weight_hh is not None:
            yield self.weight_hh, matrices
        if self.weight_hh_diagonal is not None:
            yield self.weight_hh_diagonal, diagonal
        if self.bias is not None:
            yield self.bias, biases
        for name, declared in recurrence.unit_parameters.items():
            if name not in self._diagonal:
                yield self._stored_unit(name), functools.partial(_draw_unit, declared=declared)

    def _stored_name(self, name: str) -> str:
        """The name of the parameter or buffer that holds a unit parameter."""
        return f"{name}_raw" if self._is_raw(name) else name

    def _stored_unit(self, name: str) -> Tensor:
        return getattr(self, self._stored_name(name))

    def _is_raw(self, name: str) -> bool:
        declared = self.recurrence.unit_parameters[name]
        return declared.trained and declared.interval is not None

    def unit(self, name: str) -> Tensor:
        """The value of a unit parameter as the update reads it: (H,), or (R, H) for replicas.

        Args:
            name: its name, such as ``"leak"``.

        Raises:
            KeyError: for a name that the cell does not declare.
        """
        declared = self.recurrence.unit_parameters[name]
        if name in self._diagonal:
            assert self.weight_hh_diagonal is not None
            parts = self.weight_hh_diagonal.split(self.hidden_size, dim=-1)
            return parts[self._diagonal.index(name)]
        if self._is_raw(name):
            assert declared.interval is not None
            low, high = declared.interval
            value = low + (high - low) * torch.sigmoid(self._stored_unit(name))
        else:
            value = self._stored_unit(name)
        return value.expand(*value.shape[:-1], self.hidden_size)

    def unit_rows(self) -> tuple[Tensor, ...]:
        """The values of all unit parameters as `scan` takes them, each (1, H) or (R, 1, H)."""
        return tuple([self._unit_row(name) for name in self.recurrence.units])

    def unit_places(self) -> list[tuple[Tensor, int]]:
        """By unit parameter, the tensor that holds its numbers, and with which they begin there."""
        size, places = self.hidden_size, []
        for name in self.recurrence.units:
            if name in self._diagonal:
                assert self.weight_hh_diagonal is not None
                places.append((self.weight_hh_diagonal, self._diagonal.index(name) * size))
            else:
                places.append((self._stored_unit(name), 0))
        return places

    def _unit_row(self, name: str) -> Tensor:
        """The value of a unit parameter as `scan` takes it: (1, H), or (R, 1, H).

        That of a constant is a view of its buffer, made anew only where the buffer has changed.
        """
        buffer = self._buffers.get(name)
        if buffer is None or not _is_plain(buffer):
            return self.unit(name).unsqueeze(-2)
        known = self._rows.get(name)
        if known is None or known[0] is not buffer or known[1].data_ptr() != buffer.data_ptr():
            known = self._rows[name] = buffer, self.unit(name).unsqueeze(-2)
        return known[1]

    @property
    def computed(self) -> tuple[str, ...]:
        """The weights that are no parameters of the layer: something computes them from others."""
        names = ["weight_ih", "weight_hh", "weight_hh_diagonal", "bias"]
        units = [name for name in self.recurrence.units if name not in self._diagonal]
        names += map(self._stored_name, units)
        return tuple(n for n in names if n not in self._parameters and n not in self._buffers)

    @property
    def replaced(self) -> tuple[str, ...]:
        """Those of them that are so by no declaration of the cell: others have replaced them."""
        names = self.computed
        if self.recurrence.constrained:
            raw = () if "weight_hh_raw" in self._parameters else ("weight_hh_raw",)
            names = (*raw, *(name for name in names if name != "weight_hh"))
        return names

    def _weight(self, name: str) -> Tensor | None:
        """A weight: the parameter, or what a parametrization or pruning has put in its place."""
        parameters = self._parameters  # looked up at once: a short call should stay short
        return parameters[name] if name in parameters else getattr(self, name)

    def forward(
        self,
        x: Tensor,
        state: Any = None,
        lengths: Tensor | None = None,
        resets: Tensor | None = None,
    ) -> tuple[Tensor, Any]:
        """Read sequences.

        Args:
            x: (N, T, C), of the weights' dtype; inside ``torch.autocast`` of any that it casts.
            state: the state before the first step, as this method returns it; zero by default.
                Its dtype is as that of x.
            lengths: (N,) in 0..T, the number of steps of each sequence; the rest is padding,
                whose content, even NaN, changes nothing.
            resets: (N, T), True where the state is set to zero before the step.

        Returns:
            The output (N, T, H), zero in the padding, and the final state: a named tuple of
            (N, H), after each sequence's own last step. Both have the weights' dtype, and so has
            the loop: inside ``torch.autocast`` only the product U x is rounded.

        Raises:
            ValueError, TypeError: for a wrong shape, dtype or device, naming the argument.
        """
        weights = self.scan_weights()
        assert weights.input is not None
        x = check_input(x, self.input_size, self.replicas, weights.input)
        if lengths is not None:
            lengths = check_lengths(lengths, x)
        if resets is not None:
            resets = check_resets(resets, x)
        initial = None
        if state is not None:
            initial = check_state(state, self.recurrence, x, self.hidden_size)
        mask = None
        if self.training:
            x = _drop(x, self.input_dropout, (*x.shape[:-2], 1, x.shape[-1]))
            if self.recurrent_dropout and weights.recurrent is not None:
                ones = x.new_ones((*x.shape[:-2], self.hidden_size))
                mask = nn.functional.dropout(ones, self.recurrent_dropout)
        if self.drive_noise is not None:
            x, weights = with_noise(x, weights, self.drive_noise)
        result = scan_dilated(
            self._dilation,
            x,
            weights,
            initial,
            lengths=lengths,
            resets=resets,
            mask=mask,
            backend=self.backend,
        )
        object.__setattr__(self, "backend_used", result.backend)  # Module's is ten times slower
        return result.output, self.state_of(result.state)

    @property
    def undilated(self) -> Recurrence:
        """The traced cell, whose every step reads the states of ``dilation`` steps before."""
        return self._dilation.recurrence

    def scan_weights(self) -> Weights:
        """All weights as a scan takes them, whatever computes them."""
        matrix, recurrent = self._weight("weight_ih"), self._weight("weight_hh")
        bias, rounded = self._weight("bias"), self._weights is not None
        if rounded and matrix is not None:  # its dtype may have changed since
            check_weights(self._weights, self.recurrence, False, matrix.dtype)
        return Weights(recurrent, self.unit_rows(), matrix, bias, self.entries, rounded)

    def state_of(self, parts: Sequence[Tensor]) -> Any:
        """The state as :meth:`forward` returns it, of its parts in order."""
        return self._state_type(*parts)

    def config(self) -> dict[str, Any]:  # noqa: D102
        common = {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "bias": self.bias is not None,
            "input_dropout": self.input_dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "density": self.density,
            "dilation": self.dilation,
            "replicas": self.replicas,
            "backend": self.backend,
            **self._rounding(),
        }
        if type(self) is Recurrent:
            return {"type": "Recurrent", "cell": describe(self.cell), **common}
        fields = asdict(self.cell) if is_dataclass(self.cell) else {}
        return {"type": type(self).__name__, **fields, **common}

    def _rounding(self) -> dict[str, str]:
        """As :meth:`config` has it, where there is one: files of other layers stay as they were."""
        return {} if self._weights is None else {"weights": self._weights}

    def extra_repr(self) -> str:  # noqa: D102
        parts = [str(self.input_size), str(self.hidden_size)]
        if type(self) is Recurrent:
            parts.insert(0, repr(self.cell))
        if is_dataclass(self.cell) and type(self) is not Recurrent:
            own = asdict(self.cell).items()
            parts += [f"{name}={value!r}" for name, value in own if value is not None]
        if self.dilation > 1:
            parts.append(f"dilation={self.dilation}")
        if self.replicas is not None:
            parts.append(f"replicas={self.replicas}")
        parts += [f"{name}={value!r}" for name, value in self._rounding().items()]
        return ", ".join(parts)


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is numbers in memory, and no stand-in, nor one that leads to a graph."""
    return not (
        tensor.requires_grad
        or type(tensor) is not Tensor
        or torch.compiler.is_compiling()
        or transforms_active()
        or dispatching()
    )


def _draw_unit(block: Tensor, generator: torch.Generator | None, declared: UnitParameter) -> None:
    if isinstance(declared.initial, Uniform):
        block.uniform_(declared.initial.low, declared.initial.high, generator=generator)
    elif isinstance(declared.initial, Groups):
        values = torch.tensor(declared.initial.values, dtype=torch.float64)
        block.copy_(values.repeat_interleave(block.numel() // len(values)))
    elif isinstance(declared.initial, Geometric):
        first, last = map(math.log, (declared.initial.first, declared.initial.last))
        block.copy_(torch.linspace(first, last, block.numel(), dtype=torch.float64).exp())
    elif isinstance(declared.initial, tuple):
        block.copy_(torch.tensor(declared.initial, dtype=torch.float64).expand(block.shape))
    else:
        block.fill_(declared.initial)
    if declared.trained and declared.interval is not None:
        low, high = declared.interval
        block.copy_(torch.logit((block - low) / (high - low)))


def _drop(x: Tensor, probability: float, shape: tuple[int, ...]) -> Tensor:
    """Dropout with one mask for all steps of a sequence."""
    return x if probability == 0.0 else x * nn.functional.dropout(x.new_ones(shape), probability)
