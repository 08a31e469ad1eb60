import builtins
import hashlib
import json
import pickle
import random

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from longlag.storage import ArchiveError, archive, read_archive, write_archive

BASE = torch.arange(12, dtype=torch.float32).reshape(3, 4)
TENSORS = {
    "bfloat16": torch.tensor([1.5, float("nan"), -0.0], dtype=torch.bfloat16),
    "float64": torch.tensor([[0.1, float("inf")]], dtype=torch.float64),
    "empty": torch.empty(0, 3),
    "scalar": torch.tensor(7),
    "bool": torch.tensor([True, False]),
    "turned": BASE.t(),
    "strided": BASE[:, ::2],
    "shared": BASE,
    "shared too": BASE[1:],
    "expanded": torch.ones(1).expand(5),
    "complex": torch.tensor([[1 + 2j, 3 - 4j]]),
    "conjugate": torch.tensor([1 + 2j], dtype=torch.complex128).conj(),
    "with gradient": torch.nn.Parameter(torch.ones(2)),
}
DOCUMENT = {"text": 'é " \\ \n \x00', "numbers": [1, 0.1, -0.0, None, True], "zeros": "0" * 64}


def bits(tensor):
    return tensor.detach().resolve_conj().contiguous().flatten().view(torch.uint8).tolist()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file.longlag"
    write_archive(path, "example", DOCUMENT, TENSORS)
    return path


def test_everything_comes_back(path):
    document, tensors = read_archive(path, "example")
    assert json.dumps(document) == json.dumps(DOCUMENT)
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == TENSORS[name].dtype, name
        assert tensor.shape == TENSORS[name].shape, name
        assert tensor.numel() == 0 or bits(tensor) == bits(TENSORS[name]), name
        tensor.zero_()  # its memory is its own and can be written
    assert BASE[2, 3] == 11


def test_no_tensors_at_all(tmp_path):
    write_archive(tmp_path / "file", "example", None, {})
    assert read_archive(tmp_path / "file", "example") == (None, {})


def test_the_same_state_gives_the_same_bytes(path, tmp_path):
    write_archive(tmp_path / "again", "example", DOCUMENT, TENSORS)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_other_programs_can_read_the_tensors(path):
    with safe_open(path, framework="pt") as file:
        assert torch.equal(file.get_tensor("turned"), BASE.t())


@pytest.mark.slow
def test_every_flipped_bit_is_found(tmp_path):
    path = tmp_path / "file"
    write_archive(
        path, "example", {"é": [1, 10]}, {"w": torch.arange(5.0), "b": torch.ones(2).bool()}
    )
    good = path.read_bytes()
    for position in range(8 * len(good)):
        data = bytearray(good)
        data[position // 8] ^= 1 << position % 8
        path.write_bytes(data)
        with pytest.raises(ArchiveError):
            read_archive(path, "example")
    path.write_bytes(good)
    read_archive(path, "example")


def test_every_length_but_the_right_one_is_found(tmp_path):
    path = tmp_path / "file"
    write_archive(path, "example", [1], {"w": torch.arange(5.0)})
    good = path.read_bytes()
    for length in range(len(good)):
        path.write_bytes(good[:length])
        with pytest.raises(ArchiveError):
            read_archive(path, "example")
    path.write_bytes(good + b"\0")
    with pytest.raises(ArchiveError, match="SHA-256"):
        read_archive(path, "example")


def test_bytes_at_random_are_no_archive(tmp_path):
    generator = random.Random(0)
    for length in [0, 1, 7, 8, 9, 100, 1000]:
        path = tmp_path / "file"
        path.write_bytes(generator.randbytes(length))
        with pytest.raises(ArchiveError):
            read_archive(path, "example")


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"longlag": "not JSON"},
        {"longlag": "[]"},
        {"longlag": "{}"},
        {"longlag": '{"sha256": ""}'},
        {"longlag": json.dumps({"sha256": "0" * 64, "format": 1, "kind": "example"})},
    ],
)
def test_a_foreign_safetensors_file_is_no_archive(tmp_path, metadata):
    save_file({"w": torch.ones(2)}, tmp_path / "file", metadata)
    with pytest.raises(ArchiveError):
        read_archive(tmp_path / "file", "example")


