"""`--cell echo` of `longlag train`, and its models in `predict` and `report`."""

import pytest

from longlag.layers import load_with_metadata

WALKS = ("train", "walks.csv", "--task", "classification", "--cell", "echo")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:alpha. the best")
def test_it_is_fitted_predicts_and_is_reported(longlag, folder, walks_csv, new_walks_csv):
    done = longlag(*WALKS, "--hidden", 30, "--reduce", "mean", "--spectral_radius", 0.5, "--leak",
                   0.5, "--density", 0.2, "--input_scaling", 0.3, "--alpha", 0.1,
                   "--state_noise", 0.01)  # fmt: skip
    assert done.status == 0, done.err
    assert "the readout was fitted in one step" in done.out
    assert "layer (EchoState)" in done.out
    assert "62 of them trained" in done.out  # 2 classes, 30 units and a bias
    model, _ = load_with_metadata(folder / "model.longlag")
    assert (model.reduce, model.layer.spectral_radius) == ("mean", 0.5)
    assert model.layer.config()["leak"] == 0.5
    assert model.layer.density == pytest.approx(0.2)
    assert model.layer.input_scaling == (0.3, 0.3)
    predicted = longlag("predict", "model.longlag", "new.csv")
    assert predicted.status == 0, predicted.err
    assert "accuracy" in predicted.out
    told = longlag("report", "model.longlag", "new.csv")
    assert told.status == 0, told.err
    assert "EchoState" in told.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--layers", 2), "--layers: got 2, but an echo state network is one layer; leave it out, "
         "or use another --cell"),
        (("--epochs", 3), "--epochs: got 3, but an echo state network has its readout fitted"),
        (("--checkpoint", "c"), "--checkpoint: got c, but an echo state network has its readout"),
        (("--history", "h.png"), "--history: got h.png, but"),
        (("--leak", 0), "--leak: got 0.0, expected a number, more than 0, at most 1"),
        (("--density", 1.5), "--density: got 1.5"),
        (("--state_noise", -1), "--state_noise: got -1.0, expected a number, 0 or more"),
        (("--spectral_radius", -1), "--spectral_radius: got -1.0, expected a number, 0 or more"),
        (("--alpha", "nan"), "--alpha"),
        (("--washout", 2), "--washout: got 2, but classification has one answer a series"),
        (("--cell", "gru", "--alpha", 1), "--alpha: got 1.0, but gru has none; leave it out, or "
         "use --cell echo"),
    ],
)  # fmt: skip
def test_what_does_not_apply_is_refused_by_name(longlag, folder, walks_csv, words, said):
    done = longlag(*WALKS, *words)
    assert done.status == 2
    assert said in done.err
    assert not (folder / "model.longlag").exists()
