"""`python -m longlag` is the command."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), (["trian"], 2)])
def test_the_module_is_the_command(arguments, status):
    done = subprocess.run(
        [sys.executable, "-m", "longlag", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert "longlag" in done.stdout + done.stderr
    assert "__main__" not in done.stdout + done.stderr
