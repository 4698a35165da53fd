"""Clips on disk: reading them, and making of a clean one what a camera or a call would have given."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, TypeVar

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from streamsr.errors import ConfigError, SourceError
from streamsr.frame import Colour
from streamsr.io.colour import from_rgb, tag, to_rgb

from .command import add_data, add_list
from .luma import area_down

__all__ = [
    "CLIPS",
    "COLOURED",
    "CONDITIONS",
    "CRF",
    "NOISY",
    "SCALES",
    "DegradedClip",
    "Picture",
    "add_clips",
    "add_noise",
    "chosen",
    "clean_pictures",
    "clip_path",
    "degrade",
    "read_clip",
    "reduce",
    "write_clip",
]

CLIPS = ("talk_a", "talk_b", "talk_c")
COLOURED = ("clean", "call", "cctv")
CONDITIONS = (*COLOURED, "infrared")
CRF = {"call": 30, "cctv": 33, "infrared": 33}
NOISY = {"cctv", "infrared"}
SCALES = (2, 4, 8)

CCTV_BLUR = 0.4  # sigma in camera px, before the reduction
CCTV_READ_NOISE = 3.0  # standard deviation at black, in 1/255
CCTV_SHOT_NOISE = 0.2  # variance grows by its square per grey level

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Picture:
    """image: (H, W, 3) uint8 RGB. pts in units of time_base."""

    image: np.ndarray
    pts: int
    time_base: Fraction


@dataclass(frozen=True, slots=True)
class DegradedClip:
    """camera: the file a camera would have given. width, height: of its clean pictures, in px."""

    clean: Path
    camera: Path
    condition: str
    scale: int
    frames: int
    width: int
    height: int

    def truths(self) -> Iterator[Picture]:
        """The clean pictures, as large as an output. Raises ConfigError, SourceError."""
        return clean_pictures(self.clean, self.scale, self.frames)

    def pairs(self) -> Iterator[tuple[Picture, Picture]]:
        """(clean, as the camera gave it), picture by picture. Raises ConfigError, SourceError."""
        return zip(self.truths(), read_clip(self.camera), strict=True)


def add_clips(words: argparse.ArgumentParser, *, scale: int, frames: int) -> None:
    """--data, and which clips of it: --clips, --conditions, --scale and --frames, of these defaults."""
    add_data(words, "clips/")
    add_list(words, "--clips", str, CLIPS, "names in DATA/clips, or paths")
    add_list(words, "--conditions", str, COLOURED, f"of {', '.join(CONDITIONS)}")
    words.add_argument("--scale", type=int, choices=SCALES, default=scale)
    words.add_argument("--frames", type=int, default=frames, help="of each clip")


def clip_path(data: Path, name: str) -> Path:
    """A clip by its name in ``data/clips``, or its path. Raises ConfigError."""
    path = Path(name) if Path(name).suffix else data / "clips" / f"{name}.mp4"
    if not path.is_file():
        raise ConfigError(f"no clip {path}: --data must hold clips/, and --clips names files in it")
    return path


def chosen(values: Sequence[T], name: str, known: Sequence[T]) -> Sequence[T]:
    """``values``, each one of ``known``: conditions, scales. Raises ConfigError with their ``name``."""
    if not set(values) <= set(known):
        wanted, got = (", ".join(map(str, each)) for each in (known, values))
        raise ConfigError(f"{name} must be of {wanted}, got {got}")
    return values


def read_clip(source: Path | IO[bytes], frames: int | None = None) -> Iterator[Picture]:
    """The pictures of a video file, at most ``frames``. Raises SourceError."""
    name = str(source) if isinstance(source, Path) else "<memory>"
    try:
        container = av.open(name if isinstance(source, Path) else source, "r")
    except (OSError, av.FFmpegError) as error:
        raise SourceError(f"cannot open the clip {name}: {error}", name) from error
    with container:
        if not container.streams.video:
            raise SourceError(f"no video in {name}", name)
        reformatter = VideoReformatter()
        for index, frame in enumerate(container.decode(video=0)):
            if index == frames:
                return
            assert frame.pts is not None and frame.time_base is not None  # containers give both
            yield Picture(to_rgb(frame, reformatter), frame.pts, frame.time_base)


def write_clip(
    target: Path | IO[bytes], pictures: Iterable[Picture], rate: Fraction, crf: int | None = None
) -> int:
    """Write a Matroska file: lossless RGB (FFV1) or, with ``crf``, as calls do (x264, zerolatency).

    Sides must be even with ``crf`` (4:2:0). Returns how many pictures were written.
    """
    pixel_format = "bgr0" if crf is None else "yuv420p"
    colour, reformatter = Colour(), VideoReformatter()
    written = 0
    with av.open(str(target) if isinstance(target, Path) else target, "w", format="matroska") as container:
        stream: Any = None
        for picture in pictures:
            height, width = picture.image.shape[:2]
            if stream is None:
                stream = container.add_stream("ffv1" if crf is None else "libx264", rate=rate)
                stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
                stream.codec_context.time_base = picture.time_base
                tag(stream.codec_context, colour, pixel_format)
                if crf is not None:
                    stream.options = {"preset": "veryfast", "tune": "zerolatency", "crf": str(crf)}
                    stream.codec_context.thread_count = 1  # slices depend on the thread count
            frame = from_rgb(picture.image, colour, pixel_format, reformatter)
            frame.pts, frame.time_base = picture.pts, picture.time_base
            container.mux(stream.encode(frame))
            written += 1
        if stream is not None:
            container.mux(stream.encode(None))
    return written


def clean_pictures(clip: Path, scale: int, frames: int | None = None) -> Iterator[Picture]:
    """The truth: the clip's pictures, cropped to multiples of 2 ``scale`` (4:2:0 needs even sides)."""
    unit = 2 * scale
    for picture in read_clip(clip, frames):
        height, width = (side // unit * unit for side in picture.image.shape[:2])
        if not height or not width:
            raise ConfigError(f"{clip.name} must be at least {unit} px a side, got {picture.image.shape[:2]}")
        cropped = np.ascontiguousarray(picture.image[:height, :width])
        yield Picture(cropped, picture.pts, picture.time_base)


def degrade(
    clip: Path, condition: str, scale: int, folder: Path, frames: int | None = None, seed: int = 0
) -> DegradedClip:
    """Make the camera's file of a clean clip in ``folder``; times are kept to the millisecond.

    "clean": block average by ``scale``, stored losslessly. "call": the same, x264 veryfast
    zerolatency at CRF 30. "cctv": blur, block average, sensor noise, CRF 33. "infrared": that in grey.
    Raises ConfigError, SourceError.
    """
    if condition not in CONDITIONS:
        raise ConfigError(f"condition must be one of {', '.join(CONDITIONS)}, got {condition}")
    if scale not in SCALES:
        raise ConfigError(f"scale must be one of {SCALES}, got {scale}")
    rng = np.random.default_rng(seed)
    size = (0, 0)

    def camera_pictures() -> Iterator[Picture]:
        nonlocal size
        for picture in clean_pictures(clip, scale, frames):
            size = (picture.image.shape[0], picture.image.shape[1])
            low = reduce(picture.image, condition, scale)
            low = add_noise(low, rng) if condition in NOISY else low
            yield Picture(low, picture.pts, picture.time_base)

    camera = folder / f"{clip.stem}_{condition}_x{scale}.mkv"
    count = write_clip(camera, camera_pictures(), clip_rate(clip), CRF.get(condition))
    if not count:
        raise SourceError(f"no pictures in {clip}", str(clip))
    return DegradedClip(clip, camera, condition, scale, count, width=size[1], height=size[0])


def clip_rate(clip: Path) -> Fraction:
    """Nominal frame rate of a video file. Raises SourceError."""
    try:
        with av.open(str(clip)) as container:
            rate = container.streams.video[0].average_rate
    except (OSError, IndexError, av.FFmpegError) as error:
        raise SourceError(f"cannot open the clip {clip}: {error}", str(clip)) from error
    return rate or Fraction(30)


def reduce(image: np.ndarray, condition: str, scale: int) -> np.ndarray:
    """What a sensor gets of a clean picture (H, W, 3) uint8, ``scale`` times smaller; no noise yet."""
    if condition == "infrared":
        image = cv2.merge([cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)] * 3)
    if condition in NOISY:
        image = cv2.GaussianBlur(image, (0, 0), CCTV_BLUR * scale)
    return area_down(image, scale)


def add_noise(low: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The noise of a camera in poor light: read noise, and shot noise that grows with the signal. A picture
    without colour gets none."""
    signal = low.astype(np.float32)
    grey = bool((low == low[..., :1]).all())
    shape = (*low.shape[:2], 1 if grey else 3)
    sigma = np.sqrt(CCTV_READ_NOISE**2 + CCTV_SHOT_NOISE**2 * signal)
    signal += sigma * rng.standard_normal(shape, dtype=np.float32)
    return np.rint(signal).clip(0, 255).astype(np.uint8)
