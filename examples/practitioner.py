"""Four files as practitioners have them, and the two commands that each of them takes.

    python examples/practitioner.py FOLDER              some seconds; prints the commands
    python examples/practitioner.py FOLDER --scale 0.1  a tenth of the series and steps

- machines.csv: 300 machines of 20 to 120 readings, one in ten with a fault. Readings come at uneven
  times, one cell in twelve is missing, and what a fault looks like depends on the kind.
- stream.csv: one recording of 100,000 rows, each tagged with what is being done; neither series nor
  time.
- sales.csv: 50 shops by month, with price, promotion and region; twelve months are asked for, whose
  prices and promotions are planned: new_sales.csv has them in rows without anything sold.
- life.csv: 100 engines that run until they fail; how many cycles are left is asked for at each.

Beside each lies new_... of the same kind, to predict.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

Row = list[object]

COMMANDS = {
    "machines": "--task classification --columns.series machine --columns.time hour "
    "--columns.target fault --missing indicator --time_delta",
    "stream": "--task tagging --columns.target doing --epochs 20",
    "sales": "--task forecasting --horizon 12 --columns.series shop --columns.time month "
    "--columns.target sold --columns.known price,promotion --columns.static region",
    "life": "--task tagging --columns.series engine --columns.time cycle "
    "--columns.target remaining --epochs 40",
}
"""What `longlag train FILE` is told besides."""


def machines(rng: np.random.Generator, count: int) -> Iterator[Row]:
    """Of a lathe the vibration rises before a fault, of a mill it falls."""
    yield ["machine", "hour", "kind", "built", "running", "vibration", "heat", "fault"]
    for n in range(count):
        kind = ["lathe", "mill", "press"][n % 3]
        fault = n % 10 == 7
        built = f"{rng.integers(1995, 2020)}-{rng.integers(1, 13):02d}-01"
        steps, hour, heat = int(rng.integers(20, 121)), 0.0, 60.0
        for t in range(steps):
            running = rng.random() < 0.8
            heat += 0.2 * ((75.0 if running else 40.0) - heat) + rng.normal()
            drift = max(0.0, t - steps / 2) / steps * 6 * (-1 if kind == "mill" else 1)
            vibration = running * (5.0 + drift * fault) + rng.normal() * 0.5
            cells = [str(running).lower(), f"{vibration:.3f}", f"{heat:.2f}"]
            cells = ["" if rng.random() < 1 / 12 else cell for cell in cells]
            yield [f"M{n:03d}", f"{hour:.2f}", kind, built, *cells, "yes" if fault else "no"]
            hour += 0.05 + rng.exponential()


def stream(rng: np.random.Generator, steps: int) -> Iterator[Row]:
    """Resting, walking or running, by two axes of an accelerometer."""
    yield ["ahead", "up", "doing"]
    doing, phase = 0, 0.0
    for _ in range(steps):
        if rng.random() < 1 / 200:
            doing = (doing + int(rng.integers(1, 3))) % 3
        phase += (0.0, 0.35, 0.55)[doing]
        ahead, up = (0.0, 0.8, 1.0)[doing] * np.array([np.sin(phase), np.cos(2 * phase)])
        noise = rng.normal(size=2) * 0.4
        yield [f"{ahead + noise[0]:.3f}", f"{up + noise[1]:.3f}", ["rest", "walk", "run"][doing]]


def sales(rng: np.random.Generator, shops: int, ahead: int = 0) -> Iterator[Row]:
    """Trend, season and promotions; December 2024 is the last month, `ahead` more are planned."""
    yield ["shop", "month", "region", "price", "promotion", "sold"]
    for n in range(shops):
        north, level, growth = n % 2 == 0, rng.uniform(50, 500), rng.uniform(0.0, 0.01)
        first = int(rng.integers(0, 24))
        for m in range(first, 120 + ahead):
            promotion = rng.random() < 0.15
            price = 10 + rng.normal() * 0.5 - 1.5 * promotion
            season = 1 + 0.3 * np.cos(2 * np.pi * (m - (0 if north else 6)) / 12)
            sold = level * (1 + growth * m) * season * (1 + 0.4 * promotion) * (10 / price)
            sold *= np.exp(rng.normal() * 0.05)
            yield [
                f"shop {n}", f"{2015 + m // 12}-{m % 12 + 1:02d}-01",
                "north" if north else "south", f"{price:.2f}", str(promotion).lower(),
                round(sold) if m < 120 else "",
            ]  # fmt: skip


def life(rng: np.random.Generator, engines: int) -> Iterator[Row]:
    """Wear grows until it ends the engine; sensors see it through the load."""
    yield ["engine", "cycle", "load", "pressure", "temperature", "remaining"]
    for n in range(engines):
        rows, wear, rate = [], 0.0, rng.uniform(0.004, 0.012)
        while wear < 1:
            load = rng.uniform(0.5, 1.0)
            pressure = 30 - 4 * wear**2 + 2 * load + rng.normal() * 0.3
            temperature = 500 + 40 * wear**2 * load + rng.normal() * 2
            rows.append([f"{load:.2f}", f"{pressure:.2f}", f"{temperature:.1f}"])
            wear += rate * load * rng.uniform(0.6, 1.4)
        for t, row in enumerate(rows):
            yield [f"E{n}", t, *row, len(rows) - 1 - t]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write the files")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of series or rows")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    sizes = {machines: 300, stream: 100_000, sales: 50, life: 100}
    for make, size in sizes.items():
        name = make.__name__
        for seed, prefix in enumerate(("", "new_")):
            rng = np.random.default_rng(seed)
            path = arguments.folder / f"{prefix}{name}.csv"
            with open(path, "w", encoding="utf-8", newline="") as file:
                count = max(10, round(size * arguments.scale))
                rows = make(rng, count, 12) if name == "sales" and prefix else make(rng, count)
                csv.writer(file).writerows(rows)
        print(f"longlag train {name}.csv {COMMANDS[name]} --output {name}.longlag")
        print(f"longlag predict {name}.longlag new_{name}.csv --output {name}_answers.csv")


if __name__ == "__main__":
    main()
