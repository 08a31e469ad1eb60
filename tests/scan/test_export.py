"""Exported programs run in other processes, or say what they lack."""

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
layer = eval(sys.argv[1])
x = torch.linspace(-1, 1, 24).view(2, 3, 4)
program = torch.export.export(layer, (x,), strict=False)
torch.export.save(program, sys.argv[2] + "/program.pt2")
result = layer(x)
torch.save(result[0] if isinstance(result, tuple) else result, sys.argv[2] + "/output.pt")
"""
RUN = """
import sys, torch, longlag as ll
import longlag.layers
kept = eval(sys.argv[1])
program = torch.export.load(sys.argv[2] + "/program.pt2")
for recording in (True, False):
    with torch.set_grad_enabled(recording):
        result = program.module()(torch.linspace(-1, 1, 24).view(2, 3, 4))
    output = result[0] if isinstance(result, tuple) else result
    torch.testing.assert_close(output, torch.load(sys.argv[2] + "/output.pt"))
print(type(result).__name__, type(result[-1]).__name__)
"""
SKIP = "ll.Skip(4, 6, delays=(1, 3), seed=0)"


def run(program, *arguments):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def exported(layer, folder):
    done = run(EXPORT, layer, folder)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("layer", "kept", "state"),
    [
        ("ll.SequenceModel(ll.LSTM(4, 6, seed=0), 2, seed=1)", "None", None),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (
                ("ll.LSTM(4, 6, seed=0)", "ll.LSTM(1, 1)", "LSTMState"),
                (SKIP, "ll.Skip(1, 1, delays=(1, 3))", "SkipState"),
                ("ll.Bidirectional(ll.Elman(4, 6))", "ll.Elman(1, 1)", "BidirectionalState"),
            )
        ),
    ],
)
def test_a_program_runs_in_another_process(tmp_path, layer, kept, state):
    exported(layer, tmp_path)
    done = run(RUN, kept, tmp_path)
    assert done.returncode == 0, done.stderr
    if state is not None:
        assert done.stdout.split() == ["tuple", state]


def test_a_cell_that_was_not_met_is_named(tmp_path):
    exported(f"ll.SequenceModel({SKIP}, 2)", tmp_path)
    done = run(RUN, "None", tmp_path)
    assert "the graph runs a cell Skip, Skip-" in done.stderr
    assert "build a layer with the options of the one that was exported" in done.stderr


def test_places_of_another_process_are_not_taken_for_others(tmp_path):
    exported("ll.SequenceModel(ll.Elman(4, 6, density=0.5, seed=0), 2)", tmp_path)
    done = run(RUN, "ll.Elman(4, 6, density=0.5, seed=1)", tmp_path)
    assert "the graph runs a sparse recurrent matrix" in done.stderr
    assert "use ll.save and ll.load" in done.stderr


def test_an_operator_gives_out_no_memory_twice():
    layer = ll.Skip(2, 4, delays=(1, 3))
    zeros = torch.zeros(3, 1, 4)
    states = [torch.zeros(1, 4)] * len(layer.recurrence.states)
    given = (layer.recurrence.key, "auto", zeros, layer.weight_hh.detach(), "", states, [])
    with torch.no_grad():
        results = torch.ops.longlag.scan(*given, None, None, None, None)
    memory = [result.untyped_storage().data_ptr() for result in results]
    assert len(set(memory)) == len(memory)
