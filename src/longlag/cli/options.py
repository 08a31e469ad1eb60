"""Options of a command as data: one dataclass says names, types, defaults, ranges and help.

From it come the flags, the keys of a config file, the text of `--help` and the messages about a
wrong value.
"""

import math
import shlex
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from longlag.messages import near_match


class UsageError(ValueError):
    """The command line or the config file asks for what cannot be done; says what and the fix."""


@dataclass(frozen=True)
class Range:
    """Which numbers an option takes, in words and as a test.

    Attributes:
        most: the largest, where the words do not say it.
    """

    text: str
    holds: Callable[[Any], bool]
    most: float = math.inf


THREADS = Range("from 1 to 1024", lambda value: 1 <= value <= 1024)
"""Processor threads: PyTorch would try to start any number of them."""


SHARE = Range("more than 0, at most 1", lambda value: 0 < value <= 1)
"""Shares of something that has to be there."""


def at_least(low: float, most: int = 2**63 - 1) -> Range:
    """Numbers of `low` and more, up to what PyTorch and NumPy count with."""
    return Range(f"{low:g} or more", lambda value: low <= value <= most, most)


def above(low: float) -> Range:
    """Finite numbers greater than `low`."""
    return Range(f"more than {low:g}", lambda value: low < value < float("inf"))


def between(low: float, high: float, *, low_is_in: bool = False) -> Range:
    """Numbers between `low` and `high`, without `high`."""
    text = f"from {low:g} to below {high:g}" if low_is_in else f"between {low:g} and {high:g}"
    return Range(text, lambda value: (low <= value if low_is_in else low < value) and value < high)


def option(default: Any = None, **described: Any) -> Any:
    """A field of an `Options` dataclass.

    Args:
        default: the value where none is given.
        described: `help`, `group` and whatever else of :class:`Declared` there is to say.
    """
    return field(default=default, metadata=described)


@dataclass(frozen=True)
class Declared:
    """One option.

    Attributes:
        key: such as `columns.series`.
        type: of its value.
        default: the value where none is given.
        help: what it does, with its unit.
        group: the heading in `--help`.
        range: which numbers it takes.
        words: those that it takes, where its type does not say them.
        metavar: the word for its value in `--help`.
        positional: it stands without a flag; a config file names it all the same.
        required: it must be given.
        shown_default: what `--help` says of the default, if not its value.
    """

    key: str
    type: Any
    default: Any
    help: str
    group: str
    range: Range | None = None
    words: tuple[str, ...] = ()
    metavar: str | None = None
    positional: bool = False
    required: bool = False
    shown_default: str | None = None

    @property
    def flag(self) -> str:
        """What the user types."""
        return (self.metavar or self.key.upper()) if self.positional else f"--{self.key}"

    @property
    def choices(self) -> tuple[str, ...]:
        """The words it takes, if they are few."""
        for member in _members(self.type):
            if get_origin(member) is Literal:
                return get_args(member)
        return self.words

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        kinds = [kind for kind in _members(self.type) if kind is not NoneType]
        if kinds == [bool]:
            return "true or false"
        noun = {int: "a whole number", float: "a number", str: "text"}.get(kinds[0], "a value")
        if len(kinds) > 1:
            noun = "a name, or several with commas between them or as a list"
        limits = "" if self.range is None else f", {self.range.text}"
        return noun + limits + (", or null" if self.optional else "")

    @property
    def optional(self) -> bool:
        """Whether null is a value that can be asked for."""
        return NoneType in _members(self.type) and not self.required

    @property
    def full_help(self) -> str:
        """The help with range and default."""
        parts = [f"one of {', '.join(self.choices)}"] if self.choices else []
        parts += [] if self.range is None else [self.range.text]
        shown = self.shown_default or _shown(self.default)
        parts.append("required" if self.required else f"default: {shown}")
        bare = f"; --{self.key} may be left out" if self.positional else ""
        return f"{self.help}{bare} ({'; '.join(parts)})"

    def check(self, value: Any) -> None:
        """Raise `UsageError` for a value out of range, or for none where one is required."""
        if value is None:
            if self.required:
                wanted = f"; expected {self.expected}" if self.choices else ""
                raise UsageError(f"{self.flag} is missing: {self.help}{wanted}")
            return
        if self.range is not None and not self.range.holds(value):
            raise self.refuse(value)
        if self.choices and value not in self.choices:
            raise self.refuse(value)

    def accepts(self, value: Any) -> bool:
        """Whether a value, or the text of one, is of the type; its range does not matter here."""
        text, kinds = str(value), [kind for kind in _members(self.type) if kind is not NoneType]
        if value is None or text == "null":
            return self.optional or self.required
        if self.choices:
            return text in self.choices
        if kinds == [bool]:
            return text.lower() in ("true", "false", "yes", "no")
        if kinds[0] not in (int, float):
            several = isinstance(value, list) and len(kinds) > 1
            return all(isinstance(name, str) for name in (value if several else [value]))
        try:
            return not math.isnan(kinds[0](text))
        except ValueError:
            return False

    def refuse(self, value: Any) -> UsageError:
        """The error for a value that is not what was expected."""
        hint = near_match(value, self.choices, str) if self.choices else ""
        if self.range is not None and isinstance(value, int) and value > self.range.most:
            hint = f"; the largest is {self.range.most}"
        return UsageError(f"{self.flag}: got {value!r}, expected {self.expected}{hint}")


def declared(options: Any, prefix: str = "") -> Iterator[Declared]:
    """All options of a dataclass, those of dataclasses within it with a dot in the key."""
    hints = get_type_hints(options)
    for own in fields(options):
        kind = hints[own.name]
        if is_dataclass(kind):
            yield from declared(kind, f"{prefix}{own.name}.")
        else:
            assert own.default is not MISSING
            yield Declared(f"{prefix}{own.name}", kind, own.default, **own.metadata)


def build(options: Any, values: Any, prefix: str = "") -> Any:
    """The dataclass with the values of a parser, each checked.

    Raises:
        UsageError: a value is out of range, or a required one is missing.
    """
    for option in declared(options, prefix):
        option.check(values[option.key])
    arguments = {}
    for name, kind in get_type_hints(options).items():
        key = f"{prefix}{name}"
        arguments[name] = build(kind, values, f"{key}.") if is_dataclass(kind) else values[key]
    return options(**arguments)


def typed(command: str, options: Any) -> str:
    """A command line that asks for the same; it does not say where the files are."""
    words = ["longlag", command]
    for option in declared(type(options)):
        value = getattr(options, option.key)
        if value == option.default or option.group == "files":
            continue
        if not option.positional:
            words.append(option.flag)
        if option.type is not bool:
            words.append(",".join(value) if isinstance(value, tuple) else str(value))
    return shlex.join(words)


def names_in(value: str | tuple[str, ...] | None) -> tuple[str, ...] | None:
    """Several names, given as a list or in one text with commas between them.

    >>> names_in("a, b")
    ('a', 'b')
    """
    if value is None:
        return None
    parts = value.split(",") if isinstance(value, str) else value
    return tuple(part.strip() for part in parts)


def known_names(
    option: str, value: str | tuple[str, ...] | None, known: tuple[str, ...]
) -> tuple[str, ...]:
    """The names of an option; all that are known where it is not given."""
    names = names_in(value)
    if names is None:
        return known
    for name in names:
        if name not in known:
            raise UsageError(
                f"--{option}: got {name!r}, expected one or several of {', '.join(known)}"
                f"{near_match(name, known, str)}"
            )
    return names


def _members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
