"""The network of some settings, and its outputs for all sequences."""

from dataclasses import replace

import numpy as np
import torch

from longlag.batch import Batch
from longlag.pipeline.network import build_model, run_model
from longlag.pipeline.settings import Settings

SIZES = {"input_size": 2, "output_size": 2}


def test_an_untrained_forecaster_says_that_nothing_changes():
    settings = Settings("forecasting", cell="gru", hidden=5)
    model = build_model(settings, input_size=3, output_size=4, repeat=[2, 0, 2, 0])
    x = torch.randn(2, 6, 3)
    with torch.no_grad():
        assert torch.equal(model(x), x[..., [2, 0, 2, 0]])


def test_chrono_sets_the_biases_before_training():
    settings = Settings("classification", cell="lstm", hidden=3)
    plain = build_model(settings, **SIZES)
    slow = build_model(replace(settings, chrono=50.0), **SIZES)
    assert torch.equal(plain.layer.bias[3:6], torch.ones(3))
    assert (slow.layer.bias[3:6] > 0).all()
    assert torch.equal(slow.layer.bias[:3], -slow.layer.bias[3:6])


def test_chrono_sets_leaks_and_weights_too():
    leaky = build_model(Settings("classification", cell="leaky", hidden=3, chrono=50.0), **SIZES)
    torch.testing.assert_close(1 / leaky.layer.unit("leak"), torch.tensor([2.0, 10.0, 50.0]))
    own = build_model(Settings("classification", cell="indrnn", hidden=99, chrono=50.0), **SIZES)
    left = own.layer.unit("diagonal.candidate").detach() ** 50
    assert 0.5 <= float(left.min()) < 0.55
    assert float(left.max()) < 1


def test_dropout_is_for_training_only():
    settings = Settings(
        "classification", hidden=8, layers=2, dropout=0.5, input_dropout=0.5, recurrent_dropout=0.5
    )
    model = build_model(settings, **SIZES)
    x = np.random.default_rng(0).normal(size=(9, 5, 2)).astype(np.float32)
    prepared = Batch(x, lengths=np.full(9, 5))
    found = run_model(model.train(), prepared, 4)
    with torch.no_grad():
        expected = model.eval()(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_each_layer_reads_twice_as_far_back_as_the_one_below():
    settings = Settings("classification", hidden=3, layers=4, dilated=True)
    stack = build_model(settings, **SIZES).layer
    assert [layer.dilation for layer in stack.layers] == [1, 2, 4, 8]
    both = build_model(replace(settings, bidirectional=True), **SIZES).layer
    assert [layer.backward_layer.dilation for layer in both.layers] == [1, 2, 4, 8]


def test_both_directions_start_from_weights_of_their_own():
    settings = Settings("classification", hidden=3, bidirectional=True)
    model = build_model(settings, **SIZES)
    ahead, back = model.layer.forward_layer, model.layer.backward_layer
    assert not torch.equal(ahead.weight_ih, back.weight_ih)
