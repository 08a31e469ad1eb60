"""A run on disk: written atomically, checked on reading, with the save before it as a spare."""

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from longlag.messages import Fix, is_out_of_memory, on_one_line
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
ANEW = Fix("start anew", "or resume='never' to start anew and overwrite it")
_OTHER_VERSION = "Go on with the version of longlag that wrote it, or give another folder."
_OWN = ("position", "history", "stopper")  # parts of a state in which the keys are longlag's own
_ADDED = {"beside", "ranks"}  # since version 0.1


class CheckpointFile:
    """The newest save of a run and the one before it.

    Attributes:
        is_own: whether this run has read or written the newest one.

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
        self._loaded = path
        self.is_own = False
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

    def goes_on(self, resume: str, exists: bool) -> bool:
        """Whether to go on from a save, if one exists.

        Raises:
            FileNotFoundError: ``resume`` is "always", and there is none.
        """
        if resume == "always" and not exists:
            raise FileNotFoundError(
                f"resume='always', and there is no checkpoint {self.path}; expected one. "
                "Use resume='auto' to start a new run where there is none."
            )
        return exists and resume != "never"

    def load(self) -> dict[str, Any]:
        """Read the newest save; if it is damaged, warn and read the one before it.

        Raises:
            ArchiveError: both are damaged, or one is and there is no other; or the newest is whole,
                but of another version or kind.
        """
        previous = previous_path(self.path)
        try:
            state = self._read(self.path)
        except (ArchiveError, FileNotFoundError) as error:
            whole = isinstance(error, ArchiveError) and not error.damaged
            if whole or not previous.exists():
                raise
            state = self._read(previous)
            what = error.problem if isinstance(error, ArchiveError) else "it is missing"
            warnings.warn(
                f"the newest checkpoint {self.path} cannot be used ({what}); going on from the "
                f"one before it, {previous}",
                CheckpointWarning,
                stacklevel=2,
            )
        else:
            self._path_is_good = True
        self.is_own = True
        return state

    def _read(self, path: Path) -> dict[str, Any]:
        self._loaded = path
        with self.taking():
            return from_document(*read_archive(path, _KIND))

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Errors of a state that does not fit, though its file is whole, name the file.

        Raises:
            ArchiveError: inside, something was missing, unknown, or of another type or shape.
        """
        try:
            yield
        except (ArchiveError, CheckpointMismatchError):
            raise
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            reason = on_one_line(error)
            if isinstance(error, KeyError):
                reason = f"it lacks {reason}"
            raise ArchiveError(
                self._loaded, f"its state cannot be taken up: {reason}", fix=_OTHER_VERSION
            ) from error

    def save(self, state: dict[str, Any]) -> None:
        """Write a save; the save before it is kept, unless it was damaged or of another run.

        With the first save of a run goes what is left of another one.

        Raises:
            TypeError: something in the state is not data; the message names it.
            OSError: the disk is full or the folder cannot be written; the newest save stays.
        """
        document, tensors = to_document(state)
        write_archive(self.path, _KIND, document, tensors, keep_previous=self._path_is_good)
        self._path_is_good = True
        if not self.is_own:
            previous_path(self.path).unlink(missing_ok=True)
        self.is_own = True


def check_keys(saved: dict[str, Any], present: dict[str, Any]) -> None:
    """Compare the keys of a saved state with those that this version writes.

    Raises:
        ValueError: some are missing, or not known; the message names them.
    """
    pairs = [("", saved, present), *((f"{part}/", saved.get(part), present[part]) for part in _OWN)]
    missing, unknown = [], []
    for prefix, theirs, ours in pairs:
        if isinstance(theirs, dict) and isinstance(ours, dict):
            missing += [f"{prefix}{key}" for key in ours if key not in theirs.keys() | _ADDED]
            unknown += [f"{prefix}{key}" for key in theirs if key not in ours]
    problems = [f"it lacks {', '.join(missing)}"] if missing else []
    problems += [f"it has {', '.join(unknown)}, not known here"] if unknown else []
    if problems:
        raise ValueError("; ".join(problems))


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
            ANEW,
            ".",
        )
