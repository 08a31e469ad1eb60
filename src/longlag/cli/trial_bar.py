"""The bar of trials that train side by side, on standard error."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from longlag.lab.reproduce.experiment import Outcome, Progress


def with_bar(
    name: str, trials: int, budget: int | None, run: "Callable[[Progress], Outcome]"
) -> "Outcome":
    """What `run` gives, with a bar on a terminal while it lasts, and a line elsewhere.

    Args:
        name: of what is run.
        trials: how many.
        budget: sequences for each; None: not known.
        run: is given what is to be told how far it has come.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    of = "" if budget is None else " of {task.total:,.0f}"
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}" + of + " sequences, {task.fields[solved]}"),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    hidden = not console.is_terminal  # then a line for each
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(name, total=budget, solved=f"0 of {trials} solved")

        def progress(presented: int, solved: int) -> None:
            bar.update(task, completed=presented, solved=f"{solved} of {trials} solved")

        outcome = run(progress)
    if hidden:
        words = f"{len(outcome.solved)} of {trials} solved, {outcome.seconds:.1f} s"
        print(f"{name}: {words}", file=sys.stderr)
    return outcome
