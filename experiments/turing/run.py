"""The fifth busy beaver run to its halt by a network of 23 units, without rounding.

The machine makes 47,176,870 steps, the network twice as many updates; some minutes on one core. It
writes where it is every 30 seconds: after Ctrl-C the same command goes on from there. At the end it
is compared with the table: steps, ones, and the tape cell by cell. It also draws the figure of
docs/turing.md.

    python experiments/turing/run.py
    python experiments/turing/run.py --form real-time       one update a step, 27 units
"""

import argparse
import json
import platform
import time
from datetime import date
from pathlib import Path

import torch

import longlag as ll
from longlag.storage import atomic_write_text
from longlag.turing import TuringMachine
from longlag.turing.checkpoint import load_run, save_run

FOLDER = Path(__file__).parent
BB4 = "1RB1LB_1LA0LC_1RH1LD_1RD0RA"
BB5 = "1RB1LC_1RC1RB_1RD0LE_1LA1LD_1RH0LA"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--form", default="compact", choices=("compact", "real-time"))
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--max_steps", type=int, default=None)
    options = parser.parse_args()

    figure = ll.turing.compile(TuringMachine.parse(BB4)).trace(steps=107).plot()
    figure.savefig(options.folder / "figure.png", dpi=110)

    machine = TuringMachine.parse(BB5)
    net = ll.turing.compile(machine, options.form)
    partial = options.folder / f"{options.form}.partial.json"
    began = {"wall": time.time(), "cpu": time.process_time()}
    exact = load_run(partial, net, "") if partial.exists() else net.begin_exactly()
    resumed, saved = exact.updates // net.construction.updates, time.time()

    def progress(steps: int) -> None:
        nonlocal saved
        if time.time() - saved > 30:
            save_run(partial, net, "", exact)
            saved = time.time()
            print(f"{steps:,} steps, {time.process_time() - began['cpu']:.0f} s", flush=True)

    try:
        run = net.continue_exactly(exact, options.max_steps, progress)
    except KeyboardInterrupt:
        save_run(partial, net, "", exact)
        raise
    seconds = {name: clock() - began[name] for name, clock in
               (("wall", time.time), ("cpu", time.process_time))}  # fmt: skip
    expected = machine.simulate(max_steps=options.max_steps)
    assert run == expected, (run, expected)
    record = {
        "command": f"python experiments/turing/run.py --form {options.form}",
        "date": date.today().isoformat(), "python": platform.python_version(),
        "torch": torch.__version__, "machine": BB5, "form": options.form,
        "units": len(net.units), "updates a step": net.construction.updates,
        "steps": run.steps, "ones": run.ones, "halted": run.halted,
        "cells": len(run.tape.cells), "equal to the simulator": True,
        "seconds of this process": {name: round(value) for name, value in seconds.items()},
        "resumed after steps": resumed,
    }  # fmt: skip
    atomic_write_text(options.folder / f"{options.form}.json", json.dumps(record, indent=1) + "\n")
    partial.unlink(missing_ok=True)
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
