"""The card of a saved model: written by every save, shown without building anything."""

import json

import pytest
import torch
from tests.layers.test_saving import MODELS
from tests.scan import cases

import longlag as ll
from longlag.layers import load_with_card
from longlag.storage import ArchiveError, read_archive, write_archive

CARD = ll.ModelCard(
    description="names walks",
    licence="CC-BY-4.0",
    data={"features": ("step", "noise"), "steps": [4, 8]},
    metrics={"accuracy": 0.975, "loss": float("nan")},
    training={"hidden": 8},
    seed=3,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.longlag"


def test_a_card_is_saved_loaded_and_shown(path):
    model = ll.SequenceModel(ll.LSTM(2, 4), 2, reduce="last")
    ll.save(model, path, metadata={"epoch": 3}, card=CARD)
    loaded, metadata, card = load_with_card(path)
    assert metadata == {"epoch": 3}
    assert all(a.equal(b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))
    assert (card.licence, card.seed, card.description) == ("CC-BY-4.0", 3, "names walks")
    assert card.metrics == {"accuracy": 0.975, "loss": None}
    assert set(card.versions) == {"longlag", "torch", "numpy", "python"}
    text = str(ll.show(path))
    for part in (
        "LSTM(2, 4), readout of 2 of the last step", "licence   CC-BY-4.0", "seed      3",
        "accuracy 0.975, loss None", "features step noise, steps 4 8", f"torch {torch.__version__}",
    ):  # fmt: skip
        assert part in text
    assert ll.show(path).parameters == sum(p.numel() for p in model.state_dict().values())
    again = path.with_name("again.longlag")
    ll.save(loaded, again, metadata=metadata, card=card)
    assert again.read_bytes() == path.read_bytes()  # no time and no place in it


def test_every_kind_of_model_is_shown_those_with_cells_of_ones_own_too(path):
    for name, make in MODELS.items():
        ll.save(make(), path)
        shown = ll.show(path)
        assert "(" in shown.network, name
        assert "licence   not stated" in str(shown)
    ll.save(ll.Stack(ll.Recurrent(cases.Mixed(), 2, 3), ll.Bidirectional(ll.GRU(3, 4))), path)
    assert ll.show(path).network == "Stack(Mixed(2, 3), Bidirectional(GRU(3, 4)))"


def test_files_without_a_card_load_and_are_shown(path):
    ll.save(ll.GRU(2, 3), path)
    document, tensors = read_archive(path, "model")
    del document["card"]
    write_archive(path, "model", document, tensors)
    assert load_with_card(path)[2] == ll.ModelCard()
    assert str(ll.show(path)).endswith("licence   not stated")


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ([], "card: got"),
        ({"licence": 3}, "licence is 3"),
        ({"metrics": "good"}, "metrics is 'good', expected a mapping"),
        ({"seed": True}, "seed is True"),
        ({"author": "x"}, "unexpected keyword argument 'author'"),
    ],
)
def test_what_is_no_card_names_the_file(path, card, message):
    ll.save(ll.GRU(2, 3), path)
    document, tensors = read_archive(path, "model")
    write_archive(path, "model", {**document, "card": card}, tensors)
    for read in (ll.load, ll.show):
        with pytest.raises(ArchiveError, match=r"model\.longlag") as caught:
            read(path)
        assert message in str(caught.value)


def test_a_terminal_is_not_obeyed(path):
    ll.save(ll.GRU(2, 3), path, card=ll.ModelCard(licence="\x1b[2J\nfree", data={"\x07": 1}))
    text = str(ll.show(path))
    assert "licence   ?[2J?free" in text
    assert all(sign.isprintable() for sign in text.replace("\n", ""))


def test_a_card_takes_plain_data_only(path):
    with pytest.raises(TypeError, match="card: licence is 3"):
        ll.ModelCard(licence=3)
    with pytest.raises(TypeError, match="not JSON serializable"):
        ll.save(ll.GRU(2, 3), path, card=ll.ModelCard(data={"x": torch.zeros(2)}))
    assert not path.exists()
    json.dumps(CARD.to_dict(), allow_nan=False)
