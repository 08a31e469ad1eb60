"""Where records go, and who tells of updates: TensorBoard and Lightning."""

import importlib
from pathlib import Path
from typing import Any, Protocol

from longlag.memory.watch.record import MemoryRecord


class _Recorder(Protocol):
    updates: int

    def after_update(self, step: int) -> None: ...


class Writer(Protocol):
    """What takes numbers, such as a SummaryWriter of TensorBoard."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int, /) -> Any:
        """Take one number."""
        ...


def make_writer(writer: Any) -> tuple[Any, bool]:
    """The writer that was given, or one for a folder; and whether it was made here."""
    if writer is None or callable(getattr(writer, "add_scalar", None)):
        return writer, False
    if not isinstance(writer, str | Path):
        raise TypeError(
            f"writer: got {type(writer).__name__}, expected a folder, or an object with a method "
            "add_scalar(tag, value, step)"
        )
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise ImportError(
            f"writer: got the folder {str(writer)!r}, and TensorBoard is not installed; "
            'pip install "longlag[tensorboard]"'
        ) from error
    return SummaryWriter(str(writer)), True


def write(writer: Writer, record: MemoryRecord) -> None:
    """Add all numbers of a record."""

    def add(tag: str, value: float | None) -> None:
        if value is not None:
            writer.add_scalar(f"memory/{tag}", value, record.step)

    for name, lag in record.horizon.items():
        add(f"horizon/{name}", lag)
    for name, curve in record.log_norms.items():
        front = "" if len(record.log_norms) == 1 else f"{name}/"
        for lag, value in zip(record.lags, curve, strict=True):
            add(f"log_norm/{front}lag_{lag}", value)
    for kind, numbers in (("norm", record.norms), ("radius", record.radii)):
        for name, value in numbers.items():
            add(f"{kind}/{name}", value)
    add("gradient_norm", record.gradient_norm)


def lightning_callback(recorder: _Recorder) -> Any:
    """A callback for the Trainer of Lightning; see `MemoryRecorder.lightning`."""
    for name in ("lightning.pytorch", "pytorch_lightning"):
        try:
            base: Any = importlib.import_module(name).Callback
        except ImportError:
            continue
        break
    else:
        raise ImportError(
            "lightning: neither lightning nor pytorch_lightning is installed; pip install lightning"
        )

    class MemoryCallback(base):
        """Tells the recorder of each update; of several processes, in the first."""

        def on_train_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:
            """Where gradients are accumulated, a batch may end without an update."""
            if trainer.is_global_zero and trainer.global_step != recorder.updates:
                recorder.after_update(trainer.global_step)

    return MemoryCallback()
