"""The parser: from words and config files to the options of one command."""

import argparse
import importlib
import re
from collections.abc import Sequence
from itertools import islice
from types import ModuleType
from typing import Any

from jsonargparse import ActionYesNo, ArgumentParser

import longlag
from longlag.cli.options import Declared, UsageError, build, declared, near_match

__all__ = ["COMMANDS", "parse"]

COMMANDS = ("train", "predict", "report", "bench", "reproduce")
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
    known = list(declared(modules[argv[0]].Options)) if argv[0] in modules else []
    words = _in_order(argv, known) if known else list(argv)
    try:
        found = root.parse_args(words)
    except (argparse.ArgumentError, TypeError, ValueError) as error:
        raise UsageError(_explain(str(error), known, argv[0])) from error
    module, values = modules[found.command], found[found.command]
    return module, build(module.Options, values), values.debug


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
    for each in declared(options):
        if each.group not in groups:
            groups[each.group] = parser.add_argument_group(each.group)
        group, help = groups[each.group], each.full_help.replace("%", "%%")
        if each.type is bool:
            group.add_argument(each.flag, action=_Switch, default=each.default, help=help)
        else:
            group.add_argument(
                f"--{each.key}",
                type=each.type,
                default=each.default,
                metavar=each.metavar,
                help=help,
            )


class _Switch(ActionYesNo):
    """`--name` and `--no_name`; names its key where a config file gives it another value."""

    def _check_type(self, value: Any) -> bool:
        try:
            return super()._check_type(value)
        except TypeError as error:
            raise TypeError(f'Parser key "{self.dest}": Got value: {value}') from error


def _in_order(argv: Sequence[str], known: list[Declared]) -> list[str]:
    """Config files first, so that what else the line says goes before them; bare words named.

    A bare word is the value of the next positional option: argparse would take a missing word for
    null and put that over what the config file says.

    Raises:
        UsageError: there is a bare word too many.
    """
    command, *rest = argv
    alone = {"--debug", "--help", "-h", "--print_config"}
    alone |= {f"--{no}{each.key}" for each in known if each.type is bool for no in ("", "no_")}
    names = [each.key for each in known if each.positional]
    configs: list[str] = []
    others: list[str] = []
    words = iter(rest)
    for word in words:
        if word.startswith("-") and word != "-":
            value = [] if word in alone or "=" in word else list(islice(words, 1))
            (configs if word.split("=")[0] == "--config" else others).extend([word, *value])
        elif names:
            others.append(f"--{names.pop(0)}={word}")
        else:
            raise UsageError(
                f"{word!r} is one word too many; quote a name with blanks in it "
                f"(`longlag {command} --help` tells more)"
            )
    return [command, *configs, *others]


def _explain(message: str, known: list[Declared], command: str) -> str:
    """The message of jsonargparse or argparse in the words of the user."""
    by_key = {each.key: each for each in known}
    help = f"`longlag {command} --help` lists them"
    unknown = re.match(r"(?i)unrecognized arguments: (\S+)", message)
    if unknown:
        word = unknown[1].split("=")[0]
        return f"there is no option {word}{near_match(word, _flags(known))} ({help})"
    if "argument COMMAND: invalid choice" in message:
        hint = near_match(command, COMMANDS)
        return f"there is no command {command!r}; expected {' or '.join(COMMANDS)}{hint}"
    key = re.search(r"(?:Option|does not accept option|Key|key) '([^']+)'", message)
    if key and key[1] not in by_key:
        name = key[1].rsplit(".", 1)[-1]
        hint = near_match(key[1], by_key) or near_match(name, by_key)
        return f"--config: there is no key {key[1]!r}{hint} ({help})"
    value = re.match(r'Parser key "([^"]+)":(.*)', message, re.DOTALL)
    if value and value[1] in by_key:
        came = re.search(r".*(?:Got value|Given value): (.*)$", value[2], re.DOTALL)
        return str(by_key[value[1]].refuse(_unquoted(came[1] if came else "?")))
    text = " ".join((value[2] if value else message).split())
    if value:
        return f"--{value[1]}: {text}"
    if "onfig" in text:
        return f"--config: expected YAML of the form `name: value` ({text})"
    return text


def _flags(known: list[Declared]) -> list[str]:
    return [each.flag for each in known if not each.positional] + ["--config", "--debug"]


def _unquoted(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == "'" else text
