"""Write a trained network as a file of ONNX, which runs without longlag.

MODEL is a file that `longlag train` saved, OUT the new file, such as model.onnx. The graph takes
the features in their own units, and puts out probabilities of the classes or values in the units of
the target; what it was trained on stands in its metadata. It is written when onnxruntime has been
seen to run it like the network.

  longlag export model.longlag model.onnx
"""

from dataclasses import dataclass
from pathlib import Path

from longlag.cli.files import check_model, check_outputs
from longlag.cli.options import UsageError, option

USAGE = "MODEL OUT [options]"


@dataclass(frozen=True)
class Options:
    """Everything that `longlag export` can be told."""

    model: str | None = option(
        group="files", positional=True, required=True, metavar="MODEL",
        help="the file that `longlag train` or `longlag.save` saved",
    )  # fmt: skip
    output: str | None = option(
        group="files", positional=True, required=True, metavar="OUT",
        help="the file of ONNX, an .onnx",
    )  # fmt: skip
    overwrite: bool = option(False, group="files", help="replace the output if it is there")
    resets: bool = option(
        False, group="what", help="an input that sets states to zero before chosen steps",
    )  # fmt: skip
    check: bool = option(
        True, group="what", help="compare the graph with the network before it is written",
    )  # fmt: skip


def run(options: Options) -> None:
    """Export the network.

    Raises:
        UsageError, ArchiveError: the options or the file do not fit; nothing was written.
        ImportError: onnx or onnxruntime is not installed.
    """
    assert options.model is not None
    output = check_outputs(options, {"output": (".onnx",)}, (options.model,))["output"]
    _export(options, check_model("MODEL", options.model), output)


def _export(options: Options, path: Path, output: Path) -> None:
    from rich.console import Console

    from longlag.layers import load_with_metadata
    from longlag.onnx import export_onnx
    from longlag.pipeline.fitted import Fitted

    model, metadata = load_with_metadata(path)
    fitted = Fitted.load(path) if "preparation" in metadata else None
    try:
        export_onnx(fitted or model, output, resets=options.resets, check=options.check)
    except TypeError as error:  # of a model with a part that no graph can be made of
        raise UsageError(f"MODEL {path}: {error}") from error
    what = "the network alone" if fitted is None else "with the preparation of its data"
    Console(highlight=False).print(f"written: {output} ({what})", markup=False, soft_wrap=True)
