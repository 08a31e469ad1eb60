"""The mean of several models, and its file."""

import pytest
import torch

import longlag as ll


def models(**options):
    layers = ll.GRU(3, 4, seed=1, **options), ll.Elman(3, 5, seed=2, density=0.5)
    return [ll.SequenceModel(layer, 2, reduce=None, seed=n) for n, layer in enumerate(layers)]


def test_it_gives_the_mean_of_outputs_or_of_probabilities():
    parts, x, lengths = models(), torch.randn(4, 6, 3), torch.tensor([6, 2, 0, 5])
    outputs = torch.stack([model(x, lengths=lengths) for model in parts])
    torch.testing.assert_close(ll.Ensemble(parts)(x, lengths=lengths), outputs.mean(0))
    ensemble = ll.Ensemble(parts, classes=True)
    given = ensemble(x, lengths=lengths).exp()
    torch.testing.assert_close(given, outputs.softmax(-1).mean(0))


def test_a_file_holds_it(tmp_path):
    ensemble, x = ll.Ensemble(models(), classes=True), torch.randn(4, 6, 3)
    ll.save(ensemble, tmp_path / "both.longlag")
    again = ll.load(tmp_path / "both.longlag")
    assert again.classes
    torch.testing.assert_close(again(x), ensemble(x), rtol=0, atol=0)
    network = ll.show(tmp_path / "both.longlag").network
    assert network == "mean of GRU(3, 4), readout of 2; Elman(3, 5), readout of 2"


def test_models_that_do_not_fit_together_are_named():
    with pytest.raises(ValueError, match="got none"):
        ll.Ensemble([])
    with pytest.raises(TypeError, match=r"models\[0\]: got GRU"):
        ll.Ensemble([ll.GRU(1, 2)])
    with pytest.raises(TypeError, match="classes: got 1"):
        ll.Ensemble(models(), classes=1)
    other = ll.SequenceModel(ll.GRU(3, 4), 2)
    with pytest.raises(ValueError, match=r"models\[2\].*an output at every step"):
        ll.Ensemble([*models(), other])
