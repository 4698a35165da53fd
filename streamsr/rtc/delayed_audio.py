"""Sound that waits for the pictures.

aiortc's sender reports tie the time of a packet to the moment it is sent, and a receiver that keeps sound
and picture together (Chromium) goes by these reports: what leaves at the same moment is played at the same
moment. So the sound is held back as long as the pictures take, and its own times are left alone: a step in
them would be a gap or a click. A frame of sound comes when its last sample is there, and is heard from its
first one on: by its own length it has been held already. The hold changes by at most 50 ms a second, which
a receiver's jitter buffer takes up by stretching, without an audible change of pitch.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable

from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame

from ..channel import EndOfStream, LatestFrame
from ..errors import ConfigError
from ..loop import settle

__all__ = ["DelayedAudioTrack"]

SLEW = 0.05  # change of the hold per time played
MAX_DELAY_MS = 2000.0
CAPACITY = 150  # frames of 20 ms: the longest hold and a second more


class DelayedAudioTrack(MediaStreamTrack):
    """An audio ``track``, held back by ``delay_ms()``; to be made on a running loop.

    delay_ms: of the pictures, asked once a frame; in ms, not negative, finite. The first frame is held by
    all of it but its own length, and by 2 s at most; later ones follow at 50 ms a second. Nothing is
    resampled, left out or stamped anew, unless nobody calls ``recv`` for three seconds: then the oldest
    frames go.

    The source belongs to this track and is stopped with it. ``close`` also waits for its task.
    """

    kind = "audio"

    def __init__(self, track: MediaStreamTrack, delay_ms: Callable[[], float]) -> None:
        super().__init__()
        if track.kind != "audio":
            raise ConfigError(f"track must be of audio, got {track.kind}")
        self._track, self._delay_ms = track, delay_ms
        self._frames: LatestFrame[tuple[AudioFrame, float]] = LatestFrame(CAPACITY)  # with arrival, in s
        self._held_ms: float | None = None
        self._failure: str | None = None
        self._stopped = asyncio.Event()
        self._reading = asyncio.get_running_loop().create_task(self._read())

    @property
    def held_ms(self) -> float:
        """By how much the last frame was held back; 0 before the first."""
        return self._held_ms or 0.0

    async def recv(self) -> AudioFrame:
        """The next frame when it is due. Raises MediaStreamError once the track has ended."""
        try:
            frame, arrived_s = await self._frames.receive()
        except EndOfStream:
            self.stop()
            raise MediaStreamError(self._failure or "the track has ended") from None
        self._held_ms = self._next_hold_ms(1e3 * frame.samples / frame.sample_rate)
        wait_s = arrived_s + self._held_ms / 1e3 - asyncio.get_running_loop().time()
        if wait_s > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._stopped.wait()
        if self.readyState != "live":
            raise MediaStreamError("the track has ended")
        return frame

    def stop(self) -> None:
        """End at once; whoever awaits ``recv`` gets MediaStreamError. May be called twice."""
        super().stop()
        self._stopped.set()
        self._track.stop()
        self._frames.close()
        self._reading.cancel()

    async def close(self) -> None:
        """``stop``, and wait until no task is left. May be called twice."""
        self.stop()
        await settle(self._reading)

    def _next_hold_ms(self, frame_ms: float) -> float:
        wanted = float(self._delay_ms())
        if not (math.isfinite(wanted) and wanted >= 0):
            raise ConfigError(f"delay_ms must give a number of at least 0, got {wanted}")
        wanted = min(max(0.0, wanted - frame_ms), MAX_DELAY_MS)
        if self._held_ms is None:
            return wanted
        step = SLEW * frame_ms
        return min(max(wanted, self._held_ms - step), self._held_ms + step)

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            with contextlib.suppress(MediaStreamError):
                while True:
                    frame = await self._track.recv()
                    if not isinstance(frame, AudioFrame):
                        self._failure = f"a frame must be an AudioFrame, got {type(frame).__name__}"
                        break
                    self._frames.push((frame, loop.time()))
        finally:
            self._frames.close()
