"""What was measured, as data that goes through JSON and back."""

from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

from longlag.lab.bench.check import Difference
from longlag.lab.bench.peers import OURS
from longlag.lab.bench.rows import Row
from longlag.lab.bench.timing import Quartiles, Samples, quartiles


@dataclass(frozen=True)
class Timing:
    """The time of one contender.

    Attributes:
        seconds: of one call.
        turns: how many turns that is the median of.
        cores: processors that were busy on the average.
        ratio: its time over longlag's, turn by turn.
        memory: bytes by which resident memory rose during a call; None where not measured.
    """

    seconds: Quartiles
    turns: int
    cores: float
    ratio: Quartiles
    memory: int | None = None

    @classmethod
    def of(cls, samples: Samples, ours: Samples, memory: int | None) -> "Timing":
        """From the turns of a contender and of longlag."""
        reference = ours.seconds
        if len(samples.seconds) != len(reference):  # one of the two is slow, and has one turn
            reference = [quartiles(reference).median] * len(samples.seconds)
        ratios = [theirs / own for theirs, own in zip(samples.seconds, reference, strict=True)]
        return cls(
            quartiles(samples.seconds),
            len(samples.seconds),
            samples.cores,
            quartiles(ratios),
            memory,
        )


@dataclass(frozen=True)
class Result:
    """One row, one pass, one number of threads.

    Attributes:
        row: the row.
        pass_name: "forward" or "forward+backward".
        threads: how many there were.
        backend: the backend that longlag ran on.
        timings: by contender; empty where longlag's own result differs from the reference.
        skipped: by contender that should be here, why it was not measured.
        differs: by contender, where its result is farthest from the reference, if too far.
        limit: the least seconds that the processor allows, or None.
        scan_of_peak: of the processor's peak, what the forward scan alone reached; or None.
    """

    row: Row
    pass_name: str
    threads: int
    backend: str | None = None
    timings: dict[str, Timing] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    differs: dict[str, Difference] = field(default_factory=dict)
    limit: float | None = None
    scan_of_peak: float | None = None

    @property
    def of_limit(self) -> float | None:
        """The limit over longlag's time."""
        if self.limit is None or OURS not in self.timings:
            return None
        return self.limit / self.timings[OURS].seconds.median

    @property
    def peers(self) -> dict[str, Timing]:
        """The others, the fastest first."""
        others = [(name, timing) for name, timing in self.timings.items() if name != OURS]
        return dict(sorted(others, key=lambda pair: pair[1].seconds.median))

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        record = asdict(self)
        record["row"]["name"] = self.row.name
        record["differs"] = {  # JSON has no number for infinity and NaN, so they are text
            name: {
                "tensor": d.tensor,
                "value": d.value if isfinite(d.value) else str(d.value),
            }
            for name, d in self.differs.items()
        }
        return {**record, "of_limit": self.of_limit}

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "Result":
        """The result that :meth:`to_dict` gave."""
        values = {name: value for name, value in record.items() if name != "of_limit"}
        row = {name: value for name, value in record["row"].items() if name != "name"}
        values["row"] = Row(**row)
        values["timings"] = {name: _timing(part) for name, part in record["timings"].items()}
        values["differs"] = {
            name: Difference(part["tensor"], float(part["value"]))
            for name, part in record["differs"].items()
        }
        return cls(**values)


@dataclass(frozen=True)
class Peaks:
    """What the processor can do, measured in the process that measured the rows.

    Attributes:
        threads: how many there were.
        flops: operations a second of all of them, float32, or None.
        bandwidth: bytes a second that one thread reads, by the bytes that it reads over and over.
    """

    threads: int
    flops: float | None
    bandwidth: dict[str, float]


def _timing(record: dict[str, Any]) -> Timing:
    parts = {name: Quartiles(**record[name]) for name in ("seconds", "ratio")}
    return Timing(**{**record, **parts})
