"""Runs that one process and several make alike; torchrun starts this file."""

import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

import longlag as ll
from longlag.training.ranks import launched, rank

G = torch.Generator().manual_seed(0)
X = torch.randn(21, 12, 3, generator=G, dtype=torch.float64)
LENGTHS = torch.randint(1, 13, (21,), generator=G)
EACH = X.cumsum(1)[..., :1].tanh()


def model(layer, output_size=1, reduce=None):
    recurrent = layer(3, 5, seed=rank(), dtype=torch.float64)
    return ll.SequenceModel(recurrent, output_size, reduce=reduce, seed=2)


def arrays(folder, **options):
    """Ragged batches of 8, 8 and 5 rows; the first weights differ until the first gives its own."""
    data = (X, (X.sum((1, 2)) > 0).long(), LENGTHS)
    return model(ll.LSTM, 2, "last"), data, {
        "validation": data, "metrics": "accuracy", "epochs": 4, "batch_size": 8, "clip_norm": 0.1,
        "early_stopping": ll.EarlyStopping(patience=2), **options,
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
        "validation": recordings, "epochs": 3, "batch_size": 4, "method": ll.TruncatedBPTT(4, 4),
        **options,
    }  # fmt: skip


def rtrl(folder):
    options = {"epochs": 2, "batch_size": 8, "method": ll.RTRL()}
    return model(ll.Elman), (X, EACH, LENGTHS), options


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


CASES = {c.__name__: c for c in (arrays, few, windows, streams, rtrl, loader, begun, within)}


def run(case, folder):
    """Weights, losses and what the records say."""
    network, data, options = case(folder)
    history = ll.fit(network, data, progress=False, **options)
    records = [[r.loss, r.validation_loss, *r.metrics.values()] for r in history.records]
    weights = {name: value.tolist() for name, value in network.state_dict().items()}
    return {"weights": weights, "losses": history.losses.tolist(), "records": records}


def dies(folder):
    """The second process ends in the third step, and says why."""

    def after(output, target):
        after.calls += 1
        if rank() == 1 and after.calls == 3:
            raise ValueError("the disk of the second machine is full")
        return (output - target).square().mean()

    after.calls = 0
    ll.fit(model(ll.GRU), (X, EACH), loss=after, epochs=9, progress=False)


if __name__ == "__main__":
    import json

    torch.set_num_threads(1)
    place = Path(sys.argv[1])
    if "dies" in sys.argv:
        dies(place)
    results = {name: run(case, place) for name, case in {**CASES, "over": taken_over}.items()}
    (place / f"rank {rank()}.json").write_text(json.dumps(results))
