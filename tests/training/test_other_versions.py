"""A checkpoint of another version is told from a damaged one, and never written over."""

import shutil

import pytest
import torch
from tests.training.helpers import Net, quiet, same_tree, sums, weights

from longlag.storage import ArchiveError, archive, read_archive, write_archive
from longlag.training import Checkpoint, EarlyStopping

NAME = "checkpoint.longlag"


def resumed(folder, model=None, **options):
    return quiet(
        model or Net(),
        sums(),
        epochs=3,
        early_stopping=EarlyStopping(),
        checkpoint=Checkpoint(folder, every_steps=1, every_seconds=None),
        **options,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    resumed(folder)
    return folder


@pytest.fixture
def folder(run, tmp_path):
    """A folder with a good save and a good one before it."""
    return shutil.copytree(run, tmp_path / "copy")


def rewrite(folder, change=lambda document: None, name=NAME, kind="checkpoint"):
    document, tensors = read_archive(folder / name, "checkpoint")
    change(document)
    write_archive(folder / name, kind, document, tensors)


def refused(folder, *said, name=NAME, model=None):
    """The run is refused; no file and no weight has changed."""
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    model = model or Net()
    first = weights(model)
    with pytest.raises(ArchiveError) as caught:
        resumed(folder, model)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert same_tree(weights(model), first)
    message = str(caught.value)
    assert message.startswith(f"{folder / name}: ")
    for part in said:
        assert part in message
    return message


def without(*path):
    def change(document):
        *parents, last = path
        for key in parents:
            document = document[key]
        del document[last]

    return change


def with_new(*path):
    def change(document):
        for key in path:
            document = document[key]
        document["ema"] = 0.5

    return change


CHANGES = {
    "no model": (without("model"), "it lacks model"),
    "no fingerprint": (without("fingerprint"), "it lacks fingerprint"),
    "no random state": (without("random"), "it lacks random"),
    "no step": (without("position", "step"), "it lacks position/step"),
    "no losses": (without("history", "losses"), "it lacks history/losses"),
    "no best": (without("stopper", "best"), "it lacks stopper/best"),
    "no groups": (without("optimizer", "param_groups"), "it lacks 'param_groups'"),
    "no generator": (without("random", "torch"), "it lacks 'torch'"),
    "no weight": (without("model", "readout.bias"), "readout.bias"),
    "a new part": (with_new(), "it has ema, not known here"),
    "a new place": (with_new("position"), "it has position/ema, not known here"),
    "a new fact": (with_new("history"), "it has history/ema, not known here"),
    "a new number": (with_new("history", "records", 0), "'ema'"),
    "a new memory": (with_new("stopper"), "it has stopper/ema, not known here"),
    "a new tag": (lambda d: d.update(carry={"$set": [1]}), "the unknown tag '$set'"),
    "no tensor": (lambda d: d.update(carry={"$tensor": "nowhere"}), "a tensor 'nowhere'"),
    "a bad tag": (lambda d: d.update(carry={"$array": "carry"}), "'carry'"),
    "a list": (lambda d: d.update(position=[1]), "its state cannot be taken up"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_state_of_another_form_is_refused(folder, change):
    edit, said = CHANGES[change]
    rewrite(folder, edit)
    message = refused(folder, said, "Go on with the version of longlag that wrote it")
    assert "another folder" in message


def test_a_newer_format_is_not_taken_for_damage(folder, monkeypatch):
    monkeypatch.setattr(archive, "_FORMAT", 2)
    document, tensors = {"step": 3}, {}
    write_archive(folder / NAME, "checkpoint", document, tensors)
    monkeypatch.undo()
    assert (folder / f"{NAME}.previous").exists()
    refused(folder, "it has format 2, and this longlag reads 1", "Update longlag.")


def test_another_kind_is_not_taken_for_damage(folder):
    rewrite(folder, kind="model")
    refused(folder, "it holds a 'model'")


def test_the_save_before_a_damaged_one_is_looked_at_as_closely(folder):
    previous = f"{NAME}.previous"
    (folder / NAME).write_bytes(b"")
    rewrite(folder, without("position"), name=previous)
    with pytest.warns(match="cannot be used"):
        refused(folder, "it lacks position", name=previous)


def test_a_buffer_of_another_shape_is_named(folder):
    class Buffered(Net):
        def __init__(self, size):
            super().__init__()
            self.register_buffer("seen", torch.zeros(size))

    own = folder / "buffered"
    resumed(own, Buffered(3))
    before = (own / NAME).read_bytes()
    model = Buffered(4)
    first = weights(model)
    with pytest.raises(ArchiveError, match="size mismatch for seen"):
        resumed(own, model)
    assert (own / NAME).read_bytes() == before
    assert same_tree(weights(model), first)


def test_never_starts_anew_all_the_same(folder):
    rewrite(folder, with_new())
    assert len(resumed(folder, resume="never")) == 6
    assert len(resumed(folder)) == 6


def test_a_save_of_version_0_1_is_taken_up(folder):
    rewrite(folder, without("beside"))
    model = Net()
    assert len(resumed(folder, model)) == 6
    assert model.calls == []
