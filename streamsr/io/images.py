"""Image sequences: ``frames/%05d.png``. Reading them is ``FileSource``'s; writing is here."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import cast

import av
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter

from ..errors import ConfigError, SinkError
from ..frame import Colour, Frame, Matrix, Range, StreamInfo, check_image
from .colour import from_rgb, tag

__all__ = ["ImageSequenceSink", "is_sequence", "sequence_numbers"]

NUMBER = re.compile(r"%(0\d+)?d")
# suffix -> encoder, pixel format, options. JPEG is JFIF: BT.601, full range, always.
FORMATS: dict[str, tuple[str, str, dict[str, str]]] = {
    ".png": ("png", "rgb24", {}),
    ".jpg": ("mjpeg", "yuvj444p", {"qmin": "2", "qmax": "2", "huffman": "default"}),
    ".jpeg": ("mjpeg", "yuvj444p", {"qmin": "2", "qmax": "2", "huffman": "default"}),
    ".webp": ("libwebp", "bgra", {"quality": "95"}),
}
JFIF = Colour(Matrix.BT601, Range.FULL)


def is_sequence(path: str) -> bool:
    """Whether ``path`` names pictures by one number, such as ``frames/%05d.png``."""
    name = os.path.basename(path)
    return Path(path).suffix.lower() in FORMATS and len(NUMBER.findall(name)) == 1 and name.count("%") == 1


def sequence_numbers(pattern: str) -> list[int]:
    """The numbers of the pictures there are, ascending; empty if there are none."""
    folder, name = os.path.split(pattern)
    match = NUMBER.search(name)
    if match is None or not os.path.isdir(folder or "."):
        return []
    there = re.compile(re.escape(name[: match.start()]) + r"(\d+)" + re.escape(name[match.end() :]))
    numbers = (int(found[1]) for found in map(there.fullmatch, os.listdir(folder or ".")) if found)
    return sorted(number for number in numbers if os.path.exists(pattern % number))


class ImageSequenceSink:
    """One picture per frame, numbered from 1 without gaps: .png (lossless), .jpg or .webp.

    pattern: a path with one ``%d`` or ``%05d`` in its last part; the folder is made.
    overwrite: without it any picture that the pattern names is an error in ``open``; with it the
        sequence is replaced: what an older, longer one had more of is removed by ``close``.

    Each file appears whole, under its name, or not at all. ``abort`` removes what this run wrote.
    Times are not kept: pictures have none.
    """

    def __init__(self, pattern: str, *, overwrite: bool = False) -> None:
        self.url = pattern
        if Path(pattern).suffix.lower() not in FORMATS:
            raise ConfigError(f"pictures must be {', '.join(FORMATS)}, got {pattern!r}")
        if not is_sequence(pattern):
            raise ConfigError(f"{pattern!r} must hold one number such as %05d: frames/%05d.png")
        self._overwrite = overwrite
        self._folder = Path(pattern).parent
        self._codec, self._pixel_format, self._options = FORMATS[Path(pattern).suffix.lower()]
        self._context: VideoCodecContext | None = None
        self._reformatter = VideoReformatter()
        self._info: StreamInfo | None = None
        self._made_folders: list[Path] = []
        self._written = 0

    def open(self, info: StreamInfo) -> None:
        """Raises SinkError: pictures exist already; the folder cannot be made or written."""
        there = sequence_numbers(self.url)
        if there and not self._overwrite:
            raise SinkError(f"{self.url % there[0]} exists: use --overwrite or another name", self.url)
        try:
            missing = [folder for folder in (self._folder, *self._folder.parents) if not folder.exists()]
            self._folder.mkdir(parents=True, exist_ok=True)
            self._made_folders = missing
        except OSError as error:
            raise SinkError(f"cannot make the folder {self._folder}: {error.strerror}", self.url) from None
        if not os.access(self._folder, os.W_OK | os.X_OK):
            raise SinkError(f"cannot write in {self._folder}: Permission denied", self.url)
        self._info = info
        self._written = 0

    def write(self, frame: Frame) -> None:
        """Raises SinkError, after removing what was written."""
        if self._info is None:
            raise SinkError(f"{self.url} is not open", self.url)
        check_image(frame.image)
        name = self.url % (self._written + 1)
        partial = self._folder / f".{Path(name).name}.{secrets.token_hex(4)}.partial"
        try:
            partial.write_bytes(self._encode(frame))
            os.replace(partial, name)
        except (OSError, av.FFmpegError) as error:
            partial.unlink(missing_ok=True)
            self.abort()
            reason = getattr(error, "strerror", None) or error
            raise SinkError(f"cannot write {name}: {reason}", self.url) from None
        self._written += 1

    def close(self) -> None:
        if self._info is None:
            return
        self._info = self._context = None
        for number in sequence_numbers(self.url):
            if number > self._written or number < 1:
                Path(self.url % number).unlink(missing_ok=True)
        self._written, self._made_folders = 0, []  # finished: nothing is left to abort

    def abort(self) -> None:
        self._info = self._context = None
        for number in range(1, self._written + 1):
            Path(self.url % number).unlink(missing_ok=True)
        self._written = 0
        for folder in self._made_folders:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        self._made_folders = []

    def _encode(self, frame: Frame) -> bytes:
        assert self._info is not None
        height, width = frame.image.shape[:2]
        if (width, height) != (self._info.width, self._info.height):
            expected = f"{self._info.width}x{self._info.height}"
            raise SinkError(f"pictures must be {expected}, got {width}x{height}", self.url)
        colour = JFIF if self._codec == "mjpeg" else self._info.colour
        context = self._context
        if context is None:
            context = cast(VideoCodecContext, av.CodecContext.create(self._codec, "w"))
            context.width, context.height, context.pix_fmt = width, height, self._pixel_format
            context.time_base = frame.time_base
            context.options = dict(self._options)
            context.thread_count = 1  # frame threads would hand pictures out late
            tag(context, colour, self._pixel_format)
            self._context = context
        picture = from_rgb(frame.image, colour, self._pixel_format, self._reformatter)
        picture.pts, picture.time_base = frame.index, frame.time_base
        return b"".join(bytes(packet) for packet in context.encode(picture))
