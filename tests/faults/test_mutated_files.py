"""Files with faults: read, or refused with the path; within bounded memory, and at once."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("aeon")
pytest.importorskip("pyarrow")
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits its memory")

MUTATE = Path(__file__).with_name("mutate.py")
SUFFIXES = (".csv", ".ts", ".npz", ".parquet", ".longlag")


@pytest.mark.parametrize(
    ("count", "seed"), [(500, 0), pytest.param(13_000, 1, marks=pytest.mark.long)]
)
def test_a_file_with_faults_is_read_or_refused(tmp_path, count, seed):
    done = subprocess.run(
        [sys.executable, MUTATE, tmp_path, str(count), str(seed)],
        capture_output=True, text=True, timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["wrong"] == []
    assert sum(result["outcomes"].values()) == count
    for suffix in SUFFIXES:
        refused, read = (
            result["outcomes"].get(f"{suffix} {what}", 0) for what in ("refused", "read")
        )
        assert refused + read == count // len(SUFFIXES)
        assert refused > count // 10
        assert read > 0 or suffix == ".longlag"  # whose digest tells
