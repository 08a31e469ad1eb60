"""From a model to a file of ONNX that onnxruntime has been seen to run like it."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

import longlag
from longlag.batch import Batch
from longlag.layers import RecurrentModule, SequenceModel
from longlag.layers.evaluation import evaluation_mode
from longlag.onnx.fitted import answer, drawn, encode, encoded, expected_answer, metadata
from longlag.onnx.graph import Graph
from longlag.onnx.modules import add_model, check_module
from longlag.onnx.scan import array
from longlag.onnx.sequences import Sequences, State, States
from longlag.pipeline.fitted import Fitted
from longlag.storage import atomic_write

_DTYPES = {torch.float32: np.float32, torch.float64: np.float64}
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}
"""Of the largest number that a result has, or of 1."""


class ExportError(RuntimeError):
    """onnxruntime does not run the graph, or not as the model runs; nothing was written."""


def export_onnx(
    model: SequenceModel | RecurrentModule | Fitted,
    path: str | Path,
    *,
    resets: bool = False,
    check: bool = True,
) -> None:
    """Write a model as a file of ONNX, for the runtimes that read this format.

    Elman (tanh, relu, sigmoid), LSTM and GRU layers become ONNX's operators RNN, LSTM and GRU; in
    float64, with a dilation, replicas or resets, and of every other cell, yours too, the graph has
    a Scan whose body is the cell's equations. N and T are free. Dropout is left out. A sparse W
    becomes a full matrix.

    The graph has the inputs and outputs

    =====================  ====================================================================
    ``x``                  (N, T, C), of the weights' dtype
    ``lengths``            (N,) int64, in 0..T; T where it is left out, or greater
    ``resets``             (N, T) bool, where it is asked for; False where it is left out
    ``initial_S``          (N, H), of each state S; zeros where it is left out
    ``output``             (N, T, H); of a SequenceModel (N, T, K), or (N, K) for many-to-one
    ``final_S``            as ``initial_S``, after each sequence's own last step
    =====================  ====================================================================

    S is the name of the state, after the path of its layer where there are several: ``h``,
    ``layers_0_c``, ``forward_layer_h``. A state that is read D > 1 steps back is (D, N, H), the
    latest first. R replicas put an R in front of N.

    Args:
        model: a SequenceModel, a layer, or what is made of layers; or what ``longlag train`` made,
            as ``Fitted.load(path)`` of ``longlag.pipeline.fitted`` reads it: x is in units of the
            data, and the output is ``probabilities`` of the classes, or ``values`` in their units.
        path: the file, ``.onnx`` by custom. It is written whole or not at all.
        resets: whether there is an input for resets.
        check: whether onnx's checker and onnxruntime, beside the model, on two lengths of random
            sequences, must agree before anything is written.

    Raises:
        TypeError: a part of the model is a class of your own, or its dtype has no operators.
        ValueError: the weights are more than a file can hold; resets of a NextGeneration layer; a
            forecaster that was trained with relative=True.
        ExportError: with ``check``, the graph runs otherwise than the model.
        OSError: the file cannot be written.

    Example:
        >>> import tempfile, longlag as ll
        >>> path = Path(tempfile.mkdtemp()) / "model.onnx"
        >>> ll.export_onnx(ll.SequenceModel(ll.Skip(3, 4), 2), path)
        >>> session = onnxruntime.InferenceSession(path)
        >>> session.run(["output"], {"x": np.zeros((5, 7, 3), np.float32)})[0].shape
        (5, 2)
    """
    fitted = model if isinstance(model, Fitted) else None
    network: Any = model if fitted is None else fitted.model
    if not isinstance(network, (SequenceModel, RecurrentModule)):
        raise TypeError(
            f"model: got {type(network).__name__}, expected a longlag model, or what longlag train "
            "made; ll.from_torch(...) converts a recurrent module of torch.nn, and torch.onnx "
            "exports any other"
        )
    if fitted is not None and fitted.relative is not None:
        raise ValueError(
            "model: it forecasts relative to the season before, which a graph does not hold; train "
            "it with relative=False (--no_relative)"
        )
    check_module(network)
    layer = network.layer if isinstance(network, SequenceModel) else network
    dtype = layer.like.dtype
    if dtype not in _DTYPES:
        raise TypeError(
            f"model: its weights are {dtype}, expected torch.float32 or torch.float64, for which "
            "ONNX runtimes have operators; use model.float()"
        )
    with evaluation_mode(network), torch.no_grad():
        graph = Graph(_DTYPES[dtype])
        states = _add_all(graph, network, fitted, resets)
        file = graph.model(longlag.__version__, {} if fitted is None else metadata(fitted))
        data = file.SerializeToString()
        if check:
            _Check(network, fitted, states.all, resets, data).run()
    atomic_write(Path(path), lambda file: file.write(data))


def _add_all(graph: Graph, network: Any, fitted: Fitted | None, resets: bool) -> States:
    """The inputs, all nodes and the outputs of a graph."""
    layer = network.layer if isinstance(network, SequenceModel) else network
    front = () if layer.replicas is None else (layer.replicas,)
    dtype = graph.dtype if fitted is None else np.float32
    x = graph.input("x", dtype, (*front, "N", "T", _width(layer, fitted)))
    if fitted is not None:
        x = encode(graph, x, fitted)
    states = States()
    sequences = Sequences.of(graph, x, layer.replicas, resets)
    output, reduced = add_model(network, sequences, states)
    if fitted is None:
        steps = () if reduced else ("T",)
        graph.output("output", output, graph.dtype, (*front, "N", *steps, network.output_size))
    else:
        answer(graph, output, fitted, sequences)
    states.put_out(graph)
    return states


def _width(layer: RecurrentModule, fitted: Fitted | None) -> int:
    """Features of the input of a graph."""
    return layer.input_size if fitted is None else len(fitted.preparation.inputs.mean)


class _Check:
    """The graph beside the model: random sequences of several shapes, one after the other."""

    def __init__(
        self, network: Any, fitted: Fitted | None, states: list[State], resets: bool, data: bytes
    ) -> None:
        self.network, self.fitted, self.states, self.resets = network, fitted, states, resets
        self.layer = network.layer if isinstance(network, SequenceModel) else network
        self.random = np.random.default_rng(0)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            onnx.checker.check_model(data, full_check=True)
            self.session = onnxruntime.InferenceSession(
                data, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own derive from nothing else
            raise ExportError(f"model: its graph is refused: {error}") from error

    def run(self) -> None:
        """Compare: from zeros; with lengths, from the states that came of it; single steps."""
        state = self._compare(3, 7, None, ragged=False)
        state = self._compare(3, 12, state, ragged=True)
        self._compare(1, 1, None, ragged=False)

    def _compare(self, rows: int, steps: int, state: Any, ragged: bool) -> Any:
        front = () if self.layer.replicas is None else (self.layer.replicas,)
        shape = (*front, rows, steps)
        x = self.random.normal(size=(*shape, _width(self.layer, self.fitted)))
        options = {}
        if ragged:
            least = 0 if self.fitted is None else 1
            lengths = self.random.integers(1, steps + 1, shape[:-1])
            lengths[..., 0], lengths[..., -1] = steps, least
            options["lengths"] = lengths
        if self.resets:
            flags = self.random.random(shape) < 0.2
            if ragged:  # in the padding they mean nothing
                flags |= np.arange(steps) >= options["lengths"][..., None]
            options["resets"] = flags
        if self.fitted is None:
            x = x.astype(_DTYPES[self.layer.like.dtype])
        else:
            x = drawn(self.fitted, x, self.random)
        feed = {"x": x, **options}
        if state is not None:
            feed |= dict(self._states("initial", state))
        names = [output.name for output in self.session.get_outputs()]
        try:
            results = dict(zip(names, self.session.run(names, feed), strict=True))
        except Exception as error:  # as above
            raise ExportError(
                f"model: onnxruntime fails at N = {rows} and T = {steps}: {error}"
            ) from error
        expected, final = self._expected(x, state, options)
        expected |= dict(self._states("final", final))
        for name in names:
            ours, theirs = (self._without_units(name, part[name]) for part in (results, expected))
            self._compare_one(name, ours, theirs, f"N = {rows} and T = {steps}")
        return final

    def _expected(self, x: NDArray[Any], state: Any, options: Any) -> tuple[dict[str, Any], Any]:
        if self.fitted is not None:
            x = encoded(self.fitted, x)
            if self.fitted.changes is not None:
                batch = Batch(x.astype(np.float32), None, options.get("lengths"))
                x = self.fitted.changes.apply(batch).x
        like = self.layer.like
        more = {name: torch.from_numpy(value).to(like.device) for name, value in options.items()}
        tensor = torch.from_numpy(x).to(like)
        run = self.network.run if isinstance(self.network, SequenceModel) else self.network
        output, final = run(tensor, state, **more)
        output = output.cpu().numpy()
        if self.fitted is None:
            return {"output": output}, final
        lengths = options.get("lengths", np.full(len(x), x.shape[1]))
        return expected_answer(self.fitted, output, lengths), final

    def _states(self, prefix: str, state: Any) -> Any:
        """By name the states that the graph has, of a state of the model."""
        parts = {part.path: part.state for part in self.layer.parts(state)}
        for kept in self.states:
            held = [array(parts[kept.path][number]) for number in kept.numbers]
            name = getattr(kept, prefix)
            yield name, np.stack(held) if len(held) > 1 else held[0]

    def _without_units(self, name: str, value: Any) -> Any:
        """Values as the network has them, where an error of 1 is large."""
        targets = None if self.fitted is None else self.fitted.preparation.targets
        return value if name != "values" or targets is None else targets.apply(value)

    def _compare_one(self, name: str, ours: Any, theirs: Any, where: str) -> None:
        if ours.shape != theirs.shape:
            problem = f"has the shape {ours.shape}, and {theirs.shape} of the model"
        else:
            tolerance = _TOLERANCE[self.layer.like.dtype]
            size = np.abs(theirs[np.isfinite(theirs)]).max(initial=1.0)
            if np.allclose(ours, theirs, rtol=0.0, atol=tolerance * size, equal_nan=True):
                return
            problem = f"differs from the model's by {np.nanmax(np.abs(ours - theirs)):.3g}"
        raise ExportError(
            f"model: {name!r} of onnxruntime at {where} {problem}; expected at most rounding. A "
            "network that amplifies rounding may be written with check=False"
        )
