"""Running a scalar program on PyTorch tensors: every unit, sequence and step at once."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from longlag.recurrence import Program

TORCH: Mapping[str, Callable[..., Tensor | float]] = {
    "constant": lambda value: value,
    "add": torch.add,
    "sub": lambda x, y: x - y,
    "mul": torch.mul,
    "div": lambda x, y: x / y,
    "neg": torch.neg,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "sin": torch.sin,
    "cos": torch.cos,
    "abs": torch.abs,
    "sign": torch.sign,
    "relu": torch.relu,
    "saturate": lambda x: torch.nn.functional.hardtanh(x, 0.0, 1.0),
    "floor": torch.floor,
    "step": lambda x: (x > 0).to(x.dtype),
    "stop_gradient": torch.Tensor.detach,
}
"""What the operations of a program are on tensors; a constant stays a number."""


def run_program(program: Program, inputs: Sequence[Tensor | None]) -> list[Tensor]:
    """The outputs of a program on tensors that broadcast against each other.

    Args:
        program: the program.
        inputs: one tensor per input of the program, in order; None where it reads none.

    Returns:
        One tensor per output, of the shape that the arguments broadcast to only where an operation
        needs them to. An output that is a constant has the shape of the first input.

    Example:
        >>> from longlag.cells import Elman
        >>> drive = h = torch.zeros(2, 3)
        >>> run_program(Elman().recurrence.forward, [drive, h])[0].shape
        torch.Size([2, 3])
    """
    outputs = program.evaluate(TORCH, inputs)
    constants: dict[float, Tensor] = {}  # one that is put out many times is one tensor
    for place, value in enumerate(outputs):
        if not isinstance(value, Tensor):
            if value not in constants:
                like = next(tensor for tensor in inputs if tensor is not None)
                constants[value] = torch.full_like(like, value)
            outputs[place] = constants[value]
    return outputs
