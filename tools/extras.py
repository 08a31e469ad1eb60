"""Install each extra alone into a fresh environment, and use what it is for.

    python tools/extras.py                        all: some ten minutes, and 2 GB while it runs
    python tools/extras.py keras onnx             these
    python tools/extras.py --folder /tmp/extras   keep the environments there

The first environment has longlag without extras. That of an extra sees its packages, and has beside
them what ``pip install -c constraints.txt ".[EXTRA]"`` brings. Ends with 1 where one fails.
"""

import argparse
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]

_TABLE = """
import csv, numpy as np
rng = np.random.default_rng(0)
with open("walks.csv", "w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["series", "time", "step", "target"])
    for n in range(40):
        steps = rng.normal(size=8)
        table.writerows([n, t, x, "up" if steps.sum() > 0 else "down"] for t, x in enumerate(steps))

def longlag(command, expected=0):
    from longlag.cli import main
    assert main(command.split()) == expected, command
"""

_TRAIN = "train {} --task classification --epochs 2 --hidden 4 --output {}.longlag --logger {}"


def _logged(kind: str, found: str) -> str:
    command = _TRAIN.format("walks.csv", kind, kind) + " --logs logs"
    return (
        _TABLE
        + f"""
longlag("{command}")
from pathlib import Path
assert [*Path(".").glob("{found}")], [*Path(".").rglob("*")]
"""
    )


_OFFLINE = """
import os
os.environ["WANDB_MODE"] = "offline"
"""

USES = {
    "tables": _TABLE + f"""
import pyarrow.csv, pyarrow.parquet
pyarrow.parquet.write_table(pyarrow.csv.read_csv("walks.csv"), "walks.parquet")
longlag("{_TRAIN.format("walks.parquet", "tables", "none")}")
""",
    "ts": _TABLE + f"""
rows = [(rng.normal(size=8), "up" if n % 2 else "down") for n in range(20)]
head = "@problemName walks\\n@timestamps false\\n@missing false\\n@univariate true\\n"
head += "@equalLength true\\n@seriesLength 8\\n@classLabel true up down\\n@data\\n"
lines = [",".join(f"{{x:.3f}}" for x in row) + ":" + label for row, label in rows]
open("walks.ts", "w").write(head + "\\n".join(lines) + "\\n")
longlag("{_TRAIN.format("walks.ts", "ts", "none")}")
""",
    "bench": """
from longlag.lab.bench.peers import jax_scan
""",
    "reproduce": """
from longlag.lab.reproduce import one_unit_loops
""",
    "tensorboard": _logged("tensorboard", "logs/**/events.out.tfevents*"),
    "wandb": _OFFLINE + _logged("wandb", "logs/**/*.wandb"),
    "mlflow": _logged("mlflow", "logs/**/*"),
    "keras": """
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras, numpy as np
from longlag.keras import LSTM, Sequential
model = Sequential([keras.Input((9, 3)), LSTM(4), keras.layers.Dense(2)])
model.compile("adam", "mse")
model.fit(np.ones((8, 9, 3)), np.ones((8, 2)), verbose=0)
assert model.step_used == "compiled", model.step_reason
""",
    "onnx": """
import torch, longlag as ll
ll.export_onnx(ll.SequenceModel(ll.LSTM(3, 4), 2), "model.onnx")
""",
    "sweep": _TABLE + """
longlag("sweep walks.csv --task classification --epochs 2 --trials 2 --space hidden=3,4")
""",
    "ray": _TABLE + """
longlag("sweep walks.csv --task classification --epochs 2 --trials 2 --space hidden=3,4 "
        "--runner ray")
""",
}  # fmt: skip
"""By extra, a script that needs it."""


def make(folder: Path, requirement: str, beside: Path | None = None) -> Path:
    """An environment with a requirement, and the packages of another one; its Python."""
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    if beside is not None:
        for packages in folder.glob("**/site-packages"):
            (packages / "beside.pth").write_text(f"{beside}\n")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    constraints = ["-c", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, *constraints, requirement], check=True, cwd=ROOT)
    return python


def main() -> None:
    """Try the extras that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("extras", nargs="*", default=[], help=f"of {', '.join(USES)}")
    parser.add_argument("--folder", type=Path, help="where to keep the environments")
    arguments = parser.parse_args()
    unknown = {*arguments.extras} - {*USES}
    if unknown:
        parser.error(f"no such extra: {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        make(folder / "none", "torch==2.13.0")
        python = make(folder / "none", ".")
        packages = next(python.parents[1].glob("**/site-packages"))
        failed = []
        for extra in arguments.extras or USES:
            began, work = time.monotonic(), folder / f"work-{extra}"
            work.mkdir(exist_ok=True)
            try:
                own = make(folder / extra, f".[{extra}]", packages)
                subprocess.run([str(own), "-c", USES[extra]], check=True, cwd=work)
            except subprocess.CalledProcessError as error:
                failed.append(extra)
                print(f"{extra}: failed, status {error.returncode}", flush=True)
            else:
                print(f"{extra}: {time.monotonic() - began:.0f} s", flush=True)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
