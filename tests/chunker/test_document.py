import re
from pathlib import Path


def test_the_example_of_the_document_runs(capsys, one_thread):
    text = (Path(__file__).parents[2] / "docs" / "chunker.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    exec("\n".join(blocks), {"__name__": "__main__"})  # noqa: S102
    first, last = map(float, capsys.readouterr().out.split())
    assert first > 0.25  # a fifth of the steps begin an episode, and C learns
    assert last < 0.05  # A alone knows how a message ends
