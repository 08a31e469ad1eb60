"""Errors whose fixes are said in the words of whoever is to follow them.

A function of Python is mended by an argument, a command by an option. So an error holds its
message in parts: text, and what each front end says in its own words. A misspelt name is answered
with a near one.
"""

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import NamedTuple, TypeAlias

from typing_extensions import Self


class Fix(NamedTuple):
    """What to do, by a key under which a front end may have words of its own."""

    key: str
    in_python: str


class Setting(NamedTuple):
    """An argument or option by its name, alone or with a value to give it."""

    name: str
    value: object = None

    @property
    def in_python(self) -> str:
        """The argument as it is written in Python."""
        return self.name if self.value is None else f"{self.name}={self.value!r}"


Worded: TypeAlias = Fix | Setting
Part: TypeAlias = str | Worded


class GuidedError(ValueError):
    """An error with a message in parts; by itself it speaks Python.

    >>> error = GuidedError("too few units; give ", Setting("hidden", 64))
    >>> str(error), error.told(lambda part: f"--{part.name} {part.value}")
    ('too few units; give hidden=64', 'too few units; give --hidden 64')
    """

    def __init__(self, *parts: Part) -> None:
        self.parts = parts
        super().__init__(self.told(lambda part: part.in_python))

    def within(self, where: str) -> Self:
        """The same error with the place before it, such as the file where it arose."""
        return type(self)(where, *self.parts)

    def told(self, words: Callable[[Worded], str]) -> str:
        """The message with these words for fixes and settings."""
        return "".join(part if isinstance(part, str) else words(part) for part in self.parts)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, of Python or PyTorch, says that there is not enough memory.

    >>> is_out_of_memory(MemoryError()), is_out_of_memory(RuntimeError("a fault"))
    (True, False)
    """
    if isinstance(error, RuntimeError):
        signs = ("DefaultCPUAllocator", "out of memory", "Storage size calculation overflowed")
        return any(sign in str(error) for sign in signs)
    return isinstance(error, MemoryError)


def on_one_line(error: BaseException) -> str:
    r"""What an error of another library says, as it fits into a sentence.

    >>> on_one_line(ValueError("no header\n  in line 1\n"))
    'no header in line 1'
    """
    return " ".join(str(error).split()) or type(error).__name__


def count(number: int, noun: str) -> str:
    """So many of them, in words.

    >>> count(1, "step"), count(1200, "step"), count(2, "series")
    ('1 step', '1,200 steps', '2 series')
    """
    return f"{number:,} {noun}{'' if number == 1 or noun.endswith('s') else 's'}"


def near_match(name: object, known: Iterable[str], shown: Callable[[str], str] = repr) -> str:
    """A near match to a name as a question, or nothing.

    >>> "no such cell" + near_match("GRUU", ["gru", "lstm"])
    "no such cell; did you mean 'gru'?"
    """
    by_lower = {other.lower(): other for other in known}
    close = get_close_matches(str(name).lower(), by_lower, n=1)
    return f"; did you mean {shown(by_lower[close[0]])}?" if close else ""
