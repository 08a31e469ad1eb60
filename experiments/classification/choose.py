"""How the reservoir of `--cell auto` was chosen: cross-validation on training parts alone.

Each variation is fitted on four fifths of the training part of each set and judged on the rest,
five times. choose.json keeps the shares told right, and the Brier scores; started again, it goes
on. The first six were tried on more sets than the others.

    python experiments/classification/choose.py      about 10 minutes on a core
"""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from sets import CHOSEN_ON, ONLY_CHOSEN_ON, SETS

from longlag.pipeline import fitting
from longlag.pipeline.choosing import cross_validate
from longlag.pipeline.fitting import changes_for
from longlag.pipeline.settings import Settings
from longlag.storage import atomic_write_text

RESULTS = Path(__file__).with_name("choose.json")
ECHO = Settings("classification", cell="echo")
SHARES = {"reduce": "share", "hidden": 1000}
VARIATIONS: dict[str, dict[str, Any]] = {
    "as chosen": {},
    "as chosen, with places": {"places": True},
    "shares": SHARES,
    "shares, with places": SHARES | {"places": True},
    "shares of 2,000 units": SHARES | {"hidden": 2000},
    "shares of 2,000 units, with places": SHARES | {"hidden": 2000, "places": True},
    "mean": {"reduce": "mean", "hidden": 1000, "density": 0.01, "bias_scaling": 0.5},
    "last state": {"reduce": "last", "hidden": 1000, "density": 0.01, "bias_scaling": 0.5},
    "without changes": SHARES,
    "300 units": SHARES | {"hidden": 300},
    "radius 0.5": SHARES | {"spectral_radius": 0.5},
    "inputs and biases x 0.3": SHARES | {"input_scaling": 0.3, "bias_scaling": 0.15},
    "biases 0.2": SHARES | {"bias_scaling": 0.2},
}
"""Those below the first two are of shares, of 1,000 units where no other number is named: the
default before greatest values were read beside them."""

ON_ALL = tuple(VARIATIONS)[:6]
"""What is tried on the sets that are there for choosing alone, too."""


def main() -> None:
    """Run what is not done yet, and print the table."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name, options in VARIATIONS.items():
        found = results.setdefault(name, {})
        further = ONLY_CHOSEN_ON if name in ON_ALL else {}
        sets = {of: SETS[of] for of in CHOSEN_ON} | further
        for of, load in sets.items():
            if of in found:
                continue
            without = name == "without changes"
            fitting.changes_for = (lambda *_: None) if without else changes_for
            right, error = cross_validate(load().train, replace(ECHO, **options))
            found[of] = {"right": right, "Brier score": error}
            atomic_write_text(RESULTS, json.dumps(results, indent=1) + "\n")
        right = [100 * found[of]["right"] for of in sets]
        row = " | ".join(f"{share:.1f}" for share in right)
        print(f"| {name} | {row} | {mean(right):.1f} |", flush=True)
        if further:
            print("  Brier scores", *(f"{found[of]['Brier score']:.3f}" for of in sets), flush=True)


if __name__ == "__main__":
    main()
