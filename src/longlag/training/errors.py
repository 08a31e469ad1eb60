"""The ways a training run ends early."""

from pathlib import Path

__all__ = [
    "CheckpointMismatchError",
    "CheckpointWarning",
    "NonFiniteLossError",
    "StopTraining",
    "TrainingInterrupted",
]


class NonFiniteLossError(ArithmeticError):
    """The loss or the gradient became infinite or NaN; the update was not made.

    Attributes:
        step: the step that failed, counted from 1; the parameters are those after step - 1.
        epoch: its epoch, counted from 1.
        seed: the seed of the run.
        loss: the loss of that step.
        gradient_norm: the norm of the gradient of that step.
        checkpoint: the last good checkpoint, or None.
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
    ):
        self.step = step
        self.epoch = epoch
        self.seed = seed
        self.loss = loss
        self.gradient_norm = gradient_norm
        self.checkpoint = checkpoint
        kept = (
            f"the last good checkpoint is {checkpoint}" if checkpoint else "there is no checkpoint"
        )
        clip = "a smaller clip_norm" if clip_norm else "clip_norm=1.0"
        super().__init__(
            f"step {step} (epoch {epoch}, seed {seed}): loss {loss}, gradient norm "
            f"{gradient_norm}; expected finite numbers. The update was not made: the parameters "
            f"are those after step {step - 1}, and {kept}. Likely causes: gradients that explode "
            f"(try {clip} or a smaller learning rate), NaN or infinity in x, a loss that divides "
            "by zero or takes the logarithm of zero."
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


class CheckpointMismatchError(ValueError):
    """The checkpoint in the folder belongs to a run with other settings."""


class CheckpointWarning(UserWarning):
    """The newest checkpoint is damaged, and the one before it is used."""
