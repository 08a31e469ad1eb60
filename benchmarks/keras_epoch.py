"""The lecture's network in Keras: an epoch with Keras' SimpleRNN, with longlag's, and on JAX.

    python benchmarks/keras_epoch.py                    a few minutes
    python benchmarks/keras_epoch.py --json benchmarks/keras_epoch.json

SimpleRNN of 16 units, a Dense layer of 8, softmax, rmsprop, accuracy; 1000 sequences of 64 steps
and 15 inputs in batches of 32. "longlag" is its layer in its Sequential. Each contender has a
process and one thread of its own, and they take turns. Beside them runs a network without a
recurrent layer: what it takes is that of Keras' own step on PyTorch, and with that step no layer
can take less. JAX is left out where it is not installed. Before anything is timed, the two must end
an epoch from the same weights with the same weights.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

CONTENDERS = {
    "longlag": "torch",
    "longlag's layer in keras.Sequential": "torch",
    "keras.layers on torch": "torch",
    "no recurrent layer, on torch": "torch",
    "keras.layers on JAX": "jax",
}
"""Each with its backend."""

SAMPLES, STEPS, INPUTS, UNITS, OUTPUTS, BATCH = 1000, 64, 15, 16, 8, 32


def network(contender: str):
    """The compiled network."""
    import keras

    keras.utils.set_random_seed(0)
    kind = keras.Sequential
    if contender.startswith("longlag"):
        from longlag.keras import Sequential, SimpleRNN

        first = SimpleRNN(UNITS)
        kind = Sequential if contender == "longlag" else kind
    elif contender.startswith("no"):
        first = keras.layers.Lambda(lambda x: x[:, -1])
    else:
        first = keras.layers.SimpleRNN(UNITS)
    model = kind(
        [
            keras.Input((STEPS, INPUTS)),
            first,
            keras.layers.Dense(OUTPUTS),
            keras.layers.Activation("softmax"),
        ]
    )
    model.compile(loss="categorical_crossentropy", optimizer="rmsprop", metrics=["accuracy"])
    return model


def data():
    """Random sequences and answers."""
    import numpy as np

    generator = np.random.default_rng(0)
    x = generator.standard_normal((SAMPLES, STEPS, INPUTS)).astype("float32")
    return x, np.eye(OUTPUTS, dtype="float32")[generator.integers(0, OUTPUTS, SAMPLES)]


def run(contender: str, epochs: int) -> None:
    """The seconds of some epochs, after one that is not counted; prints JSON."""
    if CONTENDERS[contender] == "torch":
        import torch

        torch.set_num_threads(1)
    model, (x, y) = network(contender), data()
    model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    weights = [float(number) for weight in model.get_weights() for number in weight.ravel()]
    clocks = {"seconds": time.perf_counter, "processor_seconds": time.process_time}
    started = {name: clock() for name, clock in clocks.items()}
    model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)
    if contender == "longlag" and model.step_used != "compiled":
        sys.exit(f"the step was not compiled: {model.step_reason}")
    result = {name: (clock() - started[name]) / epochs for name, clock in clocks.items()}
    print(json.dumps({**result, "weights": weights}))


def measured(contender: str, epochs: int) -> dict | None:
    """A run in a process of its own; None where its backend is not installed."""
    backend = CONTENDERS[contender]
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    done = subprocess.run(
        [sys.executable, __file__, "--contender", contender, "--epochs", str(epochs)],
        env={**os.environ, "KERAS_BACKEND": backend, "XLA_FLAGS": flags, "NPROC": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and f"No module named '{backend}'" in done.stderr:
        return None
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3, help="a turn")
    parser.add_argument("--json", type=Path, help="where to write the result")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        run(arguments.contender, arguments.epochs)
        return
    from longlag.lab.bench.machine import describe

    turns: dict[str, list[dict]] = {name: [] for name in CONTENDERS}
    for _ in range(arguments.turns):
        for name, results in turns.items():
            result = measured(name, arguments.epochs)
            if result is not None:
                results.append(result)
                print(f"{name}: {result['seconds']:.3f} s an epoch", flush=True)
    ours, theirs = (turns[name][0]["weights"] for name in ("longlag", "keras.layers on torch"))
    apart = max(abs(one - other) for one, other in zip(ours, theirs, strict=True))
    if not apart < 1e-3:
        sys.exit(f"the two layers end an epoch {apart} apart: the times mean nothing")
    contenders = {
        name: {
            clock: statistics.median(turn[clock] for turn in results)
            for clock in ("seconds", "processor_seconds")
        }
        for name, results in turns.items()
        if results
    }
    ratios = {
        name: statistics.median(
            other["seconds"] / mine["seconds"]
            for other, mine in zip(results, turns["longlag"], strict=True)
        )
        for name, results in turns.items()
        if results
    }
    result = {
        "date": date.today().isoformat(),
        "machine": describe()["processor"],
        "load_average": os.getloadavg()[0],
        "epoch_of": {"samples": SAMPLES, "steps": STEPS, "inputs": INPUTS, "units": UNITS},
        "weights_apart": apart,
        "contenders": contenders,
        "seconds_over_longlag": ratios,
    }
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
