"""A source that is not there yet: tried again until it is."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from typing import Literal

from ..errors import SourceError, redact
from ..frame import Frame, Source, StreamInfo
from ..io.backoff import delays
from .logs import event

__all__ = ["PatientSource"]

REFUSED_FIRST_S, REFUSED_CAP_S = 2.0, 6.0  # some cameras lock out who knocks too often with a wrong password

_log = logging.getLogger(__name__)


class PatientSource:
    """``open`` tries again, with fresh sources from ``make``, until one gives a picture or is interrupted.

    What happens to the stream afterwards is the source's own business. make: called for each attempt.
    """

    live = True

    def __init__(
        self,
        url: str,
        make: Callable[[], Source],
        *,
        camera: str,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self.url = redact(url)
        self._make, self._camera, self._uniform = make, camera, uniform
        self._guard = threading.Lock()  # guards all that follows
        self._interrupted = threading.Event()
        self._source: Source | None = None
        self._state: Literal["connecting", "backoff", "open"] = "connecting"
        self._error: str | None = None

    @property
    def source(self) -> Source | None:
        """The one of the newest attempt."""
        with self._guard:
            return self._source

    @property
    def state(self) -> Literal["connecting", "backoff", "open"]:
        with self._guard:
            return self._state

    @property
    def error(self) -> str | None:
        """Of the last attempt that failed."""
        with self._guard:
            return self._error

    @property
    def warnings(self) -> list[str]:
        return list(getattr(self.source, "warnings", ()))

    def open(self) -> StreamInfo:
        """Raises SourceError only after ``interrupt``."""
        pauses = delays(uniform=self._uniform)
        refused = delays(REFUSED_FIRST_S, REFUSED_CAP_S, uniform=self._uniform)
        while True:
            source = self._make()
            with self._guard:
                self._source, self._state = source, "connecting"
            if self._interrupted.is_set():  # it could not reach this source
                raise SourceError("interrupted", self.url)
            try:
                info = source.open()
            except SourceError as error:
                source.close()
                self._failed(str(error))
                wrong_password = "(401)" in str(error) or "(403)" in str(error)  # io.rtsp_peer.explain
                if self._interrupted.wait(next(refused if wrong_password else pauses)):
                    raise
            else:
                with self._guard:
                    self._state = "open"
                return info

    def read(self) -> Frame | None:
        assert self._source is not None, "read after open"
        return self._source.read()

    def interrupt(self) -> None:
        self._interrupted.set()
        if (source := self.source) is not None:
            source.interrupt()

    def close(self) -> None:
        self.interrupt()
        if (source := self.source) is not None:
            source.close()

    def _failed(self, reason: str) -> None:
        with self._guard:
            known, self._error = self._error == reason, reason
            self._state = "backoff"
        if not known:  # the same, every few seconds for days, would fill a disk
            event(_log, logging.WARNING, "source_unreachable", reason, camera=self._camera)
