"""The ends of the benchmark's call: a camera with a clock in its picture, a microphone that beeps in time."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from time import monotonic

import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import VIDEO_TIME_BASE
from av import AudioFrame, VideoFrame
from av.video.reformatter import VideoReformatter

from streamsr.frame import Colour
from streamsr.io.colour import from_rgb

from .call_marker import PERIOD_MS, draw_marker, read_marker
from .call_scene import CAMERA_PX, RATE, place

__all__ = ["BEEP_EVERY_S", "CameraTrack", "MicrophoneTrack", "Tap", "beep_onset", "luma_of", "marked_ms"]

AUDIO_RATE, AUDIO_SAMPLES = 48_000, 960  # 20 ms
BEEP_EVERY_S = 2
BEEP_S = 0.2  # the flash is as long
BEEP_HZ, BEEP_LEVEL = 1000, 12_000
ONSET_LEVEL = 1500  # of 32768: half a millisecond into the beep


class CameraTrack(MediaStreamTrack):
    """The scene at RATE from ``start_s`` on, each picture stamped with the clock as it is handed over."""

    kind = "video"

    def __init__(self, pictures: list[np.ndarray], start_s: float) -> None:
        super().__init__()
        reformatter = VideoReformatter()
        self._planes = [
            from_rgb(picture, Colour(), "yuv420p", reformatter).to_ndarray() for picture in pictures
        ]
        self._start_s, self._next = start_s, 0
        self.shown: list[tuple[int, int]] = []  # clock in ms, which picture

    async def recv(self) -> VideoFrame:
        due_s = self._start_s + self._next / RATE
        await asyncio.sleep(due_s - monotonic())
        which = place(self._next, len(self._planes))
        planes = self._planes[which].copy()
        ms = round(1e3 * monotonic())
        draw_marker(planes[: CAMERA_PX[1]], ms, flash=_beeps(self._next / RATE))
        frame = VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = round(self._next / RATE / VIDEO_TIME_BASE), VIDEO_TIME_BASE
        self.shown.append((ms, which))
        self._next += 1
        return frame


class MicrophoneTrack(MediaStreamTrack):
    """A beep with every flash: its first sample is due when the first bright picture is."""

    kind = "audio"

    def __init__(self, start_s: float) -> None:
        super().__init__()
        self._start_s, self._first = start_s, 0

    async def recv(self) -> AudioFrame:
        # a microphone hands a frame over when its last sample is there
        await asyncio.sleep(self._start_s + (self._first + AUDIO_SAMPLES) / AUDIO_RATE - monotonic())
        t = (self._first + np.arange(AUDIO_SAMPLES)) / AUDIO_RATE
        wave = BEEP_LEVEL * np.sin(2 * np.pi * BEEP_HZ * t) * (t % BEEP_EVERY_S < BEEP_S)
        frame = AudioFrame.from_ndarray(wave.astype(np.int16)[None], "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, self._first, Fraction(1, AUDIO_RATE)
        self._first += AUDIO_SAMPLES
        return frame


class Tap(MediaStreamTrack):
    """Passes a track on and keeps, if it is to, when each frame came by, by its time in 1/90000 s."""

    kind = "video"

    def __init__(self, track: MediaStreamTrack, keeps: bool) -> None:
        super().__init__()
        self._track, self._keeps = track, keeps
        self.seen_s: dict[int, float] = {}

    async def recv(self) -> VideoFrame:
        frame = await self._track.recv()
        assert isinstance(frame, VideoFrame) and frame.pts is not None and frame.time_base is not None
        if self._keeps:
            self.seen_s[round(frame.pts * frame.time_base / VIDEO_TIME_BASE)] = monotonic()
        return frame

    def stop(self) -> None:
        super().stop()
        self._track.stop()


def luma_of(frame: VideoFrame) -> np.ndarray:
    """(H, W) uint8: a yuv420p picture's first plane, where it lies."""
    plane = frame.planes[0]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def marked_ms(frame: VideoFrame, now_ms: int) -> tuple[int, bool] | None:
    """(the clock in ms when the picture was shown, flash); now_ms: the same clock at most 65 s later."""
    found = read_marker(luma_of(frame), frame.width // CAMERA_PX[0])
    if found is None:
        return None
    ms, flash = found
    return now_ms - (now_ms - ms) % PERIOD_MS, flash


def beep_onset(frame: AudioFrame) -> float | None:
    """Seconds into the frame at which it gets loud, if it does."""
    samples = np.abs(frame.to_ndarray().reshape(-1, len(frame.layout.channels))[:, 0].astype(np.int32))
    loud = np.flatnonzero(samples > ONSET_LEVEL)
    return float(loud[0]) / frame.sample_rate if len(loud) else None


def _beeps(t_s: float) -> bool:
    return t_s % BEEP_EVERY_S < BEEP_S
