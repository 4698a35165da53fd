"""What is noted of the frames under way, by the threads of a pipeline."""

from __future__ import annotations

import threading
from collections import OrderedDict

from .segment import Note

__all__ = ["Notes"]

MOST = 1024  # frames; live ones that were dropped are forgotten with the next that leaves


class Notes:
    """By index of the frame; frames come in order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._notes: OrderedDict[int, Note] = OrderedDict()
        self._segment: int | None = None

    def begins(self, segment: int | None) -> bool:
        """Whether ``segment`` is another than in the call before."""
        with self._lock:
            before, self._segment = self._segment, segment
            return segment != before

    def put(self, index: int, note: Note) -> None:
        with self._lock:
            self._notes[index] = note
            if len(self._notes) > MOST:
                self._notes.popitem(last=False)

    def get(self, index: int) -> Note | None:
        with self._lock:
            return self._notes.get(index)

    def upto(self, index: int) -> dict[int, Note]:
        with self._lock:
            return {key: note for key, note in self._notes.items() if key <= index}

    def forget(self, index: int) -> None:
        """All up to ``index``."""
        with self._lock:
            while self._notes and next(iter(self._notes)) <= index:
                self._notes.popitem(last=False)
