import subprocess
import sys

import pytest

SLOW = ("lightning_fabric", "torchmetrics", "matplotlib")


@pytest.mark.slow
def test_what_is_slow_to_import_is_imported_when_it_is_needed():
    code = f"""
import sys, torch, longlag as ll
model = ll.SequenceModel(ll.Elman(1, 2), 1)
ll.fit(model, (torch.ones(2, 3, 1), torch.ones(2, 1)), epochs=1, progress=False)
print([n for n in {SLOW} if n in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
