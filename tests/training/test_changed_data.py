"""A run does not go on with other data than it began with."""

import numpy as np
import pytest
from tests.training.helpers import Held, Net, sums

from longlag.training import CheckpointMismatchError, fit


@pytest.mark.parametrize("part", ["x", "target", "lengths", "resets"])
@pytest.mark.parametrize("role", ["data", "validation"])
def test_one_other_value_in_the_last_sequence_is_noticed(tmp_path, part, role):
    def held(changed):
        x, target = sums(70)
        whole = {"lengths": np.full(70, 6), "resets": np.zeros((70, 6), bool)}
        whole = {"x": x, "target": target, **whole}
        if changed:
            whole[part][-1] = 1 - whole[part][-1] if part == "resets" else whole[part][-1] / 2
        return Held(**whole)

    def go_on(changed):
        given = {"data": held(False), "validation": None, role: held(changed)}
        return fit(Net(), epochs=1, checkpoint=tmp_path, progress=False, **given)

    assert go_on(False) == go_on(False)
    with pytest.raises(
        CheckpointMismatchError, match=rf"settings \({role} contents: saved '\w+', "
    ):
        go_on(True)
