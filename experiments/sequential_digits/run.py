"""Sequential digits: an LSTM reads the 64 pixels of a digit one by one, three seeds.

The configuration is that of the demo (``examples/demo.py``): 64 units, Chrono initialisation for a
lag of 64 steps, recurrent dropout 0.1, Adam with a one-cycle learning rate up to 0.01, 60 epochs,
the weights of the last epoch. The test set is looked at, but nothing is chosen by it.

    python experiments/sequential_digits/run.py      about 2 minutes on one core
"""

import json
import platform
import sys
import time
from datetime import date
from pathlib import Path

import torch

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parents[1] / "examples"))

from demo import EPOCHS, digits  # noqa: E402


def main() -> None:
    torch.set_num_threads(1)
    runs = []
    for seed in (0, 1, 2):
        started = time.perf_counter()
        _, model, history = digits("LSTM", seed)
        runs.append(
            {
                "seed": seed,
                "test_accuracy": round(history.records[-1].metrics["accuracy"], 4),
                "weights": model.summary().parameters,
                "steps": len(history),
                "seconds": round(time.perf_counter() - started, 1),
            }
        )
        print(runs[-1], flush=True)
    record = {
        "command": "python experiments/sequential_digits/run.py",
        "date": date.today().isoformat(),
        "epochs": EPOCHS,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": 1,
        "runs": runs,
    }
    (FOLDER / "results.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
