"""Measuring the memory of a model as it stands: hooks on its recurrent modules, and no changes.

A watched module is measured by what it last read. The measurement itself is made of a module of
longlag with the same weights: `from_torch` gives one for a module of torch.nn. Nothing of it is
part of the model's own passes, whose numbers are the same bits as without.
"""

import functools
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from typing_extensions import Self

from longlag.layers.base import RecurrentModule
from longlag.memory.measures.directions import reads_back_inside
from longlag.memory.measures.flow import ErrorFlow, product
from longlag.memory.measures.jacobians import state_jacobians
from longlag.memory.measures.modules import reader_of, recurrent_modules
from longlag.memory.measures.norms import jacobian_norms
from longlag.memory.measures.parts import Part, flow_of, last_step_with_error, parts_of
from longlag.memory.measures.spectra import SpectralFacts, facts_by_layer
from longlag.memory.report.report import MemoryReport, memory_report
from longlag.memory.watch.calls import Call, stands_in
from longlag.torch_private import backward_pass

T = TypeVar("T")


class Watch(Mapping[str, "Watched"]):
    """The watched modules of a model by name; what :func:`watch` returns.

    A mapping, and a context manager that closes itself. When it is closed, or no longer referred
    to, its hooks are gone; what they have seen can still be measured.
    """

    def __init__(self, model: nn.Module) -> None:
        modules = recurrent_modules(model)
        self._watched = {name: Watched(name, module) for name, module in modules.items()}
        handles = [
            modules[name].register_forward_hook(_Hook(watched), with_kwargs=True)
            for name, watched in self._watched.items()
        ]
        self._finalizer = weakref.finalize(self, _remove, handles, tuple(self._watched.values()))
        self._finalizer.atexit = False

    @property
    def names(self) -> tuple[str, ...]:
        """The paths of the watched modules in the model; "" is the model itself."""
        return tuple(self._watched)

    @property
    def closed(self) -> bool:
        """Whether its hooks are gone."""
        return not self._finalizer.alive

    def close(self) -> None:
        """Take the hooks off; a second call does nothing."""
        self._finalizer()

    def __getitem__(self, name: str) -> "Watched":
        if name not in self._watched:
            known = ", ".join(map(repr, self._watched))
            raise KeyError(f"name: got {name!r}, expected one of {known}")
        return self._watched[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._watched)

    def __len__(self) -> int:
        return len(self._watched)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Watch({', '.join(map(repr, self.names))}{', closed' if self.closed else ''})"


