"""Exported programs run in other processes, or say what they lack."""

import json
import subprocess
import sys

import pytest
import torch

import longlag as ll

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning"),  # of the exporter's own parts
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
EXPORT = """
import sys, torch, longlag as ll
for place, layer in zip(sys.argv[1::2], map(eval, sys.argv[2::2])):
    x = torch.linspace(-1, 1, 24).view(2, 3, 4)
    torch.export.save(torch.export.export(layer, (x,), strict=False), place + ".pt2")
    result = layer(x)
    torch.save(result[0] if isinstance(result, tuple) else result, place + ".pt")
"""
RUN = """
import json, sys, torch, longlag as ll
import longlag.layers
kept, told = [], []
for place, layer in zip(sys.argv[1::2], sys.argv[2::2]):
    kept.append(eval(layer))
    program = torch.export.load(place + ".pt2")
    try:
        for recording in (True, False):
            with torch.set_grad_enabled(recording):
                result = program.module()(torch.linspace(-1, 1, 24).view(2, 3, 4))
            output = result[0] if isinstance(result, tuple) else result
            torch.testing.assert_close(output, torch.load(place + ".pt"))
        told.append(f"{type(result).__name__} {type(result[-1]).__name__}")
    except RuntimeError as error:
        told.append(str(error))
print(json.dumps(told))
"""
SKIP = "ll.Skip(4, 6, delays=(1, 3), seed=0)"


def run(program, layers, folder):
    words = [word for n, layer in enumerate(layers) for word in (f"{folder}/{n}", layer)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *words],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def tell(folder, *cases):
    """The types of what programs give in another process, which has layers of its own: or errors.

    Args:
        folder: for the programs.
        cases: each a layer, and one that the other process makes before it runs its program.
    """
    layers, others = zip(*cases, strict=True)
    run(EXPORT, layers, folder)
    return json.loads(run(RUN, others, folder))


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Of three programs in one process: each takes seconds to start."""
    return tell(
        tmp_path_factory.mktemp("programs"),
        ("ll.SequenceModel(ll.LSTM(4, 6, seed=0), 2, seed=1)", "None"),
        (f"ll.SequenceModel({SKIP}, 2)", "None"),
        (
            "ll.SequenceModel(ll.Elman(4, 6, density=0.5, seed=0), 2)",
            "ll.Elman(4, 6, density=0.5, seed=1)",
        ),
    )


def test_a_program_runs_in_another_process(told):
    assert told[0] == "Tensor Tensor"


@pytest.mark.long
@pytest.mark.parametrize(
    ("layer", "kept", "state"),
    [
        ("ll.LSTM(4, 6, seed=0)", "ll.LSTM(1, 1)", "LSTMState"),
        (SKIP, "ll.Skip(1, 1, delays=(1, 3))", "SkipState"),
        ("ll.Bidirectional(ll.Elman(4, 6))", "ll.Elman(1, 1)", "BidirectionalState"),
    ],
)
def test_a_program_gives_a_state_of_its_layer(tmp_path, layer, kept, state):
    assert tell(tmp_path, (layer, kept)) == [f"tuple {state}"]


def test_a_cell_that_was_not_met_is_named(told):
    assert "the graph runs a cell Skip, Skip-" in told[1]
    assert "build a layer with the options of the one that was exported" in told[1]


def test_places_of_another_process_are_not_taken_for_others(told):
    assert "the graph runs a sparse recurrent matrix" in told[2]
    assert "use ll.save and ll.load" in told[2]


def test_an_operator_gives_out_no_memory_twice():
    layer = ll.Skip(2, 4, delays=(1, 3))
    zeros = torch.zeros(3, 1, 4)
    states = [torch.zeros(1, 4)] * len(layer.recurrence.states)
    given = (layer.recurrence.key, "auto", zeros, layer.weight_hh.detach(), "", states, [])
    with torch.no_grad():
        results = torch.ops.longlag.scan(*given, None, None, None, None)
    memory = [result.untyped_storage().data_ptr() for result in results]
    assert len(set(memory)) == len(memory)
