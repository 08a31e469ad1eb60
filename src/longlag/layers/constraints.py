"""Matrices that a cell keeps orthogonal or antisymmetric, and what is trained in their place.

The layer trains ``weight_hh_raw``, and reads from it the W of the equations:

- orthogonal: :math:`W = B (I - A)^{-1} (I + A)` with :math:`A = X - X^T`, of a B that was drawn and
  an X that starts at 0 (Cayley's transform);
- antisymmetric: :math:`W = X - X^T`, of an X that was drawn.

Source: K. Helfrich, D. Willmott and Q. Ye, Orthogonal recurrent neural networks with scaled Cayley
transform, ICML 2018.
"""

import torch
from torch import Tensor

from longlag.layers.init import Initializer
from longlag.recurrence import Recurrence

ORTHOGONAL = 1e-4
"""How far the products of a drawn matrix's rows may be from those of an orthogonal one."""


def constrained_matrix(recurrence: Recurrence, raw: Tensor, base: Tensor | None) -> Tensor:
    """W (..., G' H, H) from what is trained and, by row, the B of the orthogonal matrices."""
    hidden = raw.shape[-1]
    bases = iter(() if base is None else base.split(hidden, -2))
    blocks = []
    for wire, block in zip(recurrence.wires, raw.split(hidden, -2), strict=True):
        if wire.constraint == "antisymmetric":
            block = block - block.mT
        elif wire.constraint == "orthogonal":
            drawn = next(bases)
            # In half precision there are no systems of equations.
            wide = torch.promote_types(block.dtype, torch.float32)
            skew = (block - block.mT).to(wide)
            one = torch.eye(hidden, device=skew.device, dtype=wide)
            turned = torch.linalg.solve(one - skew, one + skew)
            block = (drawn.to(wide) @ turned).to(block.dtype)
        blocks.append(block)
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, -2)


def draw_bases(initial: Initializer, weight: Tensor, generator: torch.Generator | None) -> None:
    """Draw the B of all orthogonal matrices.

    Raises:
        ValueError: for an initializer that draws no orthogonal matrix.
    """
    for block in weight.split(weight.shape[-1]):
        initial.fill_(block, generator)
        error = (block @ block.mT - torch.eye(len(block), dtype=block.dtype)).abs().max()
        if not error <= ORTHOGONAL:
            raise ValueError(
                f"weight_hh_init: got {initial}, which draws a matrix that is not orthogonal, and "
                'the cell keeps it so; expected "orthogonal", "identity" or an initializer of '
                "your own that draws such a matrix"
            )


def draw_raw(
    recurrence: Recurrence,
    weight: Tensor,
    initial: Initializer,
    generator: torch.Generator | None,
) -> None:
    """Draw what is trained: 0 for an orthogonal matrix, which is then its B."""
    for wire, block in zip(recurrence.wires, weight.split(weight.shape[-1]), strict=True):
        if wire.constraint == "orthogonal":
            block.zero_()
        else:
            initial.fill_(block, generator)
