"""The four tasks: what is to be said of a sequence."""

from __future__ import annotations

from typing import Literal, get_args

from longlag.arguments import is_whole
from longlag.data.errors import DataError, listing
from longlag.messages import near_match

Task = Literal["classification", "regression", "tagging", "forecasting"]
TASKS: tuple[str, ...] = get_args(Task)


Tags = Literal["auto", "classes", "numbers", "labels"]
"""What the target of tagging is: numbers make it a regression at each step, labels are several that
may hold at once."""

FEW = 20
"""Whole numbers of so many values are classes, where nothing else is said."""


def check_tags(tags: str) -> None:
    """Raise `DataError` unless it is one of `Tags`."""
    if tags not in get_args(Tags):
        raise DataError(f"tags={tags!r}: expected one of {listing(get_args(Tags))}")


def check_task(task: str) -> None:
    """Raise `DataError` unless `task` is one of `TASKS`."""
    if task not in TASKS:
        raise DataError(
            f"task={task!r} is not known: expected one of {listing(TASKS)}{near_match(task, TASKS)}"
        )


def check_horizon(task: str, horizon: object) -> None:
    """Raise `DataError` unless forecasting has a horizon, and another task has none."""
    if task == "forecasting":
        if not is_whole(horizon, 1):
            raise DataError(
                f"horizon={horizon!r}: forecasting expects a number of steps, 1 or more"
            )
    elif horizon is not None:
        raise DataError(f"horizon={horizon!r}: {task} has none; leave it out")