class Watched:
    """One recurrent module, and what it last read.

    All measurements are of the module's present weights, without dropout, and of the last pass:
    the sequences that it read, their lengths (of a PackedSequence, or as given) and the state that
    it started from. Half-precision weights are measured in float32.

    Several layers that read in both directions have no joint state that goes from one step to the
    next: for the layer above, the past is in part the future of the layer below. There each layer
    is measured for itself, and a method gives a dictionary of its results by layer, such as
    ``"layers.0"``.

    Attributes:
        name: the path of the module in the model.
    """

    def __init__(self, name: str, module: nn.Module) -> None:
        self.name = name
        self._module = weakref.ref(module)
        self._open = True
        self._last: Call | None = None
        self._graded: Call | None = None

    def norms(self, **options: Any) -> Any:
        """:func:`~longlag.memory.jacobian_norms` of the last pass.

        Args:
            options: as there. `lengths`, `resets` or `state` overrule what was seen: a model that
                pads without packing can say here which steps count.

        Returns:
            `JacobianNorms`; `Directions` of two for a bidirectional module; by layer for several.

        Raises:
            ValueError: the module has read nothing yet, is gone, or has a projection
                (``proj_size``); what it read has been changed in place since.

        Cost: as there, and a copy of the weights of a module of torch.nn.
        """
        return self._measured(jacobian_norms, options)

    def jacobians(self, **options: Any) -> Any:
        """:func:`~longlag.memory.state_jacobians` of the last pass; as :meth:`norms`."""
        return self._measured(state_jacobians, options)

    def flow(self, *, step: int | Literal["all"] | None = None, **options: Any) -> ErrorFlow:
        r"""Where the error of the last backward pass goes, back in time.

        The gradient :math:`\partial E / \partial y_t` that came to the module's output y is
        followed by :func:`~longlag.memory.error_flow`. An error that entered by the final state of
        the top layer, h_n, counts as one of the last output, which is the same number.

        Args:
            step: whose error, as for `error_flow`. By default that of the last step at which
                any sequence has one, counted from each sequence's own end: -1 where the last
                output is read, as in a classifier, or where each output is.
            options: further ones of `error_flow`; `lengths`, `resets` or `state` as in
                :meth:`norms`.

        Returns:
            The flow through each layer. Its ``loss`` is the sum of output times gradient, not E,
            which the hooks do not see. Of several bidirectional layers each has its own whole
            error, and its own last step that has one.

        Raises:
            ValueError: no gradient has been seen; or part of the error entered by another state
                than the output, such as c_n; and as :meth:`norms`.
        """
        call = self._graded
        if call is None:
            raise ValueError(
                f"{self._called}: no gradient of its output has been seen; expected a backward "
                "pass of a loss since it was watched. Call loss.backward() first"
            )
        flows = [flow_of(part, step, **options) for part in self._parts(call, self._error(call))]
        layers = tuple(layer for flow in flows for layer in flow.layers)
        return ErrorFlow(flows[-1].loss, flows[-1].step, layers)

    def facts(self) -> dict[str, SpectralFacts]:
        """:func:`~longlag.memory.spectral_facts` by layer; "" for a module of one layer."""
        return facts_by_layer(self._both()[1])

    def report(self, *, gradient: bool | None = None, **options: Any) -> MemoryReport:
        """:func:`longlag.memory.memory_report` of the module; as :meth:`norms`.

        Args:
            gradient: whether the error is that of the last backward pass, and the sequences are
                those of the pass that it belongs to. By default wherever one has been seen.
                Without, the sequences are those of the last pass, and the report takes as error
                what it takes where no target is given.
            options: further ones of `memory_report`.

        Raises:
            ValueError: as :meth:`norms`, and as :meth:`flow` where a gradient is taken.
        """
        graded = None if gradient is False else self._graded
        if gradient and graded is None:
            raise ValueError(
                f"{self._called}: gradient=True, and none has been seen; call loss.backward() "
                "first, or give gradient=None"
            )
        call = self._latest() if graded is None else graded
        error = None if graded is None else self._error(graded)
        call.check_unchanged(self._called)
        module, reader = self._both()
        inputs = call.inputs(module, reader)
        arguments = {**inputs._asdict(), **options, "x": inputs.x}
        if error is not None:
            inputs = inputs._replace(lengths=arguments["lengths"])
            step = last_step_with_error(Part("", reader, inputs, error), inputs.lengths)
            alone = not reads_back_inside(reader)
            arguments = {"target": error, "loss": product, "step": step if alone else None} | (
                arguments
            )
        return memory_report(reader, **{"name": self.name or None, **arguments})

    @property
    def x(self) -> Tensor:
        """What the module last read, (N, T, C) whatever its own layout; ValueError before."""
        return self._latest().inputs(*self._both()).x

    @property
    def lengths(self) -> Tensor | None:
        """The steps that counted, (N,), of a PackedSequence or as given; None for all."""
        return self._latest().inputs(*self._both()).lengths

    @property
    def gradient(self) -> Tensor | None:
        """The error at the output in the last backward pass, (N, T, H); None before one."""
        return None if self._graded is None else self._error(self._graded)

    @property
    def _called(self) -> str:
        module = self._module()
        return self.name or ("the model" if module is None else type(module).__name__)

    def _both(self) -> tuple[nn.Module, RecurrentModule]:
        """The module, and one of longlag with its present weights."""
        module = self._module()
        if module is None:
            raise ValueError(f"{self._called}: the watched model is gone; keep a reference to it")
        return module, reader_of(self._called, module)

    def _latest(self) -> Call:
        if self._last is None:
            raise ValueError(
                f"{self._called}: has read nothing since it was watched; expected a pass of the "
                "model before. Passes inside torch.compile, torch.jit.trace and torch.func are not "
                "seen: run the model once without"
            )
        return self._last

    def _measured(self, measure: Callable[..., Any], options: Mapping[str, Any]) -> Any:
        """A measure of the last pass, or by layer for several."""
        parts = self._parts(self._latest(), None)
        return _by_part(parts, lambda part: measure(part.layer, **part.arguments(options)))

    def _parts(self, call: Call, error: Tensor | None) -> list[Part]:
        call.check_unchanged(self._called)
        module, reader = self._both()
        return parts_of(reader, call.inputs(module, reader), error)

    def _error(self, call: Call) -> Tensor:
        call.check_unchanged(self._called)
        return call.error(self._called, *self._both())

    def _note(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        call = Call.of(module, args, kwargs)
        if call is None or not self._open:
            return
        self._last = call
        for slot, tensor in call.outputs(output):
            if tensor.requires_grad:
                tensor.register_hook(functools.partial(self._grade, call, slot))

    def _grade(self, call: Call, slot: int, gradient: Tensor | None) -> None:
        """Keep a gradient; one of another backward pass than the others replaces them."""
        if gradient is None or not self._open or stands_in(gradient):
            return
        task = backward_pass()
        if call.task != task:
            call.task, call.gradients = task, {}
        call.gradients[slot] = gradient.detach()
        self._graded = call

    def __repr__(self) -> str:
        return f"Watched({self._called!r})"


def watch(model: nn.Module) -> Watch:
    """Watch the recurrent modules of a model, to measure how far back they remember.

    Each recurrent module of torch.nn (RNN, LSTM, GRU; any number of layers, both directions, any
    layout, PackedSequence or not) and of longlag (a layer, `Stack` or `Bidirectional`, the
    outermost only) gets a forward hook. It keeps what the module last read; a hook on its output
    keeps the gradient there when a backward pass comes through. The model's outputs and gradients
    are the same bits as without.

    Args:
        model: any module that holds such modules, or is one; in training or not. Of a compiled
            model, watch the model that was compiled.

    Returns:
        A mapping from the modules' paths in the model to what can be asked of each: ``norms()``,
        ``jacobians()``, ``flow()``, ``facts()``, ``report()``.

    Raises:
        TypeError: the model is no torch.nn.Module.
        ValueError: it holds no such module, or only ones with ``proj_size``.

    Passes inside torch.compile, torch.jit.trace and torch.func leave nothing behind. A module that
    is called several times keeps the last call. A copy of the model, by copy.deepcopy or saved as
    a whole, is not watched. torch.jit.script takes no module with such hooks: close the watch
    first.

    Cost: some microseconds a pass. Memory, until the next pass: of each module the sequences that
    it read last, and those of the last backward pass with its gradient, N T (C + H) numbers and
    the states. They are kept by reference: what has been changed in place since is refused.

    >>> import longlag as ll
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.GRU(3, 8, batch_first=True))
    >>> with ll.watch(model) as watched:
    ...     output, _ = model(torch.ones(4, 30, 2))
    ...     output[:, -1].sum().backward()
    >>> watched.names
    ('1',)
    >>> watched["1"].norms().largest.mean.shape
    torch.Size([31])
    >>> watched["1"].flow().layers[0].by_lag.shape
    torch.Size([31])
    """
    return Watch(model)


class _Hook:
    """The forward hook of one module; of a copy of the module, one that does nothing."""

    def __init__(self, watched: Watched | None = None) -> None:
        self._watched = watched

    def __call__(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if torch.compiler.is_compiling():
            return
        watched = self._watched
        # Replicas of DataParallel share their hooks.
        if watched is not None and watched._module() is module:
            watched._note(module, args, kwargs, output)

    def __reduce__(self) -> tuple[type, tuple[()]]:
        return _Hook, ()


def _remove(handles: list[RemovableHandle], modules: tuple[Watched, ...]) -> None:
    for handle in handles:
        handle.remove()
    for watched in modules:
        watched._open = False


def _by_part(parts: list[Part], measured: Callable[[Part], T]) -> "T | dict[str, T]":
    if len(parts) == 1 and not parts[0].name:
        return measured(parts[0])
    return {part.name: measured(part) for part in parts}
