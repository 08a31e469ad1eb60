"""Measuring in a process of its own for each number of threads.

JAX fixes its threads when it starts, and PyTorch's are best left as they were made, so each number
of threads gets a new process with the environment that asks for it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from longlag.lab.bench.results import Peaks, Result
from longlag.lab.bench.rows import Row
from longlag.lab.bench.timing import Effort


@dataclass(frozen=True)
class Work:
    """What one process measures.

    Attributes:
        rows: the rows, in order.
        passes: of :data:`longlag.lab.bench.rows.PASSES`.
        threads: how many.
        peers: names of :data:`longlag.lab.bench.peers.PEERS`.
        effort: how much time each measurement may take.
    """

    rows: Sequence[Row]
    passes: Sequence[str]
    threads: int
    peers: Sequence[str]
    effort: Effort

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "Work":
        """The work that went through JSON."""
        rows = tuple(Row(**row) for row in record["rows"])
        effort = {**record["effort"], "rounds": tuple(record["effort"]["rounds"])}
        names = {key: tuple(record[key]) for key in ("passes", "peers")}
        return cls(**{**record, **names, "rows": rows, "effort": Effort(**effort)})


def environment(threads: int) -> dict[str, str]:
    """The environment in which PyTorch and JAX use so many threads.

    JAX's pool follows NPROC; with one thread its matrix products are kept off it as well. One arena
    for malloc, as free memory of the others cannot be handed back: see
    :mod:`longlag.lab.bench.memory`.
    """
    env = {**os.environ, "JAX_PLATFORMS": "cpu", "NPROC": str(threads), "MALLOC_ARENA_MAX": "1"}
    env |= {f"{name}_NUM_THREADS": str(threads) for name in ("OMP", "MKL", "OPENBLAS")}
    if threads == 1:
        flags = env.get("XLA_FLAGS", "")
        env["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
    return env


def measured(work: Work) -> Iterator[Result | Peaks]:
    """Measure in a new process; gives each result as it comes, and the processor's peaks last.

    Raises:
        RuntimeError: the process ended before its work; what it said stands on standard error.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "longlag.lab.bench.worker"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(work.threads),
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(asdict(work)))
            process.stdin.close()
            for line in process.stdout:
                message = json.loads(line)
                if "peaks" in message:
                    yield Peaks(**message["peaks"])
                else:
                    yield Result.from_dict(message["result"])
            status = process.wait()
        finally:
            process.kill()
    if status != 0:
        raise RuntimeError(
            f"the process that measured with {work.threads} thread(s) ended with status {status}"
        )
