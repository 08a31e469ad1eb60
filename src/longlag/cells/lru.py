"""The linear recurrent unit."""

import math
from dataclasses import dataclass

from longlag.recurrence import Absent, Cell, Uniform, UnitParameter, cos, sin, sqrt

EDGE = 1e-6
"""How near the square of a radius comes to 0 and 1, where square roots have no derivative."""


@dataclass(frozen=True)
class LRU(Cell):
    r"""Linear recurrent unit: each unit turns and shrinks a complex number, which is its memory.

    .. math::
        h_t = \lambda \odot h_{t-1} + \sqrt{1 - |\lambda|^2} \odot (U x_t + b), \qquad
        \lambda = \sqrt{\rho}\, e^{i \theta}

    h is complex, of the parts re and im, and so are U and b, which have rows for both; what is put
    out is re. Units do not see each other, and their memory over k steps is :math:`|\lambda|^k`,
    whatever the input. The factor before the input keeps h of one size, however long the memory.

    This is the recurrence of the paper's block. Its B is U; its C and D are a linear readout, with
    ``direct=True`` for D, and a nonlinearity between layers is to be put there too: a stack of
    these layers alone is linear. That re is read and im is not costs a unit nothing, as its B may
    turn the phase. The paper trains :math:`\log(-\log|\lambda|)` and :math:`\log \theta`, here it
    is :math:`\rho = |\lambda|^2` within (0, 1), so that no training makes it unstable, and
    :math:`\theta`; the factor before the input follows :math:`\rho`, where in the paper it starts
    so and is trained. It has no b: take ``bias=False``.

    Args:
        r_min: :math:`\lambda` starts uniform on the ring between the radii r_min and r_max, inside
            (0.001, 0.9999995). A memory of T steps wants radii up to about 1 - 1/T.
        r_max: see ``r_min``.
        max_phase: the largest :math:`\theta` at the start, in (0, :math:`2 \pi`]. Smaller ones are
            for slower signals.

    Raises:
        ValueError: for a number out of range.

    Source: A. Orvieto, S. L. Smith, A. Gu, A. Fernando, C. Gulcehre, R. Pascanu and S. De,
    Resurrecting recurrent neural networks for long sequences, ICML 2023.

    Example:
        >>> import longlag as ll
        >>> layer = ll.LRU(3, 4, r_min=0.5, r_max=0.9)
        >>> layer.weight_ih.shape, layer.decay_raw.shape, layer.angle.shape
        (torch.Size([8, 3]), torch.Size([4]), torch.Size([4]))
        >>> bool(((layer.unit("decay") >= 0.25) & (layer.unit("decay") <= 0.81)).all())
        True
    """

    r_min: float = 0.9
    r_max: float = 0.999
    max_phase: float = 2 * math.pi

    state = ("re", "im")
    gates = ("re", "im")
    wiring = {"re": Absent(), "im": Absent()}
    latex_symbols = {"decay": r"\rho", "angle": r"\theta"}

    def __post_init__(self) -> None:
        if not EDGE**0.5 < self.r_min <= self.r_max < (1 - EDGE) ** 0.5:
            raise ValueError(
                f"r_min: got {self.r_min} with r_max = {self.r_max}, expected "
                "0.001 < r_min <= r_max < 0.9999995"
            )
        if not 0 < self.max_phase <= 2 * math.pi:
            raise ValueError(f"max_phase: got {self.max_phase}, expected 0 < max_phase <= 2 pi")

    @property
    def unit_parameters(self):  # noqa: D102
        # Uniform on a ring: the square of the radius is uniform.
        ring = Uniform(self.r_min**2, self.r_max**2)
        return {
            "decay": UnitParameter(ring, interval=(EDGE, 1 - EDGE)),
            "angle": UnitParameter(Uniform(0.0, self.max_phase)),
        }

    def update(self, pre, state, unit):  # noqa: D102
        along, across = sqrt(unit.decay) * cos(unit.angle), sqrt(unit.decay) * sin(unit.angle)
        taken = sqrt(1 - unit.decay)
        return {
            "re": along * state.re - across * state.im + taken * pre.re,
            "im": across * state.re + along * state.im + taken * pre.im,
        }
