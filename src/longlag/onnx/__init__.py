"""Networks as ONNX graphs, and from them; an import of this package imports onnx."""

import importlib


def _check_packages() -> None:
    """What the extra brings is there."""
    for name in ("onnx", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            fix = 'install it with: pip install "longlag[onnx]"'
            raise ModuleNotFoundError(f"longlag.onnx: needs {name}; {fix}", name=name) from None


_check_packages()

from longlag.onnx.export import ExportError, export_onnx  # noqa: E402
from longlag.onnx.loading import from_onnx  # noqa: E402
from longlag.onnx.reading import LoadError  # noqa: E402

__all__ = ["ExportError", "LoadError", "export_onnx", "from_onnx"]
