"""What the processor allows: the least time of a row, by its arithmetic, its weights, its chain.

For every step of a sequence::

    time >= max(flops / peak, bytes of W / bandwidth of the cache it fits in) + latency

summed over the steps, and shared by the threads as far as there are sequences to share.

- Flops: the scan needs 2 G H^2 a step (W h); the input product 2 G H C; the backward pass 2 G H^2
  each for W^T dr and dW, and 2 G H C for dU. G counts the gates that have a W.
- W is read once a step for all sequences of a thread, once more in the backward pass.
- Latency: what cannot overlap from one step to the next, one chain of multiply-adds and a tanh:
  about 25 ns at least, an assumption, not a measurement. It counts once a step: sequences overlap.
"""

from longlag.lab.bench.machine import bandwidth, peak_flops
from longlag.lab.bench.problem import Problem

LATENCY = 25e-9
"""Seconds from one step to the next that nothing can hide."""


def scan_flops(problem: Problem) -> int:
    """Operations of W h over all steps that count."""
    hidden = problem.row.hidden
    return 2 * problem.sequence_steps * len(problem.layer.recurrence.dense_gates) * hidden**2


def least_seconds(problem: Problem, pass_name: str, threads: int) -> float | None:
    """The limit of a row.

    Args:
        problem: the row.
        pass_name: "scan" (without the input product), "forward" or "forward+backward".
        threads: how many may work.

    Returns:
        Seconds; None where the processor's peak is not known.
    """
    peak = peak_flops(threads)
    if peak is None:
        return None
    row, recurrence = problem.row, problem.layer.recurrence
    backward = pass_name == "forward+backward"
    inputs = 2 * problem.sequence_steps * len(recurrence.gates) * row.hidden * row.features
    flops = scan_flops(problem) * (3 if backward else 1)
    flops += inputs * {"scan": 0, "forward": 1, "forward+backward": 2}[pass_name]
    sequences = row.batch * (row.replicas or 1)
    busy = min(threads, sequences)
    arithmetic = flops / (peak / threads * busy)

    steps = row.steps if problem.lengths is None else int(problem.lengths.max())
    weights = 4 * len(recurrence.dense_gates) * row.hidden**2
    chains = -(-(row.replicas or 1) // busy)  # networks one after the other on a thread
    passes = steps * (2 if backward else 1)
    reading = passes * chains * weights / bandwidth(weights) if weights else 0.0
    return max(arithmetic, reading) + passes * LATENCY
