"""Print what a saved network is: layers, data, measures, settings, versions, licence.

MODEL is a file that `longlag train` or `longlag.save` wrote. Nothing is built and no code is run,
so a network with cells of one's own is shown too.
"""

from dataclasses import dataclass

from longlag.cli.files import check_model
from longlag.cli.options import option

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
    check_model("MODEL", options.model)

    from longlag.layers import show

    print(show(options.model))
