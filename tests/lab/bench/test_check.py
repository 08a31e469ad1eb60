import math

import pytest
import torch

from longlag.lab.bench.check import TOLERANCE, largest_difference

RIGHT = {
    "output": torch.tensor([1.0, -4.0], dtype=torch.float64),
    "weight": torch.tensor([1e-6, 2e-6], dtype=torch.float64),
}


def test_the_difference_is_a_share_of_the_largest_number():
    found = {"output": RIGHT["output"].float(), "weight": torch.tensor([1e-6, 2.2e-6])}
    worst = largest_difference(found, RIGHT)
    assert worst.tensor == "weight"
    assert worst.value == pytest.approx(0.1, rel=1e-4)
    assert not worst.accepted


def test_float32_rounding_is_accepted_and_more_is_not():
    for share, accepted in ((0.5 * TOLERANCE, True), (2 * TOLERANCE, False)):
        found = {name: right * (1 + share) for name, right in RIGHT.items()}
        assert largest_difference(found, RIGHT).accepted is accepted


def test_nan_a_wrong_shape_and_a_gradient_that_is_missing_are_refused():
    found = {"output": torch.tensor([1.0, math.nan]), "weight": RIGHT["weight"]}
    assert not largest_difference(found, RIGHT).accepted
    assert largest_difference(found, RIGHT).tensor == "output"
    found = {"output": torch.ones(3), "weight": RIGHT["weight"]}
    assert largest_difference(found, RIGHT).value == math.inf
    found = {"output": RIGHT["output"], "other": RIGHT["weight"]}
    assert largest_difference(found, RIGHT) == ("weight", math.inf)


def test_a_forward_pass_is_judged_by_its_output():
    assert largest_difference({"output": RIGHT["output"]}, RIGHT) == ("output", 0.0)
