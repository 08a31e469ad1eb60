"""A folder that cannot be used is known before the first step."""

import errno

import pytest
from tests.training.helpers import Net, quiet, sums

from longlag.training import Checkpoint, checkpoints


def refused(folder, error):
    model = Net()
    with pytest.raises(error) as caught:
        quiet(model, sums(), epochs=1, checkpoint=folder)
    assert model.calls == []
    message = str(caught.value)
    assert message.startswith(f"checkpoint is {str(folder)!r}, which cannot be used (")
    assert "expected a folder that can be made and written. Give another one" in message
    return message


def test_a_file_or_below_a_file(tmp_path):
    (tmp_path / "file").touch()
    assert "it is a file" in refused(tmp_path / "file", FileExistsError)
    refused(str(tmp_path / "file" / "runs"), NotADirectoryError)
    assert (tmp_path / "file").read_bytes() == b""


def test_a_name_that_no_folder_can_have(tmp_path):
    refused(f"{tmp_path}/a\0b", ValueError)


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(dir):
        raise PermissionError(errno.EACCES, "Permission denied", dir)

    monkeypatch.setattr(checkpoints.tempfile, "TemporaryFile", refuse)
    assert "(Permission denied)" in refused(tmp_path, PermissionError)


def test_a_new_folder_is_made_and_left_clean(tmp_path):
    folder = tmp_path / "runs" / "first"
    folder.mkdir(parents=True)
    (folder / ".checkpoint.longlag.0123.tmp").touch()  # of a run that was killed
    quiet(Net(), sums(), epochs=1, checkpoint=folder)
    quiet(Net(), sums(), epochs=1, checkpoint=tmp_path / "new" / "run")
    for each in (folder, tmp_path / "new" / "run"):
        assert [file.name for file in each.iterdir()] == ["checkpoint.longlag"]


def test_what_is_no_path_is_refused():
    with pytest.raises(TypeError, match="Checkpoint: folder is 3; expected the path of a folder"):
        Checkpoint(3)  # pyright: ignore[reportArgumentType]