@pytest.mark.parametrize(
    "change",
    [
        {"complex": None},
        {"complex": "w"},
        {"complex": {"w": 1}},
        {"complex": ["absent"]},
        {"complex": [["w"]]},
        {"complex": ["\ud800"]},
        {"complex": ["w", "w"]},
        {"complex": ["whole"]},
        {"format": "1"},
        {"format": -1},
        {"kind": ["example"]},
        {"kind": "\ud800"},
        {"sha256": "\ud800" * 64},
        {"sha256": "Z" * 64},
        {"sha256": ["0"] * 64},
        {"document": ...},
        {"complex": ...},
    ],
    ids=repr,
)
def test_a_wrong_header_with_a_right_digest_is_no_archive(tmp_path, change):
    header = {"sha256": "0" * 64, "format": 1, "kind": "example", "complex": [], "document": 1}
    header = {k: v for k, v in (header | change).items() if v is not ...}
    tensors = {"w": torch.ones(2, 2), "whole": torch.ones(2, 2, dtype=torch.int64)}
    save_file(tensors, tmp_path / "file", {"longlag": json.dumps(header)})
    data = (tmp_path / "file").read_bytes()
    digest = hashlib.sha256(data).hexdigest().encode()
    (tmp_path / "file").write_bytes(data.replace(b"0" * 64, digest, 1))
    with pytest.raises(ArchiveError) as caught:
        read_archive(tmp_path / "file", "example")
    assert "file: " in str(caught.value)
    assert str(caught.value).encode()
    assert "do not match" not in str(caught.value)


def test_a_pickle_is_refused_and_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (builtins.exec, ("raise SystemExit('the file ran')",))

    (tmp_path / "file").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ArchiveError):
        read_archive(tmp_path / "file", "example")
    torch.save({"w": torch.ones(1)}, tmp_path / "file")
    with pytest.raises(ArchiveError):
        read_archive(tmp_path / "file", "example")


def test_the_wrong_kind_is_named(path):
    expected = r"file\.longlag: it holds a 'example', and a 'model' was expected\. Give the path of"
    with pytest.raises(ArchiveError, match=expected):
        read_archive(path, "model")


def test_a_newer_format_is_named(path, monkeypatch):
    monkeypatch.setattr(archive, "_FORMAT", 2)
    expected = r"it has format 1, and this longlag reads 2: .*\. Update longlag\.$"
    with pytest.raises(ArchiveError, match=expected):
        read_archive(path, "example")


def test_the_error_points_to_the_previous_file(path):
    write_archive(path, "example", 2, {}, keep_previous=True)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArchiveError, match=r"kept as file\.longlag\.previous") as caught:
        read_archive(path, "example")
    assert caught.value.path == path
    previous = path.with_name("file.longlag.previous")
    assert read_archive(previous, "example")[0] == DOCUMENT


def test_the_fix_may_be_another_or_none(path):
    write_archive(path, "example", 2, {}, keep_previous=True)
    assert str(ArchiveError(path, "it is odd", fix="")) == f"{path}: it is odd"
    assert str(ArchiveError(path, "it is odd", fix="Try.")) == f"{path}: it is odd. Try."
    assert "is kept as file.longlag.previous" in str(ArchiveError(path, "it is odd"))
    other = path.with_name("other")
    assert str(ArchiveError(other, "it is odd")).endswith("it is odd. Copy or save it again.")


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_archive(tmp_path / "absent", "example")


def test_what_cannot_be_held_is_refused_before_the_old_file_is_touched(path):
    good = path.read_bytes()
    with pytest.raises(TypeError, match=r"tensor 'w' has dtype torch\.uint16"):
        write_archive(path, "example", 0, {"w": torch.zeros(1, dtype=torch.uint16)})
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_archive(path, "example", {"f": len}, {})  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_archive(path, "example", float("nan"), {})
    assert path.read_bytes() == good


def test_reading_opens_one_file(path, monkeypatch):
    import io
    import os

    opened = []
    real = io.open

    def counting(file, *args, **kwargs):
        opened.append(os.fspath(file))
        return real(file, *args, **kwargs)

    monkeypatch.setattr(io, "open", counting)
    monkeypatch.setattr(builtins, "open", counting)
    read_archive(path, "example")
    assert opened == [os.fspath(path)]
