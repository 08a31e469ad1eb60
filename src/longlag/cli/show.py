"""Print what a saved network is: layers, data, measures, settings, versions, licence.

MODEL is a file that `longlag train` or `longlag.save` wrote. Nothing is built and no code is run,
so a network with cells of one's own is shown too.
"""

from dataclasses import dataclass
from pathlib import Path

from longlag.cli.options import UsageError, option

USAGE = "MODEL [options]"


@dataclass(frozen=True)
class Options:
    """Everything that `longlag show` can be told."""

    model: str | None = option(
        group="data", positional=True, required=True, metavar="MODEL",
        help="the file of a saved network",
    )  # fmt: skip


def run(options: Options) -> None:
    """Print the card.

    Raises:
        UsageError, ArchiveError: there is no such file, or it is no network.
    """
    assert options.model is not None
    if not Path(options.model).is_file():
        raise UsageError(f"MODEL {options.model}: there is no such file")

    from longlag.layers import show

    print(show(options.model))
