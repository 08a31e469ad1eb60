"""One file that holds a JSON document and tensors, with a digest over every byte.

The file is a safetensors file (https://huggingface.co/docs/safetensors): other programs can read
its tensors. The metadata has one entry, "longlag": a JSON object {"sha256", "format", "kind",
"document"}. The digest is the SHA-256 of the whole file with the digest itself replaced by zeros.
Reading runs no code from the file and opens no other file.

Known limits: the file is built and read in memory, so peak memory is about twice the tensors.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors_torch
from torch import Tensor

from longlag.messages import on_one_line
from longlag.storage.atomic import atomic_write, previous_path, read_file
from longlag.storage.trees import JSON

_FORMAT = 1
_ENTRY = "longlag"
_ZEROS = "0" * 64
_DIGEST = re.compile("[0-9a-f]{64}")
_COMPLEX = "complex"  # names of complex tensors: safetensors stores them as pairs of reals
_DTYPES = frozenset(
    {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.uint8}
    | {torch.int64, torch.int32, torch.int16, torch.int8}
)


class ArchiveError(ValueError):
    """A file is not the archive that was asked for: its path, what is wrong, and what to do.

    Attributes:
        damaged: whether the file itself is at fault; False: it is whole, and of another kind or
            version.
    """

    def __init__(self, path: Path, problem: str, fix: str | None = None):
        """With `fix` None the file is taken as damaged; "" says nothing of what to do."""
        self.path = path
        self.problem = problem
        self.damaged = fix is None
        if fix is None:
            kept = previous_path(path)
            fix = (
                f"The file before it is kept as {kept.name}: read that one."
                if os.path.exists(kept)  # also where there can be no such name
                else "Copy or save it again."
            )
        super().__init__(f"{path}: {problem}. {fix}" if fix else f"{path}: {problem}")


def write_archive(
    path: Path,
    kind: str,
    document: JSON,
    tensors: Mapping[str, Tensor],
    *,
    keep_previous: bool = False,
) -> None:
    """Write a document and tensors to one file, atomically.

    Args:
        path: the file; its folder must exist.
        kind: what the file is, for example "model" or "checkpoint"; the reader must ask for the
            same.
        document: a JSON value, without infinities and NaN (`trees.to_document` makes one of any
            state).
        tensors: dense tensors by name, of any device, stride and shape; tensors may share memory.
        keep_previous: keep the file that is replaced as `<name>.previous`.

    Raises:
        TypeError: the document is not JSON, or a tensor has a dtype that safetensors cannot hold.
        OSError: the file cannot be written; the old one is unchanged.

    Cost: one copy of the tensors in memory, one SHA-256 (about 1 GB/s), two fsyncs.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "a.longlag"
    ...     write_archive(path, "example", {"units": 2}, {"weight": torch.ones(2)})
    ...     read_archive(path, "example")
    ({'units': 2}, {'weight': tensor([1., 1.])})
    """
    data = _to_bytes(kind, document, tensors)
    atomic_write(path, lambda file: file.write(data), keep_previous=keep_previous)


def read_archive(path: Path, kind: str) -> tuple[Any, dict[str, Tensor]]:
    """Read the document and the tensors of a file, and check every byte of it.

    Args:
        path: the file.
        kind: what it must be.

    Returns:
        The document and the tensors by name, on the CPU, each with memory of its own.

    Raises:
        ArchiveError: the file is cut short, changed in any bit, no archive, or of another kind.
        OSError: the file is missing or unreadable, or is a folder, a pipe or a device.

    Cost: the file once, one SHA-256.
    """
    data = read_file(path)
    header = _header(path, data)
    digest = header.get("sha256")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ArchiveError(path, "it has no SHA-256, so it is no whole longlag archive")
    if _digest(data.replace(digest.encode(), _ZEROS.encode(), 1)) != digest:
        raise ArchiveError(path, "its bytes do not match its SHA-256: the file is damaged")
    if header.get("format") != _FORMAT:
        form = header.get("format")
        raise ArchiveError(
            path,
            f"it has format {form!r}, and this longlag reads {_FORMAT}: a newer longlag wrote it",
            fix="Update longlag.",
        )
    if header.get("kind") != kind:
        raise ArchiveError(
            path,
            f"it holds a {header.get('kind')!r}, and a {kind!r} was expected",
            fix=f"Give the path of a {kind}.",
        )
    try:
        tensors = safetensors_torch.load(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise ArchiveError(path, f"its tensors cannot be read ({on_one_line(error)})") from error
    pairs = header.get(_COMPLEX)
    if not isinstance(pairs, list) or "document" not in header:
        raise ArchiveError(path, f"its header lacks its document or its list {_COMPLEX!r}")
    for name in pairs:
        try:
            tensors[name] = torch.view_as_complex(tensors[name])
        except (KeyError, TypeError, RuntimeError) as error:
            problem = f"its tensor {name!r:.80} holds no complex numbers"
            raise ArchiveError(path, problem) from error
    return header["document"], tensors


def _to_bytes(kind: str, document: JSON, tensors: Mapping[str, Tensor]) -> bytes:
    header = {
        "sha256": _ZEROS,  # first, so that the first 64 zeros in the file are these
        "format": _FORMAT,
        "kind": kind,
        _COMPLEX: sorted(name for name, tensor in tensors.items() if tensor.is_complex()),
        "document": document,
    }
    text = json.dumps(header, allow_nan=False, separators=(",", ":"))
    plain = {name: _plain(name, tensor) for name, tensor in tensors.items()}
    data = safetensors_torch.save(plain, {_ENTRY: text})
    return data.replace(_ZEROS.encode(), _digest(data).encode(), 1)


def _plain(name: str, tensor: Tensor) -> Tensor:
    """A contiguous copy on the CPU: safetensors refuses tensors that share memory."""
    tensor = tensor.detach().resolve_conj().resolve_neg()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    if tensor.dtype not in _DTYPES:
        raise TypeError(
            f"tensor {name!r} has dtype {tensor.dtype}, which an archive cannot hold; expected "
            f"one of {', '.join(sorted(map(str, _DTYPES)))} or a complex dtype. "
            "Convert it before saving."
        )
    return tensor.to("cpu", copy=True, memory_format=torch.contiguous_format)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _header(path: Path, data: bytes) -> dict[str, Any]:
    """The header: 8 bytes of length (little endian), then JSON; see the safetensors format."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > len(data) - 8:
        raise ArchiveError(
            path,
            f"it ends after {len(data)} bytes: it is cut short, or no file that longlag saved",
        )
    try:
        header = json.loads(data[8 : 8 + size])
        entry = json.loads(header["__metadata__"][_ENTRY])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArchiveError(
            path, "its header cannot be read: it is damaged, or no file that longlag saved"
        ) from error
    if not isinstance(entry, dict):
        raise ArchiveError(path, "its header is no longlag header: it is damaged or no archive")
    return entry
