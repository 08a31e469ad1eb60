"""Work and results travel between processes."""

import json
from dataclasses import asdict, replace

import pytest

from longlag.lab.bench.processes import Work, environment, measured
from longlag.lab.bench.rows import Row
from longlag.lab.bench.timing import Effort

ROW = Row("elman", 2, 4, 3, 4)
WORK = Work((ROW,), ("forward",), 1, ("torch.nn",), Effort(0.0, (3, 3), 0.0))


def test_work_is_the_same_after_json():
    assert Work.from_dict(json.loads(json.dumps(asdict(WORK)))) == WORK


def test_the_environment_asks_every_library_for_so_many_threads(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=x")
    one, two = environment(1), environment(2)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"):
        assert (one[name], two[name]) == ("1", "2")
    assert one["XLA_FLAGS"] == "--xla_dump_to=x --xla_cpu_multi_thread_eigen=false"
    assert two["XLA_FLAGS"] == "--xla_dump_to=x"


def test_a_process_that_fails_is_an_error(capfd):
    broken = replace(WORK, rows=(Row("no such cell", 1, 1, 1, 1),))
    with pytest.raises(RuntimeError, match="ended with status 1"):
        list(measured(broken))
    assert "no such cell" in capfd.readouterr().err
