"""The process that measures: work comes on standard input, results leave line by line as JSON."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import torch

from longlag.lab.bench.machine import bandwidth, peak_flops
from longlag.lab.bench.measure import contenders, measure
from longlag.lab.bench.problem import Problem
from longlag.lab.bench.processes import Work
from longlag.lab.bench.results import Peaks

_ARRAYS = (1 << 14, 1 << 18, 1 << 20, 1 << 22)
"""Bytes of the arrays whose bandwidth is put on record: 16 KB to 4 MB."""


_REST = 0.005
"""Seconds before a turn on several threads: those of OpenMP spin for a while after their work."""


def run(work: Work) -> Iterator[dict[str, Any]]:
    """Measure, row by row; the results as JSON has them, the processor's peaks last."""
    torch.set_num_threads(work.threads)
    effort = replace(work.effort, rest=_REST) if work.threads > 1 else work.effort
    peak_flops(work.threads)  # more than once before the first row, whose share it decides
    for row in work.rows:
        problem = Problem(row)
        for pass_name in work.passes:
            result = measure(problem, pass_name, work.threads, contenders(work.peers), effort)
            torch.compiler.reset()
            yield {"result": result.to_dict()}
    bandwidths = {str(size): bandwidth(size) for size in _ARRAYS}
    yield {"peaks": asdict(Peaks(work.threads, peak_flops(work.threads), bandwidths))}


def main() -> None:
    """Read the work, write the results; what a library prints goes to standard error."""
    results = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for result in run(Work.from_dict(json.load(sys.stdin))):
        print(json.dumps(result), file=results, flush=True)


if __name__ == "__main__":
    main()
