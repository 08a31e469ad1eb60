"""onnxruntime on the graph of a file, and what it says beside a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch


def session(path: Any) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # it says of each input with a default that it has one
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(path: Any, **feed: Any) -> dict[str, Any]:
    """The outputs by name, of tensors or arrays by name."""
    runtime = session(path)
    return answer(runtime, **feed)


def answer(runtime: onnxruntime.InferenceSession, **feed: Any) -> dict[str, Any]:
    names = [output.name for output in runtime.get_outputs()]
    return dict(zip(names, runtime.run(names, {k: np.asarray(v) for k, v in feed.items()}),
                    strict=True))  # fmt: skip


def operators(path: Any) -> list[str]:
    """The types of the nodes that have a past, in order."""
    nodes = onnx.load(str(path)).graph.node
    return [node.op_type for node in nodes if node.op_type in ("RNN", "LSTM", "GRU", "Scan")]


def assert_close(ours: Any, theirs: Any, within: float = 1e-5) -> None:
    if isinstance(theirs, torch.Tensor):
        theirs = theirs.detach().numpy()
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=within)
