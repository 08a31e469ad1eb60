"""Turing machines as recurrent networks."""

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from longlag.arguments import check_whole
from longlag.layers.summary import Row, Summary
from longlag.messages import Fix, GuidedError
from longlag.turing.compact import Compact
from longlag.turing.construction import Construction
from longlag.turing.exact import ExactRun
from longlag.turing.float64 import Certificate
from longlag.turing.four_layer import FourLayer
from longlag.turing.machine import Run, TuringMachine, Word, begin
from longlag.turing.real_time import RealTime
from longlag.turing.tape import Configuration
from longlag.turing.trace import Trace

FORMS: Mapping[str, type[Construction]] = {
    kind.name: kind for kind in (Compact, RealTime, FourLayer)
}
"""The constructions by name."""

_PIECE = 1024
"""Updates of one call of the layer in float64."""

_EXACT_PIECE = 200_000
"""Updates between two reports of an exact run: about half a second."""


class PrecisionError(GuidedError):
    """The next update may be rounded in float64, so the run ends before it.

    Attributes:
        run: what the network has done until there, without any error.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        super().__init__(
            f"after {run.steps:,} steps the tape is too long for float64 (about 26 cells on one "
            "side of the head for two symbols); ",
            Fix("exact", "use exact=True"),
            ", which has no limit but memory",
        )


class TuringNetwork:
    """A machine, and the network that does what it does.

    Made by :func:`compile`.

    Args:
        machine: the machine.
        form: the construction, a key of :data:`FORMS`.
        layer: the network; by default it is made. Another one may have been trained or loaded.

    Attributes:
        machine, layer: as given.
        construction: what names the units, and reads and writes states.
        equations: of the units; ``print(net.equations)`` shows them.
    """

    def __init__(self, machine: TuringMachine, form: str = "compact", layer: Any = None) -> None:
        if form not in FORMS:
            known = ", ".join(map(repr, FORMS))
            raise ValueError(f"form: got {form!r}, expected one of {known}")
        self.machine = machine
        self.construction = FORMS[form](machine)
        self.equations = self.construction.equations
        self.layer = self.equations.layer() if layer is None else layer
        if self.layer.hidden_size != len(self.units):
            raise ValueError(
                f"layer: got {self.layer.hidden_size} units, expected {len(self.units)}"
            )
        self._places = {unit: place for place, unit in enumerate(self.units)}

    @property
    def units(self) -> tuple[str, ...]:
        """The names of the units."""
        return self.equations.units

    @property
    def form(self) -> str:
        """The name of the construction."""
        return self.construction.name

    def summary(self) -> Summary:
        """The table of the layer, as that of a :class:`~longlag.SequenceModel`.

        >>> print(compile(TuringMachine.parse("1RB1LB_1LA1RH")).summary())
        Layer                 Output      Parameters
        --------------------------------------------
        layer (Elman)         (N, T, 14)         210
        --------------------------------------------
        210 = 210 parameters, 210 of them trained
        """
        return Summary((Row.of("layer", self.layer, ("N", "T", len(self.units)), set()),))

    def __repr__(self) -> str:
        return (
            f"TuringNetwork({len(self.machine.states)} states, {len(self.machine.symbols)} "
            f"symbols, {self.machine.tapes} tape(s), form={self.form!r}: {len(self.units)} units, "
            f"{self.construction.updates} update(s) a step)"
        )

    def initial_state(self, start: "Word | Configuration" = "") -> Any:
        """The state from which ``layer`` begins: float64, of a batch of one sequence.

        Args:
            start: the word on the first tape, from the head to the right, or a configuration.

        Raises:
            MachineError: a symbol that the machine does not know.
            PrecisionError: it has more cells than float64 has bits for.
        """
        configuration = begin(self.machine, start)
        numbers = torch.zeros(1, len(self.units), dtype=torch.float64)
        for unit, number in self.construction.encode(configuration).items():
            numbers[0, self._places[unit]] = value = float(number)
            if Fraction(value) != number:
                raise PrecisionError(Run(0, configuration))
        return self.layer.state_of((numbers,))

    def configuration(self, state: "Tensor | NDArray[np.float64]") -> Configuration:
        """The configuration that a state (H,) stands for, after a whole step.

        Raises:
            ValueError: it stands for none.
        """
        numbers = np.asarray(state, np.float64)
        here = np.flatnonzero(numbers).tolist()
        return self._read({unit: Fraction(float(numbers[unit])) for unit in here})

    def _read(self, state: Mapping[int, Fraction]) -> Configuration:
        return self.construction.decode({self.units[unit]: x for unit, x in state.items()})

    @property
    def _halting(self) -> list[int]:
        return [self._places[unit] for unit in self.construction.halting]

    def run(
        self,
        start: "Word | Configuration" = "",
        max_steps: int | None = None,
        *,
        exact: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> Run:
        """Run the network until it halts.

        Args:
            start: the word on the first tape, from the head to the right, or a configuration.
            max_steps: stop after so many steps of the machine; None for no limit.
            exact: compute on integers of any length, in place of float64 by the compiled kernel.
            progress: is called now and then with the number of steps so far.

        Raises:
            PrecisionError: the tape has grown too long for float64, and the next update might be
                rounded; ``error.run`` has the steps before it. A tape that is returned is right.
            MachineError: a symbol that the machine does not know.

        Cost: exact, for two symbols, about 4 us a step, and 6 with 10,000 cells on the tape.

        Example:
            >>> import longlag as ll
            >>> beaver = ll.turing.TuringMachine.parse("1RB1LB_1LA0LC_1RH1LD_1RD0RA")
            >>> ll.turing.compile(beaver).run()
            Run(steps=107, halted=True, ones=13, state='H', tape='1[0]111111111111')
        """
        if max_steps is not None:
            check_whole("max_steps", max_steps, 0)
        configuration = begin(self.machine, start)
        if exact:
            return self.continue_exactly(self.begin_exactly(configuration), max_steps, progress)
        steps = 0
        for states, good in self._pieces(configuration, max_steps):
            halted = np.flatnonzero(states[: good + 1, self._halting].any(1))
            last = int(halted[0]) if len(halted) else good
            whole = last - last % self.construction.updates
            steps += whole // self.construction.updates
            if progress is not None:
                progress(steps)
            if len(halted) or good < len(states) - 1:
                run = Run(steps, self.configuration(states[whole]))
                if not run.halted:
                    raise PrecisionError(run)
                return run
            configuration = self.configuration(states[whole])
        return Run(steps, configuration)

    def _pieces(
        self, configuration: Configuration, max_steps: int | None
    ) -> Iterator[tuple[NDArray[np.float64], int]]:
        """Successive states (T + 1, H), and how many updates from the first on are exact."""
        certificate = Certificate(self.layer)
        state = self.initial_state(configuration)
        left = None if max_steps is None else max_steps * self.construction.updates
        while left is None or left > 0:
            updates = _PIECE if left is None else min(left, _PIECE)
            before = torch.cat(list(state))
            with torch.no_grad():
                output, state = self.layer(torch.zeros(1, updates, 0, dtype=torch.float64), state)
            states = torch.cat([before, output[0]]).numpy()
            yield states, certificate.exact_steps(states[:-1])
            left = None if left is None else left - updates

    def begin_exactly(self, start: "Word | Configuration" = "") -> ExactRun:
        """An exact run at its start, for :meth:`continue_exactly`."""
        state = self.construction.encode(begin(self.machine, start))
        numbers = {self._places[unit]: number for unit, number in state.items()}
        return ExactRun(self.layer, numbers, self._halting, 2 * self.construction.digits.bits)

    def continue_exactly(
        self,
        exact: ExactRun,
        max_steps: int | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Run:
        """Go on with an exact run, which then is further on.

        Args:
            exact: from :meth:`begin_exactly`.
            max_steps: steps of the machine since its beginning, as in the run that is returned.
            progress: is called about twice a second with the number of steps since its beginning.
        """
        updates = self.construction.updates
        left = None if max_steps is None else max_steps * updates - exact.updates
        while not exact.halted and (left is None or left > 0):
            done = exact.run(_EXACT_PIECE if left is None else min(left, _EXACT_PIECE))
            left = None if left is None else left - done
            if progress is not None:
                progress(exact.updates // updates)
        return Run(exact.updates // updates, self.configuration_of(exact))

    def configuration_of(self, exact: ExactRun) -> Configuration:
        """The configuration that an exact run is in.

        Raises:
            ValueError: its state stands for none.
        """
        return self._read(exact.state)

    def trace(
        self, start: "Word | Configuration" = "", steps: int = 100, *, exact: bool = False
    ) -> Trace:
        """The configuration and the activity of the units at each step.

        Args:
            start: as for :meth:`run`.
            steps: at the most so many steps of the machine.
            exact: as for :meth:`run`; the activity is rounded to float64.

        Raises:
            PrecisionError: as :meth:`run`.
        """
        check_whole("steps", steps, 0)
        updates = self.construction.updates
        configuration = begin(self.machine, start)
        configurations, activity = [configuration], []
        if exact:
            run = self.begin_exactly(configuration)
            activity.append(self._row(run.state))
            while not run.halted and len(configurations) <= steps:
                for _ in range(updates):
                    run.run(1)
                    activity.append(self._row(run.state))
                configurations.append(self.configuration_of(run))
            return Trace(self.construction, tuple(configurations), np.stack(activity))
        activity.append(self.initial_state(configuration)[0].numpy())
        for states, good in self._pieces(configuration, steps):
            for number in range(updates, len(states), updates):
                if number > good:
                    raise PrecisionError(Run(len(configurations) - 1, configurations[-1]))
                activity.append(states[number - updates + 1 : number + 1])
                configurations.append(self.configuration(states[number]))
                if configurations[-1].halted:
                    return Trace(self.construction, tuple(configurations), np.concatenate(activity))
        return Trace(self.construction, tuple(configurations), np.concatenate(activity))

    def _row(self, state: Mapping[int, Fraction]) -> NDArray[np.float64]:
        row = np.zeros(len(self.units))
        for unit, number in state.items():
            row[unit] = float(number)
        return row

    def save(self, path: str | Path) -> None:
        """Save the layer, with the machine beside it; :func:`longlag.load` loads the layer alone.

        Raises:
            OSError: the file cannot be written.
        """
        from longlag.layers import save

        save(self.layer, path, metadata={"turing": {"form": self.form, "table": str(self.machine)}})


def compile(machine: TuringMachine, form: str | None = None) -> TuringNetwork:
    """The network that does what a machine does: h = sat(W h + b), sat(x) = min(1, max(0, x)).

    Args:
        machine: any Turing machine.
        form: ``"compact"``, two updates a step of the machine and for one tape alone: with Q
            states and two symbols 3 Q + 7 units, and one for each state in which it halts.
            ``"real-time"``: one update a step, for any number of tapes. ``"four-layer"``: four
            updates, as Siegelmann and Sontag construct it, for comparison. By default ``"compact"``
            for one tape, else ``"real-time"``.

    Returns:
        The network; its ``layer`` is an ordinary :class:`~longlag.Elman` in float64, with
        ``input_size=0``.

    Raises:
        MachineError: the form is for one tape, and the machine has several.

    Source: H. T. Siegelmann and E. D. Sontag, On the computational power of neural nets, COLT 1992
    and Journal of Computer and System Sciences 50(1), 1995. The constructions here are our own.

    Example:
        >>> import longlag as ll
        >>> net = ll.turing.compile(ll.turing.TuringMachine.parse("1RB1LB_1LA1RH"))
        >>> net
        TuringNetwork(2 states, 2 symbols, 1 tape(s), form='compact': 14 units, 2 update(s) a step)
        >>> net.run()
        Run(steps=6, halted=True, ones=4, state='H', tape='11[1]1')
    """
    if form is None:
        form = "compact" if machine.tapes == 1 else "real-time"
    return TuringNetwork(machine, form)


def load(path: str | Path) -> TuringNetwork:
    """Load what :meth:`TuringNetwork.save` wrote.

    Raises:
        ArchiveError: the file is damaged or of another kind.
        ValueError: it holds a layer without a machine.
        OSError: the file cannot be read.
    """
    from longlag.layers import load_with_metadata

    layer, metadata = load_with_metadata(path)
    kept = metadata.get("turing")
    if not isinstance(kept, dict) or kept.keys() != {"form", "table"}:
        raise ValueError(f"{path}: it holds no machine; expected what TuringNetwork.save wrote")
    return TuringNetwork(TuringMachine.parse(str(kept["table"])), kept["form"], layer)
