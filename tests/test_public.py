"""The public list: every name is there, and the command line starts without PyTorch."""

import subprocess
import sys

import pytest

import longlag as ll


def test_every_public_name_is_there_and_listed():
    for name in ll.__all__:
        assert getattr(ll, name) is not None
    assert set(ll.__all__) <= set(dir(ll))
    assert len(set(ll.__all__)) == len(ll.__all__)


def test_what_is_not_there_is_an_error():
    with pytest.raises(AttributeError, match="module 'longlag' has no attribute 'LSTN'"):
        _ = ll.LSTN


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["predict", "--help"]])
def test_help_does_not_wait_for_torch(arguments):
    code = (
        "import sys\n"
        "from longlag.cli import main\n"
        "try:\n"
        f"    main({arguments})\n"
        "except SystemExit as stop:\n"
        "    assert stop.code in (0, None), stop.code\n"
        "assert 'torch' not in sys.modules and 'sympy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
