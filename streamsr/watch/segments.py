"""A recording: a folder of short MP4 files, of which the oldest are deleted as the limits demand."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

from ..clock import MONOTONIC, NS_PER_S, Clock
from ..errors import ConfigError, DiskFullError, SinkError
from ..frame import Frame, StreamInfo
from ..io.file_sink import FileSink
from ..io.fragments import salvage

__all__ = ["SegmentSink", "segments_in"]

SEGMENT = re.compile(r"\d{8}T\d{6}\.\d{3}Z\.mp4")
PARTIAL = re.compile(rf"\.({SEGMENT.pattern})\.[0-9a-f]{{8}}\.partial")
LOCK = ".recording"
FRAGMENT_S = 2.0  # a kill costs no more than about this
TIDY_S = 1.0  # limits and free space are looked at this often...
LOOK_S = 60.0  # ...and the folder, which may hold a month of files, this often and after every segment
PARTS = 4  # a segment takes at most this part of max_bytes: what is deleted at once is no more
MIN_FREE_BYTES = 64_000_000


def segments_in(folder: Path) -> list[Path]:
    """The complete segments, oldest first."""
    return sorted(path for path in folder.iterdir() if SEGMENT.fullmatch(path.name))


class SegmentSink:
    """Writes ``folder/20261121T122418.123Z.mp4`` and so on, named by when they begin, in UTC.

    segment_s: length of a file. max_age_s, max_bytes: what is older, and the oldest of what is more, is
    deleted; None: no such limit. min_free_bytes: the rest of the disk is left alone.
    wall: seconds since 1970.

    A segment is written as a fragmented MP4 under a hidden name and gets its own when it is complete. What
    a kill left behind is cut to its last complete fragment and kept when the folder is opened again, by
    which at most about two seconds are lost. Each segment's pts begin at 0.

    Where the disk is full and there is a limit, the oldest segments go early; where there is none, nothing
    may be deleted: ``open`` and ``write`` raise DiskFullError, and what was written stays.

    One process at a time has the folder. Files of other names are never touched.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        segment_s: float = 60.0,
        max_age_s: float | None = None,
        max_bytes: int | None = None,
        min_free_bytes: int = MIN_FREE_BYTES,
        crf: int | None = None,
        clock: Clock = MONOTONIC,
        wall: Callable[[], float] = time.time,
    ) -> None:
        for name, limit in {"segment_s": segment_s, "max_age_s": max_age_s, "max_bytes": max_bytes}.items():
            if limit is not None and limit <= 0:
                raise ConfigError(f"{name} must be above 0, got {limit}")
        if min_free_bytes < 0:
            raise ConfigError(f"min_free_bytes must be at least 0, got {min_free_bytes}")
        self.url = str(folder)
        self._folder = Path(folder)
        self._segment_s = segment_s
        self._max_age_s, self._max_bytes = max_age_s, max_bytes
        self._min_free_bytes = min_free_bytes
        self._crf = crf
        self._clock, self._wall = clock, wall
        self._lock: int | None = None
        self._info: StreamInfo | None = None
        self._file: FileSink | None = None
        self._began: Fraction = Fraction(0)  # of the segment: the first picture's time, s
        self._shift = 0
        self._partial: Path | None = None  # of the segment, while it is written
        self._found: deque[tuple[Path, os.stat_result]] = deque()  # complete segments, oldest first
        self._tidied_ns = self._looked_ns = self._written_ns = 0
        self._salvaged = self._deleted_early = 0

    @property
    def warnings(self) -> list[str]:
        lines = []
        if self._salvaged:
            lines.append(f"{self.url}: segments that were cut short, and kept: {self._salvaged}")
        if self._deleted_early:
            lines.append(
                f"{self.url}: segments deleted early because the disk was full: {self._deleted_early}"
            )
        return lines

    def open(self, info: StreamInfo) -> None:
        """Make the folder, keep what a kill left. Raises SinkError, also where another process records."""
        self._info = info
        try:
            with self._explained():
                self._folder.mkdir(parents=True, exist_ok=True)
                self._take_lock()
                self._salvage()
                self._look()
            self._tidy()
        except SinkError:
            self._give_lock_back()
            raise

    def write(self, frame: Frame) -> None:
        """Raises SinkError; what was written until then stays."""
        if self._info is None or self._lock is None:
            raise SinkError(f"{self.url} is not open", self.url)
        time_s = frame.pts * frame.time_base
        if self._is_time_to_tidy():
            self._tidy()
            if self._max_bytes is not None and self._partial_bytes() > self._max_bytes / PARTS:
                self._finish()
        if time_s - self._began >= self._segment_s:
            self._finish()
        if self._file is None:
            self._begin(frame)
        assert self._file is not None
        try:
            self._file.write(replace(frame, pts=frame.pts - self._shift))
        except SinkError as error:
            self._fail(error)
        self._written_ns = self._clock.now_ns()

    def idle(self) -> None:
        """To be called every second or so while no pictures come. Raises SinkError.

        Ages are limited all the same, and after ``segment_s`` the segment is completed without more pictures.
        """
        if self._lock is None or not self._is_time_to_tidy():
            return
        self._tidy()
        if self._clock.now_ns() - self._written_ns >= self._segment_s * NS_PER_S:
            self._finish()

    def close(self) -> None:
        """Complete the last segment. Raises SinkError; what can be saved of it is kept then too."""
        try:
            self._finish()
        finally:
            self._give_lock_back()

    def abort(self) -> None:
        """As ``close``: a recording that ends early is still one."""
        with contextlib.suppress(SinkError):
            self.close()

    def _begin(self, frame: Frame) -> None:
        assert self._info is not None
        age_s = (self._clock.now_ns() - frame.captured_ns) / NS_PER_S
        began = datetime.fromtimestamp(self._wall() - age_s, UTC)
        with self._explained():
            while (path := self._folder / _name(began)).exists():  # the wall clock was set back
                began += timedelta(milliseconds=1)
        file = FileSink(str(path), crf=self._crf, fragment_s=FRAGMENT_S, threads=1, live=True)
        try:
            file.open(self._info)
        except SinkError as error:
            self._fail(error)
        self._file, self._shift = file, frame.pts
        self._began = frame.pts * frame.time_base
        self._partial = next(self._folder.glob(f".{path.name}.*.partial"), None)

    def _finish(self) -> None:
        """Complete the segment, if there is one."""
        try:
            if self._file is not None:
                self._file.close()
                with self._explained():
                    self._look()
        except SinkError as error:
            self._fail(error)
        self._file = self._partial = None

    def _fail(self, error: SinkError) -> None:
        """Keep what is complete of the segment, and raise ``error`` or that the disk is full."""
        if self._file is not None:
            self._file.abort()
        self._file = self._partial = None
        with self._explained():
            self._salvage()
            if self._free_bytes() < self._min_free_bytes:
                raise self._full() from None
        raise error

    def _is_time_to_tidy(self) -> bool:
        return self._clock.now_ns() - self._tidied_ns >= TIDY_S * NS_PER_S

    def _tidy(self) -> None:
        """Delete what the limits do not allow. Raises DiskFullError, with the segment completed."""
        self._tidied_ns = self._clock.now_ns()
        with self._explained():
            if self._tidied_ns - self._looked_ns >= LOOK_S * NS_PER_S:
                self._look()
            total = sum(status.st_size for _, status in self._found) + self._partial_bytes()
            while self._found:
                path, status = self._found[0]
                old = self._max_age_s is not None and status.st_mtime < self._wall() - self._max_age_s
                much = self._max_bytes is not None and total > self._max_bytes
                tight = self._limited() and self._free_bytes() < self._min_free_bytes
                if not (old or much or tight):
                    break
                path.unlink(missing_ok=True)
                self._found.popleft()
                total -= status.st_size
                self._deleted_early += not (old or much)
            full = self._free_bytes() < self._min_free_bytes
        if full:
            self._finish()
            raise self._full()

    def _look(self) -> None:
        """What complete segments there are. Raises OSError."""
        self._looked_ns = self._clock.now_ns()
        self._found.clear()
        for path in segments_in(self._folder):
            with contextlib.suppress(FileNotFoundError):  # somebody else deleted it just now
                self._found.append((path, path.stat()))

    def _limited(self) -> bool:
        return self._max_age_s is not None or self._max_bytes is not None

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self._folder).free

    def _full(self) -> DiskFullError:
        free, wanted = self._free_bytes() / 1e6, self._min_free_bytes / 1e6
        return DiskFullError(f"the disk is full: {free:.1f} MB free, recording wants {wanted:g} MB", self.url)

    def _partial_bytes(self) -> int:
        with self._explained():
            return self._partial.stat().st_size if self._partial is not None else 0

    def _salvage(self) -> None:
        for partial in sorted(self._folder.iterdir()):
            if found := PARTIAL.fullmatch(partial.name):
                self._salvaged += salvage(partial, self._folder / found[1])

    def _take_lock(self) -> None:
        """Held until ``close``, and no longer than this process lives."""
        if self._lock is None:
            self._lock = os.open(self._folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SinkError(f"{self.url} is in use by another recording", self.url) from None

    def _give_lock_back(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SinkError(f"cannot record to {self.url}: {error.strerror}", self.url) from None


def _name(began: datetime) -> str:
    return f"{began:%Y%m%dT%H%M%S}.{began.microsecond // 1000:03d}Z.mp4"
