"""Settings that do not go together, and that they are the options of `longlag train`."""

from dataclasses import fields

import pytest

from longlag.cli import train
from longlag.cli.options import declared
from longlag.pipeline import settings
from longlag.pipeline.settings import Settings, SettingsError


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"window": 9}, "window: got 9, but classification has none; leave it out"),
        ({"task": "forecasting", "bidirectional": True}, "would see the future"),
        ({"dropout": 0.1}, "give layers=2, or use input_dropout or recurrent_dropout"),
        ({"chrono": 9.0, "cell": "elman"}, "chrono: elman has no gate.* use cell='gru' or lstm"),
        ({"cell": "gur"}, "cell: got 'gur', expected one of gru, lstm, elman"),
        ({"dilated": True}, "dilated: the first layer .* give layers=4"),
        ({"dilated": True, "layers": 15}, "layers: got 15.* can 10000; give layers=14"),
        ({"dilated": True, "layers": 12, "cell": "skip"}, "skip can 1000; give layers=10"),
        ({"cell": "indrnn", "recurrent_dropout": 0.1}, "to drop from; use input_dropout"),
        ({"orthogonal": True}, "orthogonal: gru has no matrix .* use cell='elman', or leave"),
        ({"optimizer": "adan"}, "optimizer: got 'adan', expected one of adam, .*mean 'adam'"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(given, message):
    with pytest.raises(SettingsError, match=message):
        Settings(**{"task": "classification", **given})


def test_the_command_line_has_every_setting_with_its_default():
    options = {field.name: field.default for field in fields(train.Options)}
    for setting in fields(Settings):
        if setting.name not in ("task", "cell"):  # the cell depends on the task
            assert options[setting.name] == setting.default, setting.name


def test_a_number_out_of_range_is_no_default():
    with pytest.raises(ValueError, match="epochs: got 0, expected at least 1"):
        Settings("regression", epochs=0)
    with pytest.raises(TypeError, match=r"hidden: got 8\.0 \(float\), expected a whole number"):
        Settings("regression", hidden=8.0)  # pyright: ignore[reportArgumentType]


def test_words_and_least_numbers_are_those_of_the_command_line():
    options = {option.key: option for option in declared(train.Trained)}
    for name, words in settings._WORDS.items():
        if name != "class_weights":  # which may also be weights by name
            assert options[name].choices == words
    for name, least in settings._LEAST.items():
        bounds = options[name].range
        assert bounds is not None
        assert (bounds.holds(least - 1), bounds.holds(least)) == (False, True), name


def test_missing_cells_do_not_choose_the_network():
    assert Settings("classification", missing="mean", cell="auto").fits_anew
    assert Settings("classification", missing="mean", time_delta=True, seed=3).is_open
    assert not Settings("classification", hidden=8).is_open
    assert not Settings("regression").is_open


def test_a_batch_is_small_enough_for_some_updates_an_epoch():
    usual = Settings("regression")
    assert [usual.batch_for(count) for count in (1, 8, 9, 128, 1000)] == [1, 1, 2, 16, 16]
    assert Settings("regression", batch_size=50).batch_for(10) == 50
