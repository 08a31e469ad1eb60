"""Where the numbers of a training go beside the history: a logger of Fabric, by its name."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from longlag.messages import Setting
from longlag.pipeline.settings import SettingsError

if TYPE_CHECKING:
    from lightning_fabric.loggers.logger import Logger

PROJECT = "longlag"
"""What Weights & Biases calls the project, and MLflow the experiment."""

_NEEDED = {
    "tensorboard": ("tensorboard",),
    "wandb": ("wandb", "pytorch_lightning"),
    "mlflow": ("mlflow", "pytorch_lightning"),
}


def make_logger(kind: str, folder: Path, name: str) -> "Logger | None":
    """The logger of a run; it writes nothing before the first record.

    Args:
        kind: "tensorboard", "csv", "wandb", "mlflow" or "none"; "auto": TensorBoard where it is
            installed, else none. MLflow takes the server of MLFLOW_TRACKING_URI, or a file.
        folder: where local files go.
        name: of the run.

    Raises:
        SettingsError: its package is not installed.

    >>> make_logger("none", Path("logs"), "model") is None
    True
    """
    if kind == "auto":
        kind = "tensorboard" if find_spec("tensorboard") else "none"
    missing = [package for package in _NEEDED.get(kind, ()) if find_spec(package) is None]
    if missing:
        raise SettingsError(
            Setting("logger"), f": {kind} needs {missing[0]}, which is not installed; "
            f'pip install "longlag[{kind}]", or use ', Setting("logger", "csv"),
        )  # fmt: skip
    if kind == "none":
        return None
    if kind in ("tensorboard", "csv"):
        from lightning_fabric.loggers.csv_logs import CSVLogger
        from lightning_fabric.loggers.tensorboard import TensorBoardLogger

        if kind == "csv":
            return CSVLogger(folder, name)
        return TensorBoardLogger(folder, name, default_hp_metric=False)
    from pytorch_lightning.loggers import (  # pyright: ignore[reportMissingImports]
        MLFlowLogger,
        WandbLogger,
    )

    folder.mkdir(parents=True, exist_ok=True)
    if kind == "wandb":
        return WandbLogger(name=name, project=PROJECT, save_dir=folder)
    server = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    return MLFlowLogger(experiment_name=PROJECT, run_name=name, tracking_uri=server)
