"""torch.compile sees one operator; torch.func sees plain operations."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import longlag as ll


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "count"), [("some", 6), pytest.param("all", 31, marks=pytest.mark.long)]
)
def test_one_graph_gives_what_eager_gives(which, count):
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "graphs.py"), which],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("agrees") == count


@pytest.mark.slow
def test_the_operator_keeps_the_rules_of_operators():
    layer = ll.GRU(3, 4, dtype=torch.float64)
    recurrence = layer.recurrence
    drive = torch.randn(3, 2, 12, dtype=torch.float64, requires_grad=True)
    weight = layer.weight_hh.detach().clone().requires_grad_()
    units = [layer.unit("bias_hn").detach().clone().unsqueeze(0).requires_grad_()]
    initial = [torch.randn(2, 4, dtype=torch.float64, requires_grad=True)]
    given = (recurrence.key, "auto", drive, weight, "", initial, units, None, None, None, None)
    torch.library.opcheck(
        torch.ops.longlag.scan.default, given, test_utils=("test_schema", "test_faketensor")
    )


def test_inside_transforms_auto_is_the_reference():
    layer = ll.LSTM(3, 5)
    x = torch.randn(2, 4, 3)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def total(bias):
        given = {**parameters, "bias": bias}
        return torch.func.functional_call(layer, given, (x,))[0].square().sum()

    found = torch.func.grad(total)(parameters["bias"])
    assert layer.backend_used == "reference"
    layer(x)[0].square().sum().backward()
    assert layer.backend_used == "cpu"
    torch.testing.assert_close(found, layer.bias.grad)
