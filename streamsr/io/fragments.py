"""What stays readable of a fragmented MP4 file that was cut short, by a kill or a full disk."""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Iterator
from pathlib import Path

__all__ = ["complete_length", "is_complete", "salvage"]

HEADER = struct.Struct(">I4s")  # size of the box, its header included, and its type
LARGE_SIZE = struct.Struct(">Q")  # follows where size is 1


def complete_length(path: Path) -> int:
    """Bytes up to the end of the last complete fragment (``moof`` and ``mdat``); 0: there is none.

    Raises OSError.
    """
    length, kinds = 0, set()
    for kind, end in _boxes(path):
        kinds.add(kind)
        if kind == b"mdat" and {b"moov", b"moof"} <= kinds:
            length = end
    return length


def is_complete(path: Path) -> bool:
    """Whether the file goes as far as its index, which is written last. Raises OSError."""
    last = deque(_boxes(path), maxlen=1)
    return list(last) == [(b"mfra", path.stat().st_size)]


def salvage(partial: Path, final: Path) -> bool:
    """Give ``partial``, cut to its complete fragments, the name ``final``; delete it if it has none.

    Returns whether there is a ``final`` now. Raises OSError.
    """
    length = complete_length(partial)
    if length == 0:
        partial.unlink()
        return False
    with partial.open("r+b") as file:
        file.truncate(length)
        os.fsync(file.fileno())
    os.replace(partial, final)
    return True


def _boxes(path: Path) -> Iterator[tuple[bytes, int]]:
    """Types and ends of the boxes at the top level, as far as they are whole."""
    position = 0
    with path.open("rb") as file:
        total = os.fstat(file.fileno()).st_size
        while position + HEADER.size <= total:
            file.seek(position)
            size, kind = HEADER.unpack(file.read(HEADER.size))
            least = HEADER.size
            if size == 1:
                large = file.read(LARGE_SIZE.size)
                if len(large) < LARGE_SIZE.size:
                    return
                size, least = LARGE_SIZE.unpack(large)[0], HEADER.size + LARGE_SIZE.size
            if size < least or position + size > total:  # zeros that a power cut left, or a torn box
                return
            position += size
            yield kind, position
