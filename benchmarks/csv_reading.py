"""A CSV of a million rows and eight columns of floats: read by Arrow, and by Python cell by cell.

    python benchmarks/csv_reading.py --json benchmarks/csv_reading.json      about two minutes
    python benchmarks/csv_reading.py --rows 100000

Writes a hundred series with a time column to a folder that is deleted afterwards, and reads the
file in both ways, in turns and each in a process of its own. Prints seconds, their ratio, and by
how much memory rose above what the interpreter and its libraries take. Both must give the same
bits.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np

SERIES, FEATURES = 100, 8


def write(path: Path, rows: int) -> None:
    """Normal numbers with all their digits."""
    generator = np.random.default_rng(0)
    with open(path, "w", encoding="utf-8") as file:
        file.write(",".join(["series", "time", *(f"f{c}" for c in range(FEATURES))]) + "\n")
        for series in range(SERIES):
            values = generator.normal(size=(rows // SERIES, FEATURES)).tolist()
            file.writelines(
                f"s{series},{t},{','.join(map(repr, row))}\n" for t, row in enumerate(values)
            )


def megabytes() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(kind: str, path: Path) -> None:
    """One run, as a process of its own; prints JSON."""
    import longlag.data.arrow  # noqa: F401 - both have the same libraries
    from longlag.data import Columns
    from longlag.data.read_csv import read_csv

    before = megabytes()
    started = time.perf_counter(), time.process_time()
    data = read_csv(path, "forecasting", Columns(), True, quick=kind == "arrow")
    seconds = time.perf_counter() - started[0], time.process_time() - started[1]
    assert data.times is not None
    texts = repr((data.times.tolist(), data.names))
    digest = hashlib.sha256(data.x.tobytes() + texts.encode())
    result = {
        "seconds": seconds[0],
        "processor_seconds": seconds[1],
        "megabytes": megabytes() - before,
        "sha256": digest.hexdigest(),
    }
    print(json.dumps(result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to write the result")
    parser.add_argument("--kind", choices=["arrow", "python"], help=argparse.SUPPRESS)
    parser.add_argument("--path", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.kind:
        run(arguments.kind, arguments.path)
        return
    from longlag.lab.bench.machine import describe

    load = os.getloadavg()[0]
    runs: dict[str, list[dict]] = {"arrow": [], "python": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "walks.csv"
        write(path, arguments.rows)
        size = path.stat().st_size / 1e6
        for _ in range(arguments.turns):
            for kind, results in runs.items():
                command = [sys.executable, __file__, "--kind", kind, "--path", str(path)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                results.append(json.loads(done.stdout))
                print(kind, results[-1], flush=True)
    if len({result["sha256"] for results in runs.values() for result in results}) != 1:
        sys.exit("the readers differ: the figures mean nothing")
    best = {
        kind: {
            key: min(result[key] for result in results)
            for key in ("seconds", "processor_seconds", "megabytes")
        }
        for kind, results in runs.items()
    }
    result = {
        "date": date.today().isoformat(),
        "machine": describe()["processor"],
        "processors": os.cpu_count(),
        "load_at_the_start": load,
        "rows": arguments.rows, "series": SERIES, "features": FEATURES, "file_megabytes": size,
        **best,
        "python_over_arrow": best["python"]["seconds"] / best["arrow"]["seconds"],
        "python_over_arrow_processor": (
            best["python"]["processor_seconds"] / best["arrow"]["processor_seconds"]
        ),
    }  # fmt: skip
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
