"""Recordings on disk, read window by window."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from tests.training.helpers import quiet, same_tree, weights

import longlag as ll
from longlag.training import Checkpoint

LENGTHS = (7, 1, 12, 5)


def recordings(classes=False, seed=0):
    generator = np.random.default_rng(seed)
    xs = [generator.normal(size=(steps, 2)).astype(np.float32) for steps in LENGTHS]
    if classes:
        return xs, [generator.integers(0, 3, steps) for steps in LENGTHS]
    return xs, [np.tanh(x.cumsum(0)[:, :1]) for x in xs]


def on_disk(folder, arrays):
    folder.mkdir()
    for number, array in enumerate(arrays):
        np.save(folder / f"{number:03}.npy", array)
    return folder


def gently(parameters):
    return torch.optim.SGD(parameters, lr=0.01)


def net():
    return ll.SequenceModel(ll.GRU(2, 4, seed=0), 1, reduce=None, seed=1)


@pytest.mark.parametrize("rows", [1, 3, 4, 25])
@pytest.mark.parametrize("steps", [1, 4, 100])
@pytest.mark.parametrize("order", [None, (2, 0, 3, 1)])
def test_each_row_reads_its_part_of_all_recordings(rows, steps, order):
    xs, ys = recordings()
    laid = range(4) if order is None else order
    line = np.concatenate([xs[n] for n in laid])
    truth = np.concatenate([ys[n] for n in laid])
    begins = np.zeros(25, bool)
    begins[np.cumsum([0, *(LENGTHS[n] for n in laid)])[:-1]] = True
    per_row = -(-25 // rows)
    windows = list(ll.Streams(xs, ys).windows(rows, steps, order=order))
    assert len(windows) == ll.Streams(xs, ys).count(rows, steps) == -(-per_row // steps)
    for row in range(rows):
        part = slice(row * per_row, min((row + 1) * per_row, 25))
        size = max(0, part.stop - part.start)
        x = torch.cat([w.x[row] for w in windows])
        y = torch.cat([w.target[row] for w in windows])
        read = [
            torch.full((), w.x.shape[1]) if w.lengths is None else w.lengths[row] for w in windows
        ]
        none = [torch.zeros(w.x.shape[:2], dtype=torch.bool) for w in windows]
        resets = [
            n[row] if w.resets is None else w.resets[row]
            for w, n in zip(windows, none, strict=True)
        ]
        assert int(sum(read)) == size
        np.testing.assert_array_equal(x[:size], line[part])
        np.testing.assert_array_equal(y[:size], truth[part])
        np.testing.assert_array_equal(torch.cat(resets)[:size], begins[part])
        assert not x[size:].any()
        assert y[size:].isnan().all()


@pytest.mark.parametrize("classes", [False, True])
def test_files_are_read_as_arrays_are(tmp_path, classes):
    xs, ys = recordings(classes)
    x, y = on_disk(tmp_path / "x", xs), on_disk(tmp_path / "y", ys)
    kinds = [
        ll.Streams(xs, ys),
        ll.Streams(x, y),
        ll.Streams(sorted(x.glob("*")), [str(path) for path in sorted(y.glob("*"))]),
        ll.Streams([torch.from_numpy(each) for each in xs], ys),
        ll.Streams([np.load(path, mmap_mode="r") for path in sorted(x.glob("*"))], ys),
    ]
    found = [list(kind.windows(3, 4)) for kind in kinds]
    for other in found[1:]:
        assert same_tree([list(w) for w in found[0]], [list(w) for w in other])
    assert len({kind.describe()["contents"] for kind in kinds}) == 1
    changed = [*xs[:3], xs[3] + 1]
    assert ll.Streams(changed, ys).describe() != kinds[0].describe()


def test_more_files_than_may_be_open(tmp_path, monkeypatch):
    monkeypatch.setattr("longlag.training.streams._OPEN", 2)
    xs, ys = recordings()
    streams = ll.Streams(on_disk(tmp_path / "x", xs), on_disk(tmp_path / "y", ys))
    x = torch.cat([w.x for w in streams.windows(5, 3)], 1)
    np.testing.assert_array_equal(x.flatten(0, 1)[:25], np.concatenate(xs))


@pytest.mark.slow
def test_it_trains_as_by_hand():
    """The state goes on from window to window, and is reset where a recording begins."""
    xs, ys = recordings()
    model, plain = net(), net()
    history = quiet(
        model, ll.Streams(xs, ys), method=ll.TruncatedBPTT(4), epochs=2, batch_size=2,
        shuffle=False, optimizer=lambda p: torch.optim.SGD(p, 0.1),
    )  # fmt: skip
    optimizer, losses = torch.optim.SGD(plain.parameters(), 0.1), []
    for _ in range(2):
        state = None
        for w in ll.Streams(xs, ys).windows(2, 4):
            out, state = plain.run(w.x, state, w.lengths, w.resets)
            state = tuple(part.detach() for part in state)
            due = ~w.target.isnan()
            loss = (out - w.target)[due].square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    np.testing.assert_allclose(history.losses, losses, rtol=1e-5)
    assert len(history.records) == 2


@pytest.mark.slow
def test_k2_reaches_over_the_borders_of_windows_and_not_of_recordings():
    xs, ys = recordings()
    whole = ll.TruncatedBPTT(5, 13)
    grown, carry = {}, None
    model = net().double()
    for w in ll.Streams(xs, ys).windows(1, 5, dtype=torch.float64):
        found = whole.accumulate_window(
            model, w.x, w.target, lambda o, t: (o - t).square().sum(), torch.Tensor.backward,
            lengths=w.lengths, resets=w.resets, carry=carry,
        )  # fmt: skip
        carry = found.carry
    for name, parameter in model.named_parameters():
        grown[name] = parameter.grad
    wanted = dict.fromkeys(grown, 0.0)
    for x, y in zip(xs, ys, strict=True):  # 12 steps at most: all of a recording
        found = ll.BPTT().gradients(
            model, torch.from_numpy(x)[None].double(), torch.from_numpy(y)[None].double(),
            lambda o, t: (o - t).square().sum(),
        )  # fmt: skip
        wanted = {name: wanted[name] + found[name] for name in found}
    # 13 steps back reach the first step of the long recording from each of its windows but one.
    for name, gradient in wanted.items():
        torch.testing.assert_close(grown[name], gradient)


@pytest.mark.parametrize("halt", [1, 3, 5])
def test_a_run_that_stops_goes_on_bit_for_bit(tmp_path, halt):
    options = {"method": ll.TruncatedBPTT(3, 4), "batch_size": 2, "seed": 1}
    xs, ys = recordings()

    def checkpoint(name):
        return Checkpoint(tmp_path / name, every_steps=1, every_seconds=None)

    whole, again = net(), net()
    quiet(whole, ll.Streams(xs, ys), steps=11, checkpoint=checkpoint("a"), **options)
    quiet(net(), ll.Streams(xs, ys), steps=halt, checkpoint=checkpoint("b"), **options)
    quiet(again, ll.Streams(xs, ys), steps=11, checkpoint=checkpoint("b"), **options)
    assert same_tree(weights(whole), weights(again))


def test_validation_carries_the_state_too():
    xs, ys = recordings()
    held_out = ll.Streams(xs[2], ys[2])
    model = net()
    history = quiet(
        model, ll.Streams(xs, ys), method=ll.TruncatedBPTT(5), epochs=1, batch_size=1,
        validation=held_out, metrics="mae",
    )  # fmt: skip
    with torch.no_grad():
        out = model(torch.from_numpy(xs[2])[None])[0].numpy()
    record = history.records[-1]
    assert record.validation_loss == pytest.approx(np.square(out - ys[2]).mean(), rel=1e-5)
    assert record.metrics["mae"] == pytest.approx(np.abs(out - ys[2]).mean(), rel=1e-5)


def test_what_does_not_fit_together(tmp_path):
    x, y = np.zeros((5, 2), np.float32), np.zeros((5, 1), np.float32)
    np.save(tmp_path / "x.npy", x)
    cases = [
        (([x, x], [y]), ValueError, "target: got 1 recordings, expected 2"),
        ((x[:, 0], y), ValueError, r"x: got shape \(5,\), expected \(T, C\)"),
        ((x, y[:4]), ValueError, "target: got 4 steps, expected 5"),
        ((x, y[:, 0]), ValueError, r"target: got shape \(5,\) of float32, expected \(T, K\)"),
        ((x.astype(complex), y), TypeError, "x: got complex128, expected real numbers"),
        ((x[:0], y[:0]), ValueError, "x: got no step"),
        (([x, x[:, :1]], [y, y]), ValueError, r"x\[1\]: got \(1,\) of float32 a step"),
        ((tmp_path / "none.npy", y), FileNotFoundError, "x: there is no file"),
        ((tmp_path, [y, y]), ValueError, "target: got 2 recordings, expected 1"),
        (([], []), ValueError, "x: got no recording"),
        ((5, y), TypeError, "x: got a int"),
    ]
    for given, error, message in cases:
        with pytest.raises(error, match=message):
            ll.Streams(*given)
    with pytest.raises(ValueError, match="batch_size is 6, and the recordings have 5 steps"):
        ll.Streams(x, y).count(6, 1)
    (tmp_path / "broken.npy").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"broken.npy is no .npy file"):
        ll.Streams(tmp_path / "broken.npy", y)
    whole = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "broken.npy").write_bytes(whole[:-4])
    with pytest.raises(ValueError, match="was not written to its end"):
        ll.Streams(tmp_path / "broken.npy", y)
    np.save(tmp_path / "broken.npy", np.asfortranarray(np.zeros((5, 2))))
    with pytest.raises(ValueError, match="column by column"):
        ll.Streams(tmp_path / "broken.npy", y)
    np.save(tmp_path / "broken.npy", np.array([None, 1]), allow_pickle=True)
    with pytest.raises(ValueError, match="holds Python objects"):
        ll.Streams(tmp_path / "broken.npy", y)


def test_folders_belong_together_by_name(tmp_path):
    xs, ys = recordings()
    x, y = on_disk(tmp_path / "x", xs), on_disk(tmp_path / "y", ys)
    (y / "003.npy").rename(y / "004.npy")
    with pytest.raises(ValueError, match=r"target 004.npy: stands where x 003.npy is"):
        ll.Streams(x, y)


@pytest.mark.parametrize("classes", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_windows_are_of_the_dtype_of_the_model(tmp_path, dtype, classes):
    xs, ys = recordings(classes)
    streams = ll.Streams(on_disk(tmp_path / "x", xs), on_disk(tmp_path / "y", ys))
    window = next(streams.windows(1, 25, dtype=dtype))
    assert window.x.dtype == dtype
    assert window.target.dtype == (torch.int64 if classes else dtype)
    assert torch.equal(window.x[0], torch.from_numpy(np.concatenate(xs)).to(dtype))
    model = ll.SequenceModel(ll.GRU(2, 4, seed=0), 3 if classes else 1, reduce=None, seed=1)
    options = {"method": ll.TruncatedBPTT(5), "batch_size": 2, "epochs": 2, "optimizer": gently}
    history = quiet(model.to(dtype), streams, validation=streams, **options)
    assert np.isfinite(history.losses).all()


def test_fit_says_what_streams_need():
    streams = ll.Streams(np.zeros((9, 2)), np.zeros((9, 1)))
    with pytest.raises(ValueError, match=r"read window by window.*TruncatedBPTT\(k1=50\)"):
        quiet(net(), streams, epochs=1)
    last = ll.SequenceModel(ll.Elman(2, 3), 1)
    with pytest.raises(ValueError, match=r"reduce='last'\); expected reduce=None"):
        quiet(last, streams, epochs=1, method=ll.TruncatedBPTT(2), batch_size=1)


MEMORY = """
import resource, sys
import numpy as np, torch
import longlag as ll
torch.set_num_threads(1)
model = ll.SequenceModel(ll.Elman(8, 8, seed=0), 1, reduce=None, seed=0)
def train(streams):
    ll.fit(model, streams, method=ll.TruncatedBPTT(500), epochs=1, batch_size=20, progress=False)
train(ll.Streams(np.zeros((20_000, 8), np.float32), np.zeros((20_000, 1), np.float32)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
train(ll.Streams(sys.argv[1], sys.argv[2]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.long
def test_what_was_read_does_not_stay_in_memory(tmp_path):
    """Two million steps, 72 MB, within 10 MB."""
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (2_000_000, 8))
    y = np.lib.format.open_memmap(tmp_path / "y.npy", "w+", np.float32, (2_000_000, 1))
    del x, y
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path / "x.npy", tmp_path / "y.npy"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert float(done.stdout) < 10
