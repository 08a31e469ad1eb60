"""The peer of reservoirs.py: reservoirpy, in a Python of its own that need not have longlag.

It is started with a file of arrays, the name of a case, and where the states go; then it runs the
case once for each line that it reads, and answers with the seconds that took.
"""

import importlib
import sys
import time

import numpy as np
import scipy.sparse


def case(kind, data):
    """The function that runs a case once, and gives the numbers to be compared."""
    numpy_like = np
    nodes = importlib.import_module("reservoirpy.nodes")
    matrix = scipy.sparse.csr_matrix(
        (data["values"], data["indices"], data["indptr"]), shape=(len(data["input"]),) * 2
    )
    weights = {"W": matrix, "Win": data["input"]}
    x = data["x"]
    if kind == "jax":
        jax = importlib.import_module("jax")
        jax.config.update("jax_enable_x64", True)
        nodes = importlib.import_module("reservoirpy.jax.nodes")
        sparse = importlib.import_module("jax.experimental.sparse")
        numpy_like = importlib.import_module("jax.numpy")
        recurrent = sparse.BCOO.from_scipy_sparse(matrix)
        # It does not count BCOO as an array, and takes a function that makes W.
        weights = {
            "units": len(data["input"]),
            "W": lambda *shape, **options: recurrent,
            "Win": numpy_like.array(weights["Win"]),
        }
        x = numpy_like.array(x)
    reservoir = nodes.Reservoir(lr=float(data["leak"]), bias=0.0, **weights)

    def series():
        reservoir.initialize(x[0]) if not reservoir.initialized else reservoir.reset()
        return np.asarray(reservoir.run(x[0]))

    def batch():
        for one in x:
            if not reservoir.initialized:
                reservoir.initialize(one)
            reservoir.reset()
            states = reservoir.run(one)
        return states

    def closed():
        readout, outputs = data["readout"], []
        y = bias = data["bias"]
        if not reservoir.initialized:
            reservoir.initialize(y[np.newaxis])
        reservoir.reset()
        for _ in range(int(data["steps"])):
            outputs.append(y)
            y = readout @ reservoir.step(y) + bias
        return np.stack(outputs)

    return {"batch": batch, "closed": closed}.get(kind, series)


def main():
    path, kind, target = sys.argv[1:]
    run = case(kind, dict(np.load(path)))
    np.save(target, run())
    print("ready", flush=True)
    for line in sys.stdin:
        clock = time.process_time if line == "processor\n" else time.perf_counter
        start = clock()
        run()
        print(clock() - start, flush=True)


if __name__ == "__main__":
    main()
