"""Which architecture bridges which lag: all families on adding and copying, lags of 50 to 400.

Half an hour on one quiet core. What is done is kept after every case: started again, it goes on.

    python experiments/compare/run.py
"""

import sys
from pathlib import Path

from longlag.cli import main

COMMAND = (
    "compare", "--tasks", "adding,copy", "--lags", "50,100,200,400", "--seeds", "5",
    "--budget", "10000", "--hidden", "32",
)  # fmt: skip

if __name__ == "__main__":
    sys.exit(main([*COMMAND, "--folder", str(Path(__file__).parent)]))
