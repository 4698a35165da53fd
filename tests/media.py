"""Small real media files, made by PyAV, for the tests of sources and sinks; and what is in a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
import skimage.data
from av.audio.stream import AudioStream
from av.codec.context import Flags
from av.video.stream import VideoStream

from streamsr.frame import Frame
from streamsr.io.file import FileSource

FACE_PX, COUNT = (160, 120), 16  # of the clip with a face


def moving_picture(index: int, width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8: a soft gradient that moves; the top left pixel block tells ``index``."""
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    picture = np.empty((height, width, 3), np.uint8)
    picture[..., 0] = (x * 2 + index * 3) % 200 + 20
    picture[..., 1] = (y * 2 + index * 5) % 200 + 20
    picture[..., 2] = (x + y) % 200 + 20
    picture[: height // 4, : width // 4] = 20 + 8 * (index % 28)
    return picture


def moving_portrait(index: int, width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8: NASA's astronaut, who sways; her face is about a quarter of the width."""
    near = skimage.data.astronaut()[:300, 50:450]  # 4:3
    small = cv2.resize(near, (width, height), interpolation=cv2.INTER_AREA)
    shift = np.array([[1, 0, width / 30 * np.sin(index / 5)], [0, 1, height / 40 * np.cos(index / 5)]])
    return cv2.warpAffine(
        small, shift, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )


def write_video(
    path: Path,
    *,
    picture_of: Callable[[int, int, int], np.ndarray] = moving_picture,
    count: int = 10,
    size: tuple[int, int] = (64, 48),
    rate: Fraction = Fraction(30),
    time_base: Fraction | None = None,
    pts: Sequence[int] | None = None,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    container_format: str | None = None,
    rotation: int | None = None,
    audio: str | None = None,
    audio_s: float = 1.0,
) -> None:
    """``count`` pictures of ``picture_of``, or one for each of ``pts``; audio: a codec's name."""
    base = time_base or 1 / rate
    with av.open(
        str(path), "w", format=container_format, container_options=container_options or {}
    ) as container:
        stream = cast(VideoStream, container.add_stream(codec, rate=rate, options=options or {}))
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        stream.time_base = stream.codec_context.time_base = base
        stream.codec_context.flags |= Flags.frame_duration
        if rotation is not None:
            stream.set_display_rotation(rotation)
        sound = None
        if audio:
            sound = cast(AudioStream, container.add_stream(audio, rate=48000, bit_rate=128_000))
        times = list(range(count)) if pts is None else list(pts)
        step = max(1, round(1 / (rate * base)))
        for index, time in enumerate(times):
            picture = picture_of(index, *size)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixel_format)
            frame.pts, frame.time_base, frame.duration = time, base, step
            container.mux(stream.encode(frame))
        if sound is not None:
            for packet in tone(sound, audio_s):
                container.mux(packet)
        container.mux(stream.encode(None))
        if sound is not None:
            container.mux(sound.encode(None))


def read_all(path: Path) -> list[Frame]:
    source = FileSource(str(path))
    source.open()
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    return frames


def times(path: Path) -> list[Fraction]:
    """In seconds, of every picture."""
    return [frame.pts * frame.time_base for frame in read_all(path)]


def audio_packets(path: Path) -> list[tuple[bytes, Fraction]]:
    """The audio of a file as stored: bytes and time of every packet."""
    with av.open(str(path)) as container:
        return [
            (bytes(packet), packet.pts * packet.time_base)
            for packet in container.demux()
            if packet.stream.type == "audio" and packet.size and packet.pts is not None
        ]


def tone(stream: AudioStream, seconds: float) -> list[av.Packet]:
    if stream.codec_context.format.name == "u8":
        stream.codec_context.format = "s16"
    samples = 0.3 * np.sin(np.arange(int(48000 * seconds)) * 2 * np.pi * 440 / 48000)
    layout, kind = stream.codec_context.layout.name, stream.codec_context.format.name
    packets = []
    for start in range(0, len(samples), 1024):
        block = np.stack([samples[start : start + 1024]] * stream.codec_context.layout.nb_channels)
        if kind == "fltp":
            data = block.astype(np.float32)
        elif kind == "s16p":
            data = (block * 32767).astype(np.int16)
        else:
            data = (block * 32767).astype(np.int16).T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(data, format=kind, layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        packets += stream.encode(frame)
    return packets
