"""`longlag export`: what it writes, and what it says where it writes nothing."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from tests.onnx.runtime import run

import longlag as ll


@pytest.fixture
def model(longlag, walks_csv, small):
    done = longlag("train", walks_csv, *small, "--output", "walks.longlag")
    assert done.status == 0, done.err
    return "walks.longlag"


@pytest.fixture
def saved(folder):
    ll.save(ll.GRU(2, 4, seed=0), "layer.longlag")
    return "layer.longlag"


def test_a_trained_network_is_exported_with_its_preparation(longlag, model):
    done = longlag("export", model, "model.onnx")
    assert done.status == 0, done.err
    assert done.out == "written: model.onnx (with the preparation of its data)\n"
    assert "probabilities" in run("model.onnx", x=np.ones((3, 5, 2), np.float32))


def test_a_saved_layer_is_exported_alone(longlag, saved):
    done = longlag("export", saved, "layer.onnx", "--resets", "--no_check")
    assert done.status == 0, done.err
    assert done.out == "written: layer.onnx (the network alone)\n"
    resets = np.ones((3, 5), bool)
    assert set(run("layer.onnx", x=np.ones((3, 5, 2), np.float32), resets=resets)) == {
        "output", "final_h",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.longlag", "out.onnx"], "MODEL none.longlag: there is no such file"),
        (["layer.longlag", "out.txt"], "the suffix '.txt' is not known; expected one of .onnx"),
        (["layer.longlag", "none/out.onnx"], "there is no folder none"),
        (["layer.longlag"], "OUT"),
        (["broken.longlag", "out.onnx"], "broken.longlag"),
        (["layer.longlag", "there.onnx"], "it is there already; give --overwrite"),
    ],
)
def test_what_does_not_fit_is_said(longlag, saved, words, message):
    Path("broken.longlag").write_bytes(b"none")
    Path("there.onnx").write_bytes(b"kept")
    done = longlag("export", *words)
    assert done.status == 2
    assert message in done.err
    assert not Path("out.onnx").exists()
    assert Path("there.onnx").read_bytes() == b"kept"


def test_without_onnx_the_extra_is_named(longlag, saved, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("longlag.onnx")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx", None)
    done = longlag("export", saved, "out.onnx")
    assert done.status == 2
    assert 'pip install "longlag[onnx]"' in done.err
