"""The modules of a model in evaluation mode; the rest is in tests/memory/watch."""

import pytest
from torch import nn

from longlag.layers.evaluation import evaluation_mode


def test_each_module_gets_its_own_mode_back_after_a_failure_too():
    model = nn.Sequential(nn.Linear(1, 1), nn.Dropout(0.5).eval())

    def failing():
        with evaluation_mode(model):
            assert not any(module.training for module in model.modules())
            raise RuntimeError("within")

    with pytest.raises(RuntimeError, match="within"):
        failing()
    assert [module.training for module in model.modules()] == [True, True, False]
