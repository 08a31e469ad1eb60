"""Where nothing is recorded for gradients, whoever needs them says so before anything is done."""

import pytest
import torch
from tests.training.helpers import Net, quiet, same_tree, sums, weights

import longlag as ll

METHODS = {
    "BPTT": ll.BPTT(),
    "TruncatedBPTT": ll.TruncatedBPTT(2),
    "CheckpointedBPTT": ll.CheckpointedBPTT(3),
    "RTRL": ll.RTRL(),
    "SnAp1": ll.SnAp1(),
    "Omega": ll.Omega(0.1),
}
MODES = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}

mode = pytest.mark.parametrize("mode", MODES)


@mode
def test_fit_is_refused(mode, tmp_path):
    model = Net()
    before = weights(model)
    message = rf"^fit finds gradients, and is called under torch\.{mode}\(\)"
    with MODES[mode](), pytest.raises(RuntimeError, match=message):
        quiet(model, sums(), epochs=1, checkpoint=tmp_path / "run")
    assert model.calls == []
    assert same_tree(weights(model), before)
    assert not (tmp_path / "run").exists()
    with torch.no_grad(), torch.enable_grad():
        assert len(quiet(model, sums(), epochs=1)) == 2


@mode
@pytest.mark.parametrize("name", METHODS)
def test_methods_are_refused(mode, name):
    method = METHODS[name]
    model = ll.SequenceModel(ll.Elman(1, 3, seed=0), 1, reduce=None, seed=1)
    x, target = torch.zeros(2, 5, 1), torch.zeros(2, 5, 1)
    batch = (model, x, target, torch.nn.functional.mse_loss)
    message = rf"^{name} finds gradients, and is called under torch\.{mode}\(\)"
    calls = [
        method.gradients,
        lambda *arguments: method.accumulate(*arguments, torch.Tensor.backward),
    ]
    if hasattr(method, "accumulate_window"):
        calls.append(lambda *arguments: method.accumulate_window(*arguments, torch.Tensor.backward))
    for call in calls:
        with MODES[mode](), pytest.raises(RuntimeError, match=message):
            call(*batch)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert method.gradients(*batch)
