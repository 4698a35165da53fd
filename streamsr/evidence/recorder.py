"""The thread that writes segments: packets and pictures in, files and signed lines out."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..clock import NS_PER_S, Clock
from ..errors import redact
from ..frame import Frame, StreamInfo
from .intake import Arrived, Decoded, Intake
from .segment import Note, Picture, Segment, utc

__all__ = ["EvidenceStatistics", "Limits", "Recorder", "Sent"]

INBOX_BYTES = 96 * 2**20  # what waits for the disk: seconds of packets, and some pictures
PENDING_MAX = 500  # pictures decoded whose enhanced one has not come; more, and the oldest is given up
RETRY_S = 2.0  # after a failure, until a keyframe may begin a new segment
OPEN_MAX = 4  # segments not finished; more connections than that in a moment give nothing

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Limits:
    """segment_s: after so long the next keyframe begins a new segment. checkpoint_s: between signatures.

    crf: of the enhanced recording. max_age_s, max_bytes: of the folder; older segments are deleted whole.
    """

    segment_s: float = 60.0
    checkpoint_s: float = 2.0
    crf: int = 18
    max_age_s: float | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """An enhanced picture left; notes: of it and of all pictures before it that left none."""

    frame: Frame
    info: StreamInfo
    notes: dict[int, Note]


@dataclass(frozen=True, slots=True)
class EvidenceStatistics:
    """frames: recorded. unrecorded: sent without being recorded. packets_lost: there was no room for them.

    segments: finished. error: the last one; None while all is well.
    """

    frames: int
    unrecorded: int
    packets_lost: int
    segments: int
    error: str | None


class Recorder:
    """``intake`` is given to a source; ``put`` takes what leaves; ``close`` completes the last segment.

    describe: what the header of a segment is to say of the software and the session. sei: what the enhanced
    picture of an index says of itself. A failure (a full disk)
    ends the segment without a signature; the next one says what is missing, and begins by itself.
    """

    def __init__(
        self,
        folder: Path,
        camera: str,
        key: Ed25519PrivateKey,
        describe: Callable[[], dict[str, Any]],
        sei: Callable[[int], str],
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._folder, self._camera, self._key = folder, camera, key
        self._describe, self._sei, self._limits, self._clock = describe, sei, limits, clock
        self.intake = Intake(self._offer, limits.segment_s, clock)
        self._changed = threading.Condition()  # guards the inbox and the figures
        self._inbox: deque[tuple[Arrived | Decoded | Sent, int]] = deque()
        self._bytes = 0
        self._closing = False
        self._open: deque[Segment] = deque()  # the first is the one lines go to
        self._pending: deque[Picture] = deque()
        self._notes: dict[int, Note] = {}
        self._previous: str | None = None
        self._gap: str | None = None  # why something is missing before the next segment
        self._newest = self._failed = 0  # segments: begun last; given up, with all before it
        self._frames = self._unrecorded = self._segments = self._unrecorded_said = 0
        self._error: str | None = None
        self._names = re.compile(rf"({re.escape(camera)}-\d{{8}}T\d{{6}}\.\d{{3}}Z-\d{{5,}})\..+")
        self._thread = threading.Thread(target=self._run, name=f"evidence {camera}", daemon=True)

    def put(self, sent: Sent, wait_s: float | None) -> bool:
        """Hand over what leaves; False if there was no room for ``wait_s`` (None: wait for ever)."""
        size = sent.frame.image.nbytes
        with self._changed:
            self._changed.wait_for(lambda: self._has_room(size) or self._closing, wait_s)
            if not self._has_room(size) or self._closing:
                self._unrecorded += 1
                return False
            self._append(sent, size)
            return True

    def close(self) -> None:
        """Write what has come and complete the last segment. May be called twice."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def statistics(self) -> EvidenceStatistics:
        with self._changed:
            return EvidenceStatistics(
                self._frames, self._unrecorded, self.intake.lost, self._segments, self._error
            )

    def _offer(self, event: Arrived | Decoded, size: int) -> bool:
        with self._changed:
            if self._closing or not self._has_room(size):
                return False
            self._append(event, size)
            return True

    def _has_room(self, size: int) -> bool:
        return not self._inbox or self._bytes + size <= INBOX_BYTES

    def _append(self, event: Arrived | Decoded | Sent, size: int) -> None:
        if self._thread.ident is None:  # the first
            self._thread.start()
        self._inbox.append((event, size))
        self._bytes += size
        self._changed.notify_all()

    # -- on the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._work()
        finally:  # also where a fault of the program ends it: nobody may wait for it then
            with self._changed:
                if not self._closing:
                    self._closing, self._error = True, "the recording thread failed"
                self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._inbox or self._closing)
                if not self._inbox:
                    break
                event, size = self._inbox.popleft()
            self._guarded(lambda event=event: self._handle(event))  # type: ignore[misc]
            with self._changed:
                self._bytes -= size
                self._changed.notify_all()
        self._guarded(self._complete)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (OSError, av.FFmpegError, ValueError) as error:
            self._fail(redact(getattr(error, "strerror", None) or str(error)))

    def _handle(self, event: Arrived | Decoded | Sent) -> None:
        if isinstance(event, Arrived):
            self._take(event)
        elif isinstance(event, Decoded):
            if any(segment.number == event.picture.segment for segment in self._open):
                if self._pending and self._pending[-1].index >= event.picture.index:  # a source begun anew
                    self._flush()
                self._pending.append(event.picture)
            while len(self._pending) > PENDING_MAX:
                self._drop(self._pending.popleft())
        else:
            self._write(event)

    def _take(self, event: Arrived) -> None:
        if event.segment <= self._failed:
            return
        self._newest = event.segment
        if not self._open or self._open[-1].number < event.segment:
            while len(self._open) >= OPEN_MAX:
                while self._pending and self._pending[0].segment <= self._open[0].number:
                    self._drop(self._pending.popleft())
                self._finish()
            self._folder.mkdir(parents=True, exist_ok=True)
            began = datetime.now(UTC)
            when = f"{began:%Y%m%dT%H%M%S}.{began.microsecond // 1000:03d}Z"
            stem = f"{self._camera}-{when}-{event.segment:05d}"
            self._open.append(Segment(self._folder, stem, event.segment, event.stencil, self._limits.crf))
        self._open[-1].take(event.packet)

    def _write(self, sent: Sent) -> None:
        index = sent.frame.index
        self._notes = sent.notes
        while self._pending and self._pending[0].index < index:
            self._drop(self._pending.popleft())
        if not self._pending or self._pending[0].index != index:
            with self._changed:
                self._unrecorded += 1
            return
        picture = self._pending.popleft()
        segment = self._advance(picture.segment)
        text = self._sei(index)
        segment.add_frame(picture, sent.frame, sent.notes[index], sent.info, text, self._wall(sent.frame))
        segment.sign_when_due(self._limits.checkpoint_s)
        with self._changed:
            self._frames += 1
            self._error = None

    def _flush(self) -> None:
        while self._pending:
            self._drop(self._pending.popleft())

    def _drop(self, picture: Picture) -> None:
        segment = self._advance(picture.segment)
        segment.add_dropped(picture, self._notes.get(picture.index))
        segment.sign_when_due(self._limits.checkpoint_s)

    def _active(self) -> Segment:
        segment = self._open[0]
        if not segment.active:
            header = self._describe()
            unrecorded = self._unrecorded - self._unrecorded_said
            if self._gap is not None or unrecorded:
                header["gap"] = {"reason": self._gap, "frames_unrecorded": unrecorded}
            segment.activate(self._key, header, self._previous)
            self._gap, self._unrecorded_said = None, self._unrecorded
        return segment

    def _advance(self, number: int) -> Segment:
        """Finish the segments before ``number``, which is open; the one lines go to."""
        while self._open[0].number < number and len(self._open) > 1:
            self._finish()
        return self._active()

    def _finish(self) -> None:
        segment = self._active()
        unshown = self.intake.unshown(segment.number)
        segment.add_unshown([packet for packet in unshown if packet.sha256])
        self._previous = segment.finish()
        self._open.popleft()
        with self._changed:
            self._segments += 1
        self._tidy()

    def _complete(self) -> None:
        self._flush()
        while self._open:
            self._finish()

    def _fail(self, reason: str) -> None:
        _log.error("%s: evidence is not recorded: %s", self._camera, reason)
        for segment in self._open:
            segment.abandon()
        self._open.clear()
        self._failed = self._newest
        self._pending.clear()
        self._gap = reason
        with self._changed:
            self._error = reason
        self.intake.renew(RETRY_S)

    def _tidy(self) -> None:
        """Delete what the limits do not allow, oldest segment first, never the newest."""
        limits = self._limits
        if limits.max_age_s is None and limits.max_bytes is None:
            return
        open_stems = {segment.stem for segment in self._open}
        segments: dict[str, list[tuple[Path, os.stat_result]]] = {}  # by stem, which begins with the time
        for path in sorted(self._folder.iterdir()):
            found = self._names.fullmatch(path.name)
            if found is not None and found[1] not in open_stems:
                segments.setdefault(found[1], []).append((path, path.stat()))
        total = sum(status.st_size for parts in segments.values() for _, status in parts)
        for parts in list(segments.values())[:-1]:
            ended = max(status.st_mtime for _, status in parts)
            old = limits.max_age_s is not None and ended < time.time() - limits.max_age_s
            if not old and (limits.max_bytes is None or total <= limits.max_bytes):
                break
            for path, status in parts:
                path.unlink(missing_ok=True)
                total -= status.st_size

    def _wall(self, frame: Frame) -> str:
        return utc(time.time() - (self._clock.now_ns() - frame.captured_ns) / NS_PER_S)
