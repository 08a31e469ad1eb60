"""Saving: atomic files, archives with a digest, nested state without pickle."""

from longlag.storage.archive import ArchiveError, read_archive, write_archive
from longlag.storage.atomic import atomic_write, atomic_write_text, previous_path, remove_leftovers
from longlag.storage.trees import JSON, from_document, to_document

__all__ = [
    "JSON",
    "ArchiveError",
    "atomic_write",
    "atomic_write_text",
    "from_document",
    "previous_path",
    "read_archive",
    "remove_leftovers",
    "to_document",
    "write_archive",
]
