"""How much memory the arrays of a file may take, checked before they are allocated.

A small file can stand for much: one long series pads all others to its length, one long label
widens every entry of an array of text, a compressed file may hold zeros alone.
"""

from __future__ import annotations

from pathlib import Path

from longlag.data.errors import DataError

ROOM = 1 << 30  # bytes that any file may take: little beside what training takes
GROWTH = 64  # times its size for a larger file: text doubles at most, padding takes the rest


def check_room(source: str | Path, what: str, needed: int, size: int, fix: str) -> None:
    """Refuse what would take `needed` bytes, from `size` bytes of data.

    Raises:
        DataError: that is more than `ROOM`, and more than `GROWTH` times the data.
    """
    if needed > max(ROOM, GROWTH * size):
        raise DataError(
            f"{source}: {what} would take {_told(needed)} of memory, from {_told(size)} of data; "
            f"expected at most {_told(ROOM)}, or {GROWTH} times the data; {fix}"
        )


def _told(size: int) -> str:
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"
