"""Trains in child processes and stops them: by SIGKILL at random moments, and by signals.

Run as a script: torch is imported once, and each attempt is a fork. The result is printed as JSON.
"""

import contextlib
import json
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.optim import lr_scheduler

from longlag.storage import from_document, previous_path, read_archive
from longlag.training import Checkpoint, EarlyStopping, fit


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.core = nn.GRU(1, 4, batch_first=True)
        self.drop = nn.Dropout(0.3)
        self.readout = nn.Linear(4, 1)

    def forward(self, x):
        return self.readout(self.drop(self.core(x)[0][:, -1]))


def data(count, seed):
    x = np.random.default_rng(seed).uniform(-1, 1, (count, 5, 1)).astype(np.float32)
    return x, x.mean(axis=1)


def train(folder, report, *, steps=700, checkpoint=True, pause=None):
    """One process of the run; `report` gets "." for a training loss and "v" for another."""
    torch.manual_seed(0)
    model = Net()
    torch.manual_seed(os.getpid())  # what a new process has drawn must not matter

    def loss(output, target):
        kind = b"." if output.requires_grad else b"v"
        os.write(report, kind)
        if pause is not None:
            pause(kind)
        return nn.functional.mse_loss(output, target)

    fit(
        model,
        data(40, 0),
        validation=data(10, 1),
        loss=loss,
        optimizer=lambda p: torch.optim.SGD(p, 0.05, momentum=0.9),
        scheduler=lambda o: lr_scheduler.StepLR(o, 7, 0.97),
        steps=steps,
        batch_size=8,
        clip_norm=0.5,
        early_stopping=EarlyStopping(patience=10_000),
        checkpoint=Checkpoint(folder, every_steps=1, every_seconds=None) if checkpoint else None,
        progress=not checkpoint,
    )


def fork(**options):
    """Start a child that trains; its process id and the pipe on which it reports."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        train(report=writer, **options)
        sys.exit(0)
    os.close(writer)
    return pid, reader


def wait_for(reader, count, kind=b"."):
    """Read until `count` reports of a kind came, or the child is gone."""
    while count > 0:
        received = os.read(reader, 1)
        if not received:
            return
        count -= received == kind


def finish(**options):
    pid, reader = fork(**options)
    while os.read(reader, 4096):
        pass
    os.close(reader)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def state(folder):
    """The bits of the newest checkpoint, as text, without its times."""
    found = from_document(*read_archive(folder / "checkpoint.longlag", "checkpoint"))
    found["position"].pop("seconds")
    for record in found["history"]["records"]:
        record.pop("seconds")
    return repr(bits(found))


def bits(tree):
    if isinstance(tree, dict):
        return {key: bits(item) for key, item in tree.items()}
    if isinstance(tree, list | tuple):
        return [bits(item) for item in tree]
    if isinstance(tree, torch.Tensor):
        return str(tree.dtype), list(tree.shape), tree.numpy().tobytes().hex()
    return (str(tree.dtype), tree.tobytes().hex()) if isinstance(tree, np.ndarray) else tree


def whole_files(folder):
    """How many of the two saves there are; reading fails if one is half."""
    path = folder / "checkpoint.longlag"
    names = [each for each in (path, previous_path(path)) if each.exists()]
    for each in names:
        read_archive(each, "checkpoint")
    return len(names)


def kill(folder, kills):
    generator = random.Random(0)
    steps = 50 + 14 * kills  # more than they make: killed after at most 9, and a delay of a few
    assert finish(folder=folder / "whole", steps=steps) == 0
    killed, while_writing, files, lost, step = 0, 0, [], 0, 0
    while killed < kills:
        pid, reader = fork(folder=folder / "parts", steps=steps)
        wait_for(reader, generator.randrange(10))
        time.sleep(generator.uniform(0.0, 0.015))
        os.kill(pid, signal.SIGKILL)
        os.close(reader)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code != -signal.SIGKILL:
            break  # it had ended by itself: the run is too short
        killed += 1
        while_writing += any((folder / "parts").glob(".*.tmp"))
        files.append(whole_files(folder / "parts"))
        if files[-1]:
            path = folder / "parts" / "checkpoint.longlag"
            now = read_archive(path, "checkpoint")[0]["position"]["step"]
            lost += now < step
            step = now
    code = finish(folder=folder / "parts", steps=steps)
    left = sorted(each.name for each in (folder / "parts").iterdir())
    equal = state(folder / "parts") == state(folder / "whole")
    return {
        "kills": killed, "while_writing": while_writing, "files": files, "steps_at_last_kill": step,
        "went_back": lost, "code": code, "left": left, "equal": equal,
    }  # fmt: skip


def stop(folder):
    """Exit codes of runs stopped by signals, and whether they went on to the same bits."""
    results = {}
    assert finish(folder=folder / "whole", steps=30) == 0
    expected = state(folder / "whole")
    for number in (signal.SIGINT, signal.SIGTERM):
        for kind in (b".", b"v"):  # in training, in validation
            name = f"{signal.Signals(number).name} {kind.decode()}"
            target = folder / name.replace(".", "training")

            def pause(received, kind=kind):
                if received == kind:
                    time.sleep(0.05)

            pid, reader = fork(folder=target, steps=30, pause=pause)
            wait_for(reader, 3, kind)
            os.kill(pid, number)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            os.close(reader)
            steps = read_archive(target / "checkpoint.longlag", "checkpoint")[0]["position"]["step"]
            again = finish(folder=target, steps=30)
            equal = state(target) == expected
            results[name] = {"code": code, "steps": steps, "again": again, "equal": equal}

    def forever(kind):
        time.sleep(60)

    pid, reader = fork(folder=folder / "twice", pause=forever)
    wait_for(reader, 1)
    started = time.monotonic()
    os.kill(pid, signal.SIGINT)
    time.sleep(0.3)
    still_there = os.waitpid(pid, os.WNOHANG)[0] == 0
    os.kill(pid, signal.SIGINT)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    seconds = time.monotonic() - started
    results["twice"] = {"code": code, "waited_for_the_step": still_there, "seconds": seconds}
    os.close(reader)

    pid, reader = fork(folder=folder / "none", checkpoint=False)
    wait_for(reader, 3)
    os.kill(pid, signal.SIGTERM)
    results["no checkpoint"] = {"code": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}
    os.close(reader)
    return results


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    # Python 3.12 and later warn; no thread of this process holds a lock when it forks.
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    torch.optim.SGD(Net().parameters(), 0.1).step()  # what torch imports late, once
    with contextlib.redirect_stdout(sys.stderr):
        what, folder, *numbers = sys.argv[1:]
        result = {"kill": kill, "stop": stop}[what](Path(folder), *map(int, numbers))
    print(json.dumps(result))
