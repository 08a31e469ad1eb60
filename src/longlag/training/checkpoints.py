"""A run on disk: written atomically, checked on reading, with the save before it as a spare."""

import tempfile
import warnings
from pathlib import Path
from typing import Any

from longlag.messages import Fix
from longlag.storage import (
    ArchiveError,
    from_document,
    previous_path,
    read_archive,
    remove_leftovers,
    to_document,
    write_archive,
)
from longlag.training.errors import CheckpointMismatchError, CheckpointWarning

_KIND = "checkpoint"
_ANEW = Fix("start anew", "or resume='never' to start anew and overwrite it")


class CheckpointFile:
    """The newest save of a run and the one before it.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = CheckpointFile(Path(folder) / "checkpoint.longlag")
    ...     file.prepare()
    ...     file.save({"step": 3})
    ...     file.load()
    {'step': 3}
    """

    def __init__(self, path: Path):
        self.path = path
        # Keeping the file at `path` as the previous one is right only if that file is good and
        # belongs to this run. Until this run has read or written it, neither is known.
        self._path_is_good = False

    def prepare(self) -> None:
        """Make the folder, see that it can be written, and clear what killed runs left in it.

        Raises:
            OSError, ValueError: there can be no such folder, or it cannot be written.
        """
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            if isinstance(error, FileExistsError):
                reason = "it is a file"
            kind = type(error) if isinstance(error, OSError) else ValueError
            raise kind(
                f"checkpoint is {str(folder)!r}, which cannot be used ({reason}); expected a "
                "folder that can be made and written. Give another one, or checkpoint=None to save "
                "nothing."
            ) from error
        remove_leftovers(self.path)

    def exists(self) -> bool:
        """Whether there is something to resume from."""
        return self.path.exists() or previous_path(self.path).exists()

    def load(self) -> dict[str, Any]:
        """Read the newest save; if it is damaged, warn and read the one before it.

        Raises:
            ArchiveError: both are damaged, or one is and there is no other.
        """
        previous = previous_path(self.path)
        try:
            state = from_document(*read_archive(self.path, _KIND))
        except (ArchiveError, FileNotFoundError) as error:
            if not previous.exists():
                raise
            state = from_document(*read_archive(previous, _KIND))
            what = error.problem if isinstance(error, ArchiveError) else "it is missing"
            warnings.warn(
                f"the newest checkpoint {self.path} cannot be used ({what}); going on from the "
                f"one before it, {previous}",
                CheckpointWarning,
                stacklevel=2,
            )
        else:
            self._path_is_good = True
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Write a save; the save before it is kept, unless it was damaged or of another run.

        Raises:
            TypeError: something in the state is not data; the message names it.
            OSError: the disk is full or the folder cannot be written; the newest save stays.
        """
        document, tensors = to_document(state)
        write_archive(self.path, _KIND, document, tensors, keep_previous=self._path_is_good)
        self._path_is_good = True

    def forget_previous(self) -> None:
        """Delete the save before the newest: it belongs to another run."""
        previous_path(self.path).unlink(missing_ok=True)


def check_fingerprint(path: Path, saved: dict[str, Any], present: dict[str, Any]) -> None:
    """Compare the settings of a saved run with those of this one.

    Raises:
        CheckpointMismatchError: they differ; the message names each setting with both values.
    """
    names = sorted(saved.keys() | present.keys())
    changed = [
        f"{name}: saved {saved.get(name)!r}, now {present.get(name)!r}"
        for name in names
        if saved.get(name) != present.get(name)
    ]
    if changed:
        raise CheckpointMismatchError(
            f"{path} belongs to a run with other settings ({'; '.join(changed)}). Use the same "
            "settings to go on, another folder for another run, ",
            _ANEW,
            ".",
        )
