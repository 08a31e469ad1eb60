"""What is wrong with a command line that the parser refused: found in the words themselves.

The parser only has to refuse. What it says is for programmers, and changes with its version; so
it is not searched, and shown only where nothing is found here.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from longlag.cli.options import Declared, UsageError
from longlag.messages import near_match

COMMON_FLAGS = ("--config", "--debug", "--help", "-h", "--print_config")
_SWITCH = ("", "no_")


def flags_and_values(
    words: Iterable[str], known: list[Declared]
) -> Iterator[tuple[str, str | None]]:
    """Each option with its value, None where it has none; a bare word as the value of "".

    >>> list(flags_and_values(["my.csv", "--hidden", "3", "--seed=1", "--debug"], []))
    [('', 'my.csv'), ('--hidden', '3'), ('--seed', '1'), ('--debug', None)]
    """
    alone = {*COMMON_FLAGS[1:]}
    alone |= {f"--{no}{option.key}" for option in known if option.type is bool for no in _SWITCH}
    rest = iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        if not word.startswith("-") or word == "-":
            yield "", word
        elif equals:
            yield flag, value
        else:
            yield flag, None if flag in alone else next(rest, None)


def diagnose(command: str, words: list[str], known: list[Declared]) -> UsageError | None:
    """The first thing that is wrong; None if nothing is found.

    Args:
        command: what stands first.
        words: what follows.
        known: the options of the command.
    """
    help = f"`longlag {command} --help` lists them"
    by_flag = {f"--{no}{option.key}": option for option in known for no in _SWITCH}
    for flag, _ in flags_and_values(words, known):
        if flag and flag not in by_flag and flag not in COMMON_FLAGS:
            listed = [option.flag for option in known if not option.positional]
            hint = near_match(flag, [*listed, *COMMON_FLAGS[:2]], str)
            return UsageError(f"there is no option {flag}{hint} ({help})")
    for flag, value in flags_and_values(words, known):
        wrong = None
        if flag == "--config" and value is not None:
            wrong = _in_config(value, {option.key: option for option in known}, help)
        elif flag in by_flag and value is not None and not by_flag[flag].accepts(value):
            wrong = by_flag[flag].refuse(value)
        if wrong is not None:
            return wrong
    return None


def _in_config(word: str, by_key: dict[str, Declared], help: str) -> UsageError | None:
    import yaml  # here: it takes its time, and a good line does without

    expected = "--config: expected YAML of the form `name: value`"
    try:
        path = Path(word)
        values = yaml.safe_load(path.read_text(encoding="utf-8") if path.is_file() else word)
    except (OSError, ValueError, yaml.YAMLError) as error:
        return UsageError(f"{expected} ({word}: {' '.join(str(error).split())})")
    if not isinstance(values, dict):
        why = "it has another form" if path.is_file() else "there is no such file"
        return UsageError(f"{expected} ({word}: {why})")
    for key, value in _flat(values, by_key):
        below = [known for known in by_key if known.startswith(f"{key}.")]
        if below:
            return UsageError(
                f"--config: {key}: got {value!r}, expected options below it: {', '.join(below)}"
            )
        if key not in by_key and f"--{key}" not in COMMON_FLAGS:
            name = key.rsplit(".", 1)[-1]
            hint = near_match(key, by_key, str) or near_match(name, by_key, str)
            return UsageError(f"--config: there is no key {key!r}{hint} ({help})")
        if key in by_key and not by_key[key].accepts(value):
            return by_key[key].refuse(str(value))
    return None


def _flat(
    values: dict[Any, Any], by_key: dict[str, Declared], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """The keys with dots in them, where an option has such a key."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and any(known.startswith(f"{key}.") for known in by_key):
            yield from _flat(value, by_key, f"{key}.")
        else:
            yield key, value
