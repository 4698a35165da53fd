"""The publisher's picture, checked frame by frame before anything expensive happens to it."""

from __future__ import annotations

from collections.abc import Callable

from aiortc import MediaStreamError, MediaStreamTrack
from av import VideoFrame

from ..clock import MONOTONIC, NS_PER_S, Clock
from .config import Limits

__all__ = ["Intake"]

BURST_S = 2.0  # of frames that may come at once, after a gap in the network


class Intake(MediaStreamTrack):
    """``track``, as long as its frames keep within ``limits``; then ``refuse`` is told why, and it ends."""

    kind = "video"

    def __init__(
        self,
        track: MediaStreamTrack,
        limits: Limits,
        refuse: Callable[[str], None],
        clock: Clock = MONOTONIC,
    ) -> None:
        super().__init__()
        self._track, self._limits, self._refuse, self._clock = track, limits, refuse, clock
        self._last_ns = clock.now_ns()
        self._credit = limits.fps * BURST_S  # frames that may still come now
        self.frames = 0

    @property
    def silent_s(self) -> float:
        """Since the last frame, or since the beginning."""
        return (self._clock.now_ns() - self._last_ns) / NS_PER_S

    async def recv(self) -> VideoFrame:
        if self.readyState != "live":
            raise MediaStreamError
        try:
            frame = await self._track.recv()
        except MediaStreamError:
            self.stop()
            raise
        assert isinstance(frame, VideoFrame), "a remote track decodes"
        complaint = self._complaint(frame.width, frame.height)
        if complaint is not None:
            self._refuse(complaint)
            self.stop()
            raise MediaStreamError(complaint)
        return frame

    def stop(self) -> None:
        super().stop()
        self._track.stop()

    def _complaint(self, width: int, height: int) -> str | None:
        limits, now_ns = self._limits, self._clock.now_ns()
        elapsed_s = (now_ns - self._last_ns) / NS_PER_S
        self._last_ns = now_ns
        self.frames += 1
        self._credit = min(self._credit + elapsed_s * limits.fps, limits.fps * BURST_S) - 1
        if max(width, height) > limits.width_px or min(width, height) > limits.height_px:
            return f"the picture is {width}x{height}, larger than {limits.width_px}x{limits.height_px}"
        if self._credit < 0:
            return f"more than {limits.fps:g} frames per second"
        return None
