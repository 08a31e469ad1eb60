"""The command line `longlag`: one file a command.

    longlag train DATA --task classification
    longlag predict model.longlag NEW

A command is a module with a frozen dataclass `Options`, made of `options.option(...)`, and
`run(options)`; `parser.COMMANDS` names the modules. Nothing here imports torch before a command
runs, so `--help` is quick.
"""

from longlag.cli.app import main

__all__ = ["main"]
