"""How the recurrent matrix W is stored, and what it is as a matrix.

A dense W is stored as it is, (W H, H) with H rows for each wire; where a pattern leaves blocks out
they count as zero, whatever stands in them. A sparse one is stored as the numbers (E,) of the
entries that are there. Every other room asks here for W as a matrix, and for its gradient as it is
stored. A W may be read with its numbers rounded to bfloat16: what is stored is then not rounded.
"""

import functools
import itertools
import uuid
import weakref
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from longlag.recurrence import Recurrence
from longlag.torch_private import has_tangent, transforms_active, version

_PROCESS, _NUMBERS = uuid.uuid4().hex, itertools.count()
_KNOWN: "weakref.WeakValueDictionary[str, Entries]" = weakref.WeakValueDictionary()


class Entries:
    """Which entries of a sparse recurrent matrix are there, in compressed rows (CSR).

    They do not change. R replicas share them, each with numbers of its own.

    Args:
        indptr: (W H + 1,) whole numbers: row i has the entries indptr[i] .. indptr[i + 1] - 1.
        indices: (E,) whole numbers, of each entry its column, in 0 .. H - 1, rising within a row.
        hidden: H.

    Attributes:
        key: a name of these entries within the process.
        places: (E,), where each entry stands in the matrix (W H, H) as one list.

    Raises:
        ValueError: they describe no such matrix.
    """

    def __init__(self, indptr: Tensor, indices: Tensor, hidden: int) -> None:
        problem = _problem(indptr, indices, hidden)
        if problem:
            raise ValueError(
                f"sparse recurrent matrix: {problem}; expected compressed rows as "
                "scipy.sparse.csr_array has them"
            )
        # Kernels read memory by these numbers: they are copies, which nobody changes.
        self.indptr, self.indices, self.hidden = indptr.clone(), indices.clone(), hidden
        self._origin = (indptr, indices, version(indptr), version(indices))
        self.key = f"entries-{_PROCESS}-{next(_NUMBERS)}"
        rows = torch.arange(len(indptr) - 1, device=indptr.device)
        self.rows = rows.repeat_interleave(indptr.diff(), output_size=len(indices))
        self.places = self.rows * hidden + indices
        _KNOWN[self.key] = self

    @classmethod
    def of(cls, there: Tensor) -> "Entries":
        """From a matrix (W H, H) that is True where an entry is."""
        counts = there.sum(-1)
        indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return cls(indptr, there.nonzero()[:, 1], there.shape[-1])

    def cpu(self) -> "Entries":
        """The same on the CPU."""
        if self.indices.device.type == "cpu":
            return self
        return Entries(self.indptr.cpu(), self.indices.cpu(), self.hidden)

    def come_from(self, indptr: Tensor, indices: Tensor) -> bool:
        """Whether they were made of these tensors as they are now."""
        if torch.compiler.is_compiling():
            return True
        first, second, *versions = self._origin
        same = first is indptr and second is indices
        return same and versions == [version(indptr), version(indices)]

    def __deepcopy__(self, memo: dict[int, Any]) -> "Entries":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Entries, (self.indptr, self.indices, self.hidden)

    def dense(self, values: Tensor) -> Tensor:
        """From the numbers (..., E) to the matrix (..., W H, H), differentiable."""
        size = (len(self.indptr) - 1) * self.hidden
        flat = values.new_zeros((*values.shape[:-1], size)).index_copy(-1, self.places, values)
        return flat.unflatten(-1, (-1, self.hidden))

    def values(self, matrix: Tensor) -> Tensor:
        """From a matrix (..., W H, H) to the numbers (..., E) of its entries."""
        return matrix.flatten(-2).index_select(-1, self.places)


def _problem(indptr: Tensor, indices: Tensor, hidden: int) -> str:
    for name, tensor in (("indptr", indptr), ("indices", indices)):
        if tensor.dim() != 1 or tensor.dtype != torch.int64:
            return f"{name}: got {tuple(tensor.shape)} of {tensor.dtype}, expected int64 in a row"
    counts = indptr.diff()
    if len(counts) == 0 or len(counts) % hidden:
        return f"indptr: got {len(counts)} rows, expected a multiple of {hidden}"
    if int(indptr[0]) != 0 or int(indptr[-1]) != len(indices) or bool((counts < 0).any()):
        return f"indptr: expected numbers that rise from 0 to the {len(indices)} entries"
    if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < hidden:
        return f"indices: expected columns in 0 .. {hidden - 1}"
    begins = torch.zeros(len(indices) + 1, dtype=torch.bool, device=indptr.device)
    begins[indptr] = True
    if bool((indices.diff() <= 0).masked_fill(begins[1:-1], False).any()):
        return "indices: expected columns that rise within each row"
    return ""


def known_entries(key: str) -> Entries | None:
    """Those that a key names; None for the empty one."""
    if key and key not in _KNOWN:
        raise RuntimeError(
            "the graph runs a sparse recurrent matrix whose places are known only to the process "
            "that exported it, as long as its layer is there; use ll.save and ll.load"
        )
    return _KNOWN[key] if key else None


@functools.lru_cache(maxsize=64)
def _left_out(recurrence: Recurrence, hidden: int) -> NDArray[np.bool_]:
    parts = []
    for wire in recurrence.wires:
        pattern = np.array(wire.pattern or ((1,),), dtype=bool)
        size = hidden // len(pattern)
        parts.append(~pattern.repeat(size, 0).repeat(size, 1))
    return np.concatenate(parts)


def blocks_left_out(recurrence: Recurrence, hidden: int, device: torch.device) -> Tensor:
    """Where patterns have no block: a matrix (W H, H) of True."""
    return torch.as_tensor(_left_out(recurrence, hidden), device=device)


def without_blocks(recurrence: Recurrence, matrix: Tensor) -> Tensor:
    """A matrix (..., W H, H), zero where patterns have no block, whatever stands there."""
    if not recurrence.patterned:
        return matrix
    return matrix.masked_fill(blocks_left_out(recurrence, matrix.shape[-1], matrix.device), 0.0)


def _as_bfloat16(stored: Tensor) -> Tensor:
    """Each number rounded to one of bfloat16, in the dtype that it has; the gradient goes straight
    through."""
    rounded = stored.detach().to(torch.bfloat16).to(stored.dtype)
    recorded = stored.requires_grad and torch.is_grad_enabled()
    if not (recorded or transforms_active() or has_tangent([stored])):
        return rounded
    return stored + (rounded - stored).detach()  # the difference of numbers as near has no rounding


def matrix_of(
    recurrence: Recurrence, stored: Tensor | None, entries: Entries | None, bfloat16: bool = False
) -> Tensor | None:
    """W as a matrix (W H, H), zero where nothing is there; None without any. Differentiable.

    With ``bfloat16`` each number is rounded to the nearest of that type, of two as near to the even
    one; its gradient is that of the rounded one.
    """
    if stored is None:
        return None
    if bfloat16:
        stored = _as_bfloat16(stored)
    return without_blocks(recurrence, stored) if entries is None else entries.dense(stored)


def stored_gradient(recurrence: Recurrence, entries: Entries | None, matrix: Tensor) -> Tensor:
    """From the gradient by W as a full matrix (..., W H, H) to that by what is stored."""
    return without_blocks(recurrence, matrix) if entries is None else entries.values(matrix)
