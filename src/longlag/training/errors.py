"""The ways a training run ends early."""

from pathlib import Path
from typing import Any

from longlag.messages import GuidedError


class NonFiniteLossError(ArithmeticError):
    """The loss or the gradient became infinite or NaN; the update was not made.

    Its subclass `NonFiniteWeightsError` is for weights that an update made infinite or NaN.

    Attributes:
        step: the step that failed, counted from 1; the parameters are those after step - 1.
        epoch: its epoch, counted from 1.
        seed: the seed of the run.
        loss: the loss of that step.
        gradient_norm: the norm of the gradient of that step.
        checkpoint: the last good checkpoint, or None.
        hint: a cause that this step shows, as a sentence; "" for none.
    """

    def __init__(
        self,
        *,
        step: int,
        epoch: int,
        seed: int,
        loss: float,
        gradient_norm: float,
        checkpoint: Path | None,
        clip_norm: float | None,
        hint: str = "",
    ):
        self.step = step
        self.epoch = epoch
        self.seed = seed
        self.loss = loss
        self.gradient_norm = gradient_norm
        self.checkpoint = checkpoint
        self.hint = hint
        super().__init__(self._message("a smaller clip_norm" if clip_norm else "clip_norm=1.0"))

    def _message(self, clip: str) -> str:
        return (
            f"{self._place()}; expected finite numbers. The update was not made: the parameters "
            f"are those after step {self.step - 1}, and {self._kept()}. {self.hint}Likely "
            f"causes: gradients that explode (try {clip} or a smaller learning rate), NaN or "
            "infinity in x, a loss that divides by zero or takes the logarithm of zero."
        )

    def _place(self) -> str:
        return (
            f"step {self.step} (epoch {self.epoch}, seed {self.seed}): loss {self.loss}, gradient "
            f"norm {self.gradient_norm}"
        )

    def _kept(self) -> str:
        if self.checkpoint is None:
            return "there is no checkpoint"
        return f"the last good checkpoint is {self.checkpoint}"


class NonFiniteWeightsError(NonFiniteLossError):
    """A weight is infinite or NaN after an update, though loss and gradient were finite.

    The weights are looked at before each save and at the end of a run. A checkpoint never holds
    such weights; the model does.

    Attributes:
        step: the step after which this was seen, counted from 1; an earlier update since the last
            save may have been the cause.
        weights: the name of the first parameter or buffer that is not finite.
        epoch, seed, loss, gradient_norm, checkpoint: as in `NonFiniteLossError`.
    """

    def __init__(self, weights: str, **where: Any):
        self.weights = weights
        super().__init__(**where)

    def _message(self, clip: str) -> str:
        return (
            f"{self._place()}, and after the update the weights {self.weights!r} are not finite. "
            f"They were not saved; {self._kept()}. Likely causes: a learning rate that is too "
            f"large (try a smaller one), or gradients that explode (try {clip})."
        )


class TrainingInterrupted(SystemExit):
    """SIGINT or SIGTERM ended the run after a whole step; uncaught, it ends the program.

    Attributes:
        code: the exit status, 128 + the number of the signal: 130 for SIGINT, 143 for SIGTERM.
        step: the steps that were made.
        checkpoint: the checkpoint that holds them, or None if the run keeps none.
    """

    def __init__(self, signal_number: int, *, step: int, checkpoint: Path | None):
        super().__init__(128 + signal_number)
        self.step = step
        self.checkpoint = checkpoint

    def __str__(self) -> str:
        kept = (
            f"saved in {self.checkpoint}; the same call goes on from there"
            if self.checkpoint
            else "not saved; pass checkpoint=folder to go on from there another time"
        )
        return f"interrupted after step {self.step}, {kept}"


class StopTraining(Exception):
    """A callback raises it to end the run after the present record."""


class CheckpointMismatchError(GuidedError):
    """The checkpoint in the folder belongs to a run with other settings."""


class CheckpointWarning(UserWarning):
    """The newest checkpoint is damaged, and the one before it is used."""
