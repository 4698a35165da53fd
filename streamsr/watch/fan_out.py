"""Several sinks as one, none of which can stop or slow the others."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ..clock import MONOTONIC, Clock
from ..errors import ConfigError, SinkError, redact
from ..frame import Frame, Sink, StreamInfo, check_image
from ..io import open_sink
from .branch import Branch, SinkPlan
from .segments import SegmentSink
from .status import SinkStatus

__all__ = ["FanOut", "SinkPlan", "recording_plan", "sink_plan"]

CLOSE_S = 5.0  # for all sinks together
ABORT_S = 2.0
RECORDING_PICTURES = 24  # that may wait for a slow disk


class FanOut:
    """A ``streamsr.frame.Sink`` that writes each picture to all of its sinks, each on its own thread.

    A sink that is slow drops pictures, the oldest first; one that fails is tried again for ever; one that
    hangs is shown as hung. ``open`` and ``write`` never wait for any and raise for none: what became of
    each is in ``statistics`` and ``warnings``.
    """

    def __init__(
        self,
        plans: Sequence[SinkPlan],
        *,
        clock: Clock = MONOTONIC,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        """Raises ConfigError if there is no plan, or a plan cannot make its sink."""
        if not plans:
            raise ConfigError("there must be at least one sink")
        self.url = ", ".join(plan.url for plan in plans)
        self._branches = [Branch(plan, clock=clock, uniform=uniform) for plan in plans]
        self._opened = self._ended = False

    def open(self, info: StreamInfo) -> None:
        """Raises SinkError if it was opened before."""
        if self._opened or self._ended:
            raise SinkError("can be opened once", self.url)
        self._opened = True
        for branch in self._branches:
            branch.start(info)

    def write(self, frame: Frame) -> None:
        """The picture must not be changed afterwards. Raises SinkError if this is not open."""
        check_image(frame.image)
        if not self._opened or self._ended:
            raise SinkError("not open", self.url)
        for branch in self._branches:
            branch.push(frame)

    def close(self) -> None:
        """Let each sink write what waits for it and finish; over in 5 s. May be called twice."""
        self._end(CLOSE_S, abandon=False)

    def abort(self) -> None:
        """Give up what waits; over in 2 s. May be called twice, and after ``close``."""
        self._end(ABORT_S, abandon=True)

    @property
    def warnings(self) -> list[str]:
        return [line for branch in self._branches for line in branch.warnings]

    def statistics(self) -> tuple[SinkStatus, ...]:
        """In the order of the plans. From any thread."""
        return tuple(branch.statistics() for branch in self._branches)

    def _end(self, patience_s: float, abandon: bool) -> None:
        if self._ended:
            return
        self._ended = True
        for branch in self._branches:
            branch.finish(abandon)
        until = time.monotonic() + patience_s
        for branch in self._branches:
            branch.join(max(0.0, until - time.monotonic()))


def sink_plan(
    url: str,
    *,
    transport: str = "tcp",
    crf: int | None = None,
    sei: Callable[[int], str] | None = None,
) -> SinkPlan:
    """An RTSP server or a video file. sei: of the first, see ``RtspSink``.

    A file that is there already is left alone: the next one gets the time, in UTC, into its name.
    Raises ConfigError for anything else.
    """
    if url.lower().startswith(("rtsp://", "rtsps://")):
        from ..io.rtsp_sink import RtspSink

        def make() -> Sink:
            return RtspSink(url, transport=transport, crf=crf, sei=sei, reconnect=False)

        return SinkPlan(redact(url), make)
    if "%" in Path(url).name:
        raise ConfigError(f"an output of a camera is rtsp:// or a video file, got {url!r}")
    return SinkPlan(
        redact(url), lambda: open_sink(_free(url), crf=crf, live=True), pictures=RECORDING_PICTURES
    )


def recording_plan(
    folder: str,
    *,
    segment_s: float = 60.0,
    max_age_s: float | None = None,
    max_bytes: int | None = None,
    crf: int | None = None,
) -> SinkPlan:
    """A ``SegmentSink``."""

    def make() -> Sink:
        return SegmentSink(folder, segment_s=segment_s, max_age_s=max_age_s, max_bytes=max_bytes, crf=crf)

    return SinkPlan(folder, make, pictures=RECORDING_PICTURES)


def _free(wanted: str) -> str:
    path = Path(wanted)
    while path.exists():
        path = path.with_stem(f"{Path(wanted).stem}.{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z")
    return str(path)
