import re
import subprocess
import sys
from pathlib import Path


def test_the_example_of_the_document_runs():
    text = (Path(__file__).parents[2] / "docs" / "chunker.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, last = map(float, done.stdout.split())
    assert first > 0.25  # a fifth of the steps begin an episode, and C learns
    assert last < 0.05  # A alone knows how a message ends
