"""The parser: from words and config files to the options of one command."""

import argparse
import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from jsonargparse import ActionYesNo, ArgumentParser

import longlag
from longlag.cli.diagnosis import diagnose, flags_and_values
from longlag.cli.options import Declared, UsageError, build, declared
from longlag.messages import near_match, on_one_line

COMMANDS = (
    "train", "predict", "show", "report", "export", "sweep", "bench", "reproduce", "compare",
    "turing",
)  # fmt: skip
"""The modules of `longlag.cli` that are commands, in the order of `--help`."""

_COMMON = {
    "config": "a YAML file with any of these options, by their names without the dashes "
    "(columns.series: series below columns); what the command line says goes before it",
    "print_config": "print the options that would be used, as such a file, and exit; "
    "--print_config=skip_default leaves the defaults out",
    "debug": "show the traceback of an error, as LONGLAG_DEBUG=1 does",
}


def parse(argv: Sequence[str]) -> tuple[ModuleType, Any, bool]:
    """The module of the command that was asked for, its options, and whether to debug.

    Raises:
        UsageError: an option or a key is unknown, missing, or has a wrong value.
        SystemExit: `--help`, `--version` or `--print_config` said what it had to say.
    """
    modules = {name: importlib.import_module(f"longlag.cli.{name}") for name in COMMANDS}
    root = _parser(modules)
    if not argv:
        root.print_help()
        raise SystemExit(2)
    command, *words = argv
    if command not in modules and not command.startswith("-"):
        hint = near_match(command, COMMANDS, str)
        raise UsageError(f"there is no command {command!r}; expected {' or '.join(COMMANDS)}{hint}")
    known = list(declared(modules[command].Options)) if command in modules else []
    if known:
        words = _in_order(command, words, known)
    try:
        parsed = root.parse_args([command, *words])
        module, values = modules[parsed.command], parsed[parsed.command]
        return module, build(module.Options, values), values.debug
    except UsageError:
        raise
    except (argparse.ArgumentError, KeyError, TypeError, ValueError) as error:
        wrong = diagnose(command, words if known else list(argv), known)
        raise (wrong or UsageError(on_one_line(error))) from error


def _parser(modules: dict[str, ModuleType]) -> ArgumentParser:
    root = ArgumentParser(
        prog="longlag",
        description="Recurrent networks that must remember: train one on your own file, and use "
        "it on new data.",
        version=longlag.__version__,
        exit_on_error=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = root.add_subcommands(
        dest="command", required=True, metavar="COMMAND", title="commands", description=None
    )
    for name, module in modules.items():
        text = (module.__doc__ or "").strip()
        parser = ArgumentParser(
            description=text,
            usage=f"longlag {name} {module.USAGE}",
            exit_on_error=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _add_options(parser, module.Options)
        parser.add_argument("--config", action="config", metavar="FILE", help=_COMMON["config"])
        parser.add_argument("--debug", action="store_true", help=_COMMON["debug"])
        for action in parser._actions:
            if "--print_config" in action.option_strings:
                action.help = _COMMON["print_config"]
        commands.add_subcommand(name, parser, help=text.split("\n")[0].rstrip("."))
    return root


def _add_options(parser: ArgumentParser, options: type) -> None:
    groups: dict[str, Any] = {}
    for option in declared(options):
        if option.group not in groups:
            groups[option.group] = parser.add_argument_group(option.group)
        group, help = groups[option.group], option.full_help.replace("%", "%%")
        if option.type is bool:
            group.add_argument(option.flag, action=ActionYesNo, default=option.default, help=help)
        else:
            group.add_argument(
                f"--{option.key}",
                type=option.type,
                default=option.default,
                metavar=option.metavar,
                help=help,
            )


def _in_order(command: str, rest: Sequence[str], known: list[Declared]) -> list[str]:
    """Config files first, so that what else the line says goes before them; bare words named.

    A bare word is the value of the next positional option: argparse would take a missing word for
    null and put that over what the config file says.

    Raises:
        UsageError: there is a bare word too many.
    """
    names = [option.key for option in known if option.positional]
    configs: list[str] = []
    others: list[str] = []
    for flag, value in flags_and_values(rest, known):
        if not flag and not names:
            raise UsageError(
                f"{value!r} is one word too many; quote a name with blanks in it "
                f"(`longlag {command} --help` tells more)"
            )
        named = flag or f"--{names.pop(0)}"
        word = named if value is None else f"{named}={value}"
        (configs if flag == "--config" else others).append(word)
    return [*configs, *others]
