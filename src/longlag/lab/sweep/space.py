"""What a sweep searches: settings of a network and its training, each with choices or a range."""

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from longlag.messages import GuidedError, Setting, near_match
from longlag.pipeline.settings import Settings

if TYPE_CHECKING:
    import optuna

_FIXED = ("task", "horizon", "standardise", "seed")
_TYPES = {
    name: next(kind for kind in (get_args(hint) or (hint,)) if kind is not type(None))
    for name, hint in get_type_hints(Settings).items()
}
_SEARCHED = [own.name for own in fields(Settings) if own.name not in _FIXED]


class SpaceError(GuidedError):
    """A text that describes no space."""


@dataclass(frozen=True)
class Space:
    """Settings by name, each a tuple of choices or a range of two numbers.

    A range whose ends are both positive and at least a factor 10 apart is searched on a logarithmic
    scale.

    >>> space = Space.parse("hidden=8,16 learning_rate=0.001..0.1")
    >>> space.choices, space.ranges
    ({'hidden': (8, 16)}, {'learning_rate': (0.001, 0.1)})
    """

    choices: Mapping[str, tuple[Any, ...]]
    ranges: Mapping[str, tuple[float, float]]

    @classmethod
    def parse(cls, text: str) -> "Space":
        """Read "name=a,b,c name=low..high".

        Raises:
            SpaceError: a name is no setting that can be searched, or a value is not of its type.
        """
        choices: dict[str, tuple[Any, ...]] = {}
        ranges: dict[str, tuple[float, float]] = {}
        for word in text.split():
            name, equals, values = word.partition("=")
            if name not in _SEARCHED:
                hint = near_match(name, _SEARCHED, str)
                known = ", ".join(_SEARCHED)
                raise _wrong(f"got {name!r}, expected one of {known}{hint}")
            if name in choices or name in ranges:
                raise _wrong(f"{name} stands there twice; give it once")
            kind = _TYPES[name]
            low, dots, high = values.partition("..")
            if not equals or not values:
                raise _wrong(f"{word!r} names no values; give {name}=a,b,c or {name}=low..high")
            if not dots:
                choices[name] = tuple(_value(name, part, kind) for part in values.split(","))
                continue
            if kind not in (int, float):
                raise _wrong(f"{name} has no order to give a range in; give {name}=a,b,c")
            first, last = (_value(name, part, kind) for part in (low, high))
            if not first < last:
                raise _wrong(f"{word!r}: expected a range that rises")
            ranges[name] = (first, last)
        if not choices and not ranges:
            raise _wrong("it is empty; give for example hidden=8,16,32")
        return cls(choices, ranges)

    @property
    def names(self) -> list[str]:
        """Those that are searched."""
        return [*self.choices, *self.ranges]

    def suggest(self, trial: "optuna.Trial") -> dict[str, Any]:
        """What the sampler of Optuna proposes for a trial."""
        proposed: dict[str, Any] = {
            name: trial.suggest_categorical(name, values) for name, values in self.choices.items()
        }
        for name, (low, high) in self.ranges.items():
            log = low > 0 and high / low >= 10
            if _TYPES[name] is int:
                proposed[name] = trial.suggest_int(name, int(low), int(high), log=log)
            else:
                proposed[name] = trial.suggest_float(name, low, high, log=log)
        return proposed

    def check(self, base: Settings) -> None:
        """See that each choice and both ends of each range go with the other settings.

        Raises:
            SettingsError: one does not.
        """
        several = {**self.choices, **self.ranges}
        corners = [{name: values[0] for name, values in several.items()}]
        corners += [
            {**corners[0], name: value} for name, values in several.items() for value in values
        ]
        for corner in corners:
            replace(base, **corner)

    def to_dict(self) -> dict[str, Any]:
        """As JSON data."""
        return {"choices": {n: list(v) for n, v in self.choices.items()}} | {
            "ranges": {n: list(v) for n, v in self.ranges.items()}
        }


def _wrong(problem: str) -> SpaceError:
    return SpaceError(Setting("space"), f": {problem}")


def _value(name: str, text: str, kind: type) -> Any:
    default = next(own.default for own in fields(Settings) if own.name == name)
    if text == "null" and default is not MISSING:
        return None
    if kind is bool and text in ("true", "false"):
        return text == "true"
    try:
        value = None if kind is bool else kind(text)
    except ValueError:
        value = None
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        noun = {int: "a whole number", float: "a number", bool: "true or false"}[kind]
        raise _wrong(f"{name} got {text!r}, expected {noun}")
    return value
