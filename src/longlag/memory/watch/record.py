"""One measurement of a model that is trained."""

from dataclasses import asdict, dataclass
from typing import Any

from longlag.memory.report.json_data import plain


@dataclass(frozen=True)
class MemoryRecord:
    """One measurement. Names are paths in the model; of R replicas the numbers are means.

    Attributes:
        step: updates made so far.
        seconds: since the first update; 0 before.
        cost: seconds that the measurement took.
        horizon: by layer, in steps, the lag from which on the error of the loss is below 1 % of
            that at lag 0, for good; None where it is not within the sequences. Of replicas the
            median. Without a target of the norms, by recurrent module: between the lags looked at,
            the logarithm is taken as a straight line.
        lags: those that were looked at.
        log_norms: by recurrent module, the natural logarithm of the largest singular value of
            ds_t/ds_{t-k} at each lag k, t being the end of a sequence; the mean over sequences.
            NaN where weights or states are not finite or a module has fewer steps, -inf for zero.
        norms: by recurrent matrix, its largest singular value.
        radii: by recurrent matrix, its spectral radius.
        gradient_norm: of all gradients in `.grad` together; None where there is none.
    """

    step: int
    seconds: float
    cost: float
    horizon: dict[str, int | None]
    lags: tuple[int, ...]
    log_norms: dict[str, tuple[float, ...]]
    norms: dict[str, float]
    radii: dict[str, float]
    gradient_norm: float | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON data: dicts, lists and numbers, with None for what is no finite number."""
        return plain(asdict(self))
