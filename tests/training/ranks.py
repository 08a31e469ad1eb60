"""Runs that one process and several make alike; torchrun starts this file."""

import sys
from pathlib import Path

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

import longlag as ll
from longlag.batch import Batch
from longlag.training.ranks import Ranks, RanksError, launched, rank

G = torch.Generator().manual_seed(0)
X = torch.randn(21, 12, 3, generator=G, dtype=torch.float64)
LENGTHS = torch.randint(1, 13, (21,), generator=G)
EACH = X.cumsum(1)[..., :1].tanh()
COUNTS = torch.rand(21, generator=G, dtype=torch.float64)
COUNTS[:2] = COUNTS[5] = COUNTS[9:12] = 0


def model(layer, output_size=1, reduce=None):
    recurrent = layer(3, 5, seed=rank(), dtype=torch.float64)
    return ll.SequenceModel(recurrent, output_size, reduce=reduce, seed=2)


def arrays(folder, **options):
    """Ragged batches of 8, 8 and 5 rows; the first weights differ until the first gives its own."""
    data = (X, (X.sum((1, 2)) > 0).long(), LENGTHS)
    return model(ll.LSTM, 2, "last"), data, {
        "validation": data, "metrics": "accuracy", "epochs": 4, "batch_size": 8, "clip_norm": 0.1,
        "early_stopping": ll.EarlyStopping(patience=2),
        "loss": ll.training.WeightedCrossEntropy((1, 3)), **options,
    }  # fmt: skip


def stacked(folder):
    """A schedule counts every update."""
    layer = ll.Stack(ll.GRU(3, 5, seed=1), ll.Elman(5, 4, seed=2))
    schedule = ll.Schedule(lambda o: OneCycleLR(o, 0.05, total_steps=40), every="step")
    data = (X.float(), EACH.float(), LENGTHS)
    return ll.SequenceModel(layer, 1, reduce=None, seed=3), data, {
        "epochs": 4, "batch_size": 7, "scheduler": schedule, "validation": data,
        "validate_every": 5, "optimizer": torch.optim.AdamW,
    }  # fmt: skip


def few(folder):
    """Batches with fewer rows than processes, and one where no error is due in one of the parts."""
    target = EACH[:3].clone()
    target[1:] = float("nan")
    return model(ll.GRU), (X[:3], target), {"epochs": 3, "batch_size": 2}


def windows(folder):
    options = {"epochs": 3, "batch_size": 8, "method": ll.TruncatedBPTT(4, 4)}
    return model(ll.GRU), (X, EACH, LENGTHS), options


def streams(folder, **options):
    recordings = ll.Streams([part.numpy() for part in X], [part.numpy() for part in EACH])
    return model(ll.GRU), recordings, {
        "validation": recordings, "epochs": 3, "batch_size": 4, "method": ll.TruncatedBPTT(4, 6),
        **options,
    }  # fmt: skip


def rtrl(folder):
    options = {"epochs": 2, "batch_size": 8, "method": ll.RTRL()}
    return model(ll.Elman), Batch(X, EACH, LENGTHS, weights=COUNTS), options


def weighted(folder):
    """Parts of which nothing counts, in the second process and in batches of both."""
    data = Batch(X, EACH, LENGTHS, weights=COUNTS)
    return model(ll.GRU), data, {"validation": data, "epochs": 3, "batch_size": 3, "shuffle": False}


def weighted_windows(folder):
    network, data, options = weighted(folder)
    return network, data, {**options, "method": ll.TruncatedBPTT(4, 6)}


def loader(folder):
    dataset = TensorDataset(X, X.sum((1, 2))[:, None])
    data = DataLoader(dataset, batch_size=8, shuffle=True)
    return model(ll.LSTM, reduce="last"), data, {"epochs": 3}


def taken_over(folder):
    """One process made the first five steps; as many as there are now make the others."""
    return arrays(folder, checkpoint=folder / "of one", early_stopping=None)


def begun(folder):
    """Five steps, for another number of processes to go on from."""
    return arrays(
        folder, epochs=None, steps=5, early_stopping=None,
        checkpoint=folder / f"of {launched()}",
    )  # fmt: skip


def within(folder):
    return streams(folder, epochs=None, steps=5, checkpoint=folder / f"streams of {launched()}")


CASES = {
    c.__name__: c
    for c in (
        arrays, stacked, few, windows, streams, rtrl, loader, weighted, weighted_windows, begun,
        within,
    )
}  # fmt: skip


def run(case, folder):
    """Weights, losses and what the records say."""
    network, data, options = case(folder)
    history = ll.fit(network, data, progress=False, **options)
    records = [[r.loss, r.validation_loss, *r.metrics.values()] for r in history.records]
    weights = {name: value.tolist() for name, value in network.state_dict().items()}
    return {
        "weights": weights, "losses": history.losses.tolist(), "records": records,
        "step": history.step, "reason": history.reason,
    }  # fmt: skip


def apart(folder):
    """As processes of several machines, which share no memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ranks, "shared_memory", lambda *_: None)
        return run(stacked, folder)


def dies(folder):
    """The second process ends in the third step, and says why."""

    def after(output, target):
        after.calls += 1
        if rank() == 1 and after.calls == 3:
            raise ValueError("the disk of the second machine is full")
        return (output - target).square().mean()

    after.calls = 0
    ll.fit(model(ll.GRU), (X, EACH), loss=after, epochs=9, progress=False)


def stops_within_compiled_updates(folder):
    """The second process leaves where the first waits for it in compiled code."""

    def rate(step):
        if rank() == 1 and step == 40:
            raise ValueError("this rate is not to be had")
        return 1.0

    schedule = ll.Schedule(lambda o: LambdaLR(o, rate), every="step")
    options = {"epochs": 90, "progress": False, "step": "compiled", "scheduler": schedule}
    try:
        ll.fit(model(ll.GRU), (X, EACH), batch_size=4, **options)
    except (RanksError, ValueError) as error:
        (folder / f"told by {rank()}").write_text(str(error))


if __name__ == "__main__":
    import json

    from longlag.scan.cpu import target

    target.SPEED = 0  # the code that a process alone has made and kept, where it was hurried
    torch.set_num_threads(1)
    place = Path(sys.argv[1])
    if "dies" in sys.argv:
        stops_within_compiled_updates(place)
        dies(place)
    results = {name: run(case, place) for name, case in {**CASES, "over": taken_over}.items()}
    results["apart"] = apart(place)
    (place / f"rank {rank()}.json").write_text(json.dumps(results))
