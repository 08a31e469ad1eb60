"""Run in a process of its own: writes down with what torch tests its own recurrent modules.

``torch.testing._internal`` freezes settings of torch at its import, and imports a test framework.
"""

import sys
import types
import unittest

import torch

try:
    import expecttest  # noqa: F401 # pyright: ignore[reportMissingImports]
except ImportError:  # of it, only the name of its test case is read
    stand_in = types.ModuleType("expecttest")
    vars(stand_in).update(TestCase=unittest.TestCase, assert_expected_inline=None)
    sys.modules["expecttest"] = stand_in

from torch.testing._internal.common_modules import ModuleErrorEnum, module_db

OPTIONS = {"device": "cpu", "dtype": torch.float64, "requires_grad": False, "training": True}


def main(path: str) -> None:
    """See the module."""
    names = {nn: nn.__name__ for nn in (torch.nn.RNN, torch.nn.LSTM, torch.nn.GRU)}
    inputs, errors = {}, {}
    for info in module_db:
        if info.module_cls in names:
            name = names[info.module_cls]
            inputs[name] = [
                (case.constructor_input.kwargs, case.forward_input.args)
                for case in info.module_inputs_func(info, **OPTIONS)
            ]
            errors[name] = [
                (case.constructor_input.args, case.constructor_input.kwargs)
                for case in (
                    error.module_error_input
                    for error in info.module_error_inputs_func(info, **OPTIONS)
                    if error.error_on == ModuleErrorEnum.CONSTRUCTION_ERROR
                )
            ]
    torch.save({"inputs": inputs, "errors": errors}, path)


if __name__ == "__main__":
    main(sys.argv[1])
