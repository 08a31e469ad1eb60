"""How fast longlag is beside its peers: the measurements behind `longlag bench`.

- rows.py: what is measured, as data; problem.py: one row as tensors, and its right answer.
- peers/: one file each; a peer gives a call to time and its output and gradients.
- measure.py: one row: check, then time in turns, then memory. timing.py, check.py, memory.py.
- machine.py: the processor's measured peaks; limits.py: what they allow.
- worker.py: a process that measures with one number of threads; processes.py: starts it.
- results.py: what was measured; table.py, figure.py, document.py: how it is shown.

No time is kept of a result that is wrong: the check comes first.
"""
