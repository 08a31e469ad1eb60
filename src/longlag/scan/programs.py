"""Running a scalar program on PyTorch tensors: every unit, sequence and step at once."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from longlag.recurrence import ARITY, Program

__all__ = ["TorchProgram"]


def _step(x: Tensor) -> Tensor:
    return (x > 0).to(x.dtype)


_OPERATIONS: dict[str, Callable[..., Tensor]] = {
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
    "step": _step,
    "stop_gradient": torch.Tensor.detach,
}


class TorchProgram:
    """A scalar program as a function of tensors that broadcast against each other.

    Operations on constants alone are done once, here. The results have the shape that the
    arguments broadcast to only where an operation needs them to.

    Args:
        program: the program.

    Example:
        >>> from longlag.cells import Elman
        >>> run = TorchProgram(Elman().recurrence.forward)
        >>> run([torch.zeros(2, 3)])[0].shape
        torch.Size([2, 3])
    """

    def __init__(self, program: Program) -> None:
        missing = set(ARITY) - set(_OPERATIONS) - {"constant"}
        if missing:
            raise NotImplementedError(f"operations without a PyTorch form: {sorted(missing)}")
        self.program = program
        first = len(program.inputs)
        self._constants = {
            first + number: operation.value
            for number, operation in enumerate(program.operations)
            if operation.name == "constant"
        }
        self._steps = [
            (first + number, _OPERATIONS[operation.name], operation.arguments)
            for number, operation in enumerate(program.operations)
            if operation.name != "constant"
        ]
        self._size = first + len(program.operations)

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Run the program.

        Args:
            inputs: one tensor per input of the program, in order.

        Returns:
            One tensor per output. An output that is a constant has the shape of the first input.
        """
        values: list[Tensor | float] = [*inputs, *([0.0] * (self._size - len(inputs)))]
        for number, constant in self._constants.items():
            values[number] = constant
        for number, function, arguments in self._steps:
            values[number] = function(*[values[index] for index in arguments])
        results: dict[int, Tensor] = {}  # a constant that is put out many times is one tensor
        for output in self.program.outputs:
            value = values[output]
            if isinstance(value, Tensor):
                results[output] = value
            elif output not in results:
                results[output] = torch.full_like(inputs[0], value)
        return [results[output] for output in self.program.outputs]
