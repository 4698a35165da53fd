"""Real aiortc peers for tests: paced tracks, a whole call, a network that loses packets."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from fractions import Fraction

import numpy as np
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCRtpSender
from aiortc.mediastreams import VIDEO_TIME_BASE, MediaStreamError
from av import AudioFrame, VideoFrame

AUDIO_RATE = 48_000
AUDIO_SAMPLES = 960  # 20 ms


class PacedTrack(MediaStreamTrack):
    """``draw(index)`` gives (H, W, 3) uint8 RGB pictures, due at ``rate``; ends after ``count``, if given.

    Whoever is late gets the pictures late: none is left out.
    """

    kind = "video"

    def __init__(self, draw: Callable[[int], np.ndarray], rate: int = 25, count: int | None = None) -> None:
        super().__init__()
        self.draw, self.rate, self.count = draw, rate, count
        self.index = 0
        self._start_s: float | None = None

    async def recv(self) -> VideoFrame:
        if self.readyState != "live" or self.index == self.count:
            self.stop()
            raise MediaStreamError
        loop = asyncio.get_running_loop()
        if self._start_s is None:
            self._start_s = loop.time()
        await asyncio.sleep(self._start_s + self.index / self.rate - loop.time())
        frame = VideoFrame.from_ndarray(self.draw(self.index), format="rgb24")
        frame.pts, frame.time_base = round(self.index / self.rate / VIDEO_TIME_BASE), VIDEO_TIME_BASE
        self.index += 1
        return frame


class SoundTrack(MediaStreamTrack):
    """``samples(first, count)`` gives (count,) int16, mono, at 48 kHz, in paced frames of 20 ms."""

    kind = "audio"

    def __init__(self, samples: Callable[[int, int], np.ndarray]) -> None:
        super().__init__()
        self.samples = samples
        self._first = 0
        self._start_s: float | None = None

    async def recv(self) -> AudioFrame:
        if self.readyState != "live":
            raise MediaStreamError
        loop = asyncio.get_running_loop()
        if self._start_s is None:
            self._start_s = loop.time()
        # a microphone's frame is there when its last sample is
        await asyncio.sleep(self._start_s + (self._first + AUDIO_SAMPLES) / AUDIO_RATE - loop.time())
        frame = AudioFrame.from_ndarray(self.samples(self._first, AUDIO_SAMPLES)[None], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, self._first, Fraction(1, AUDIO_RATE)
        self._first += AUDIO_SAMPLES
        return frame


@asynccontextmanager
async def call(
    *tracks: MediaStreamTrack,
    answer: Callable[[MediaStreamTrack, RTCPeerConnection], None] | None = None,
    codec: str | None = None,
) -> AsyncIterator[tuple[RTCPeerConnection, RTCPeerConnection, dict[str, MediaStreamTrack]]]:
    """One peer sends ``tracks``, the other one gets them: (sender, receiver, tracks received by kind).

    answer: called for each track that arrives, before the answer is made. codec: "VP8" or "H264".
    """
    here, there = RTCPeerConnection(), RTCPeerConnection()
    got: dict[str, MediaStreamTrack] = {}

    @there.on("track")
    def on_track(track: MediaStreamTrack) -> None:
        got[track.kind] = track
        if answer is not None:
            answer(track, there)

    for track in tracks:
        here.addTrack(track)
    if codec is not None:
        wanted = [
            found
            for found in RTCRtpSender.getCapabilities("video").codecs
            if found.mimeType in (f"video/{codec}", "video/rtx")
        ]
        for transceiver in here.getTransceivers():
            if transceiver.kind == "video":
                transceiver.setCodecPreferences(wanted)
    try:
        await here.setLocalDescription(await here.createOffer())
        await there.setRemoteDescription(here.localDescription)
        await there.setLocalDescription(await there.createAnswer())
        await here.setRemoteDescription(there.localDescription)
        yield here, there, got
    finally:
        await here.close()
        await there.close()


class LossyWire:
    """Between a peer and its network, from now on or in a ``with`` block: loses and reorders by a fixed seed.

    lose: share of packets that vanish. reorder: share that arrives ``late_s`` late, behind others.
    """

    def __init__(
        self, peer: RTCPeerConnection, *, lose: float = 0.0, reorder: float = 0.0, late_s: float = 0.02
    ) -> None:
        self.lost = self.reordered = self.sent = 0
        self._lose, self._reorder, self._late_s = lose, reorder, late_s
        self._random = random.Random(7)
        (transport,) = {sender.transport.transport for sender in peer.getSenders()}
        self._transport, self._send = transport, transport._send
        transport._send = self._lossy

    def __enter__(self) -> LossyWire:
        return self

    def __exit__(self, *error: object) -> None:
        self._transport._send = self._send

    async def _lossy(self, data: bytes) -> None:
        self.sent += 1
        chance = self._random.random()
        if chance < self._lose:
            self.lost += 1
        elif chance < self._lose + self._reorder:
            self.reordered += 1
            await self._send_later(data)
        else:
            await self._send(data)

    async def _send_later(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(self._late_s, lambda: loop.create_task(self._send(data)))
