"""One track for many viewers: each has a bounded queue of its own, and none can hold up another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from aiortc import MediaStreamError, MediaStreamTrack

from ..channel import EndOfStream, LatestFrame
from ..loop import settle

__all__ = ["Relay", "RelayedTrack"]

CAPACITY = {"video": 1, "audio": 25}  # frames: the newest picture; half a second of sound

_log = logging.getLogger(__name__)


class Relay:
    """Reads ``track`` from now on, viewers or not, so that nothing piles up behind it.

    on_end: called once when the track has ended or failed, not after ``close``.
    """

    def __init__(self, track: MediaStreamTrack, on_end: Callable[[], None]) -> None:
        self.kind, self.frames = track.kind, 0
        self._track, self._on_end = track, on_end
        self._viewers: set[RelayedTrack] = set()
        self._closed = False
        self._task = asyncio.create_task(self._run(), name=f"relay {track.kind}")

    def subscribe(self) -> RelayedTrack:
        """A track with the frames from now on. It ends with the relay's."""
        viewer = RelayedTrack(self)
        if self._closed:
            viewer.end()
        else:
            self._viewers.add(viewer)
        return viewer

    def leave(self, viewer: RelayedTrack) -> None:
        self._viewers.discard(viewer)

    async def close(self) -> None:
        """End all viewers' tracks and stop ``track``. May be called twice."""
        self._task.cancel()
        self._finish()
        await settle(self._task)

    async def _run(self) -> None:
        try:
            while True:
                frame = await self._track.recv()
                self.frames += 1
                for viewer in tuple(self._viewers):
                    await viewer.offer(frame)
        except MediaStreamError:
            pass
        except Exception:  # whatever a track raises ends this stream alone
            _log.exception("the %s track failed", self.kind)
        self._finish()
        self._on_end()

    def _finish(self) -> None:
        self._closed = True
        self._track.stop()
        for viewer in tuple(self._viewers):
            viewer.end()
        self._viewers.clear()


class RelayedTrack(MediaStreamTrack):
    """What one viewer sees of a relay: frames that it is too slow for are dropped, the oldest first."""

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self.kind = relay.kind
        self._relay = relay
        self._frames: LatestFrame[Any] = LatestFrame(CAPACITY[relay.kind])

    @property
    def dropped(self) -> int:
        return self._frames.statistics().dropped

    async def offer(self, frame: Any) -> None:
        """Give it a frame; never waits."""
        await self._frames.send(frame)

    def end(self) -> None:
        """No more frames come; those that wait are still received."""
        self._frames.close()

    async def recv(self) -> Any:
        if self.readyState != "live":
            raise MediaStreamError
        try:
            return await self._frames.receive()
        except EndOfStream:
            self.stop()
            raise MediaStreamError from None

    def stop(self) -> None:
        super().stop()
        self._relay.leave(self)
        self._frames.close()
