"""A video file, written under a hidden name and given its own when it is complete."""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
from av.codec.context import Flags
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from ..errors import ConfigError, SinkError, SourceError
from ..frame import Frame, StreamInfo, check_picture
from .audio import AudioCopy
from .colour import encodable, tag
from .fragments import is_complete
from .hardware import ENCODERS as HARDWARE
from .hardware import encoder_options, encoding_fails
from .x264 import live_options

__all__ = ["FileSink"]

# suffix -> FFmpeg's format, the codecs that players expect in it
CONTAINERS: dict[str, tuple[str, tuple[str, ...]]] = {
    ".mp4": ("mp4", ("h264", *HARDWARE)),
    ".m4v": ("mp4", ("h264", *HARDWARE)),
    ".mov": ("mov", ("h264", *HARDWARE)),
    ".mkv": ("matroska", ("h264", "ffv1", *HARDWARE)),
    ".avi": ("avi", ("h264", "ffv1")),
}
ENCODERS = {"h264": "libx264", "ffv1": "ffv1", **{name: name for name in HARDWARE}}
DEFAULT_CRF = 18
MAX_TIMESCALE = 2**31 - 1  # of an MP4 file
FRAGMENTED = "frag_keyframe+empty_moov+default_base_moof"


@dataclass(slots=True)
class _Output:
    """What is open between ``open`` and ``close``."""

    info: StreamInfo
    partial: Path
    container: av.container.OutputContainer
    stream: VideoStream
    pixel_format: str
    time_base: Fraction
    audio: AudioCopy | None
    shift: int | None = None  # added to every pts, in time_base; known with the first frame
    last_pts: int | None = None
    keyframe_pts: int | None = None  # the last one that a fragment asked for


class FileSink:
    """Writes ``.mp4``, ``.m4v``, ``.mov``, ``.mkv`` or ``.avi``.

    codec: "h264" (x264 veryfast, without B-frames), "ffv1" (lossless RGB, .mkv and .avi only), or a GPU's
        "h264_nvenc" or "hevc_nvenc", where it works (not in .avi).
    crf: 0 (lossless but for the colour conversion) to 51, not of ffv1; None: 18.
    source_path: a file whose audio streams are copied, packet by packet, in step with the pictures.
    overwrite: replace an existing file; without it that is an error in ``open``.
    fragment_s: MP4 and MOV in fragments of so many seconds, each from a keyframe on. Of such a file ``abort``
        and a kill leave the hidden partial file behind, for ``streamsr.io.fragments.salvage``.
    threads: of the encoder. live: it has to keep up, and holds no picture back; see ``x264.live_options``.

    h264 is yuv420p, and yuv444p where a side is odd: the size is never changed. Pictures are
    converted with the stream's colour (matrix and range) and tagged with it; ffv1 holds RGB, which
    has primaries and a transfer but neither matrix nor range.

    Times: MP4 and MOV keep every pts exactly. Matroska counts in ms, so pts are rounded to that; AVI
    counts frames, so it refuses a variable rate. A stream that starts before 0 is moved to
    start at 0, its audio with it.
    """

    def __init__(
        self,
        path: str,
        *,
        source_path: str | None = None,
        codec: str = "h264",
        crf: int | None = None,
        overwrite: bool = False,
        fragment_s: float | None = None,
        threads: int = 2,
        live: bool = False,
    ) -> None:
        self.url = path
        suffix = Path(path).suffix.lower()
        if suffix not in CONTAINERS:
            known = ", ".join(CONTAINERS)
            raise ConfigError(f"the output must end in {known} or be frames/%05d.png, got {path!r}")
        if codec not in ENCODERS:
            raise ConfigError(f"codec must be one of {', '.join(ENCODERS)}, got {codec!r}")
        self._format, codecs = CONTAINERS[suffix]
        if codec not in codecs:
            raise ConfigError(f"{suffix} cannot hold {codec}: write an .mkv file")
        if crf is not None and (codec == "ffv1" or not 0 <= crf <= 51):
            raise ConfigError(f"crf must be 0 to 51 and is for h264, got {crf} for {codec}")
        if codec in HARDWARE and (reason := encoding_fails(codec)):
            raise ConfigError(f"codec {codec} does not work here: {reason}")
        if fragment_s is not None and (self._format not in ("mp4", "mov") or fragment_s <= 0):
            raise ConfigError(f"fragment_s must be above 0 and is for MP4, got {fragment_s} for {suffix}")
        self.warnings: list[str] = []
        self._path = Path(path)
        self._source_path = source_path
        self._codec = codec
        self._crf = DEFAULT_CRF if crf is None else crf
        self._overwrite = overwrite
        self._fragment_s = fragment_s
        self._threads = threads
        self._live = live
        self._reformatter = VideoReformatter()
        self._output: _Output | None = None

    @property
    def takes_yuv420p(self) -> bool:
        return self._output is not None and self._output.pixel_format == "yuv420p"

    def open(self, info: StreamInfo) -> None:
        """Raises SinkError: exists, cannot be written, is the source, cannot hold its audio."""
        # not all of a long name: a file name may have 255 bytes
        partial = self._path.with_name(f".{self._path.name[:40]}.{secrets.token_hex(4)}.partial")
        audio = None
        try:
            self._check_path()
            # made here first, for the operating system's own words where it cannot be
            os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            container, stream, pixel_format, time_base = self._add_video(partial, info)
            if self._source_path is not None:
                audio = AudioCopy(self._source_path)
                audio.add_to(container, self.url)
            container.start_encoding()
        except (OSError, av.FFmpegError, SinkError, SourceError) as error:
            partial.unlink(missing_ok=True)
            if audio is not None:
                audio.close()
            if isinstance(error, SinkError | SourceError):
                raise
            raise self._error(error) from None
        self._output = _Output(info, partial, container, stream, pixel_format, time_base, audio)

    def write(self, frame: Frame) -> None:
        """Raises SinkError, after removing what was written."""
        output = self._require_open()
        info = output.info
        check_picture(frame.image)
        if (frame.width, frame.height) != (info.width, info.height):
            self.abort()
            raise SinkError(
                f"pictures must be {info.width}x{info.height}, got {frame.width}x{frame.height}", self.url
            )
        pts = round(frame.pts * frame.time_base / output.time_base)
        if output.shift is None:
            output.shift = max(0, -pts)
        pts += output.shift
        if output.last_pts is not None and pts <= output.last_pts:
            self.abort()
            hint = ": AVI holds no variable frame rate, write an .mkv file" if self._format == "avi" else ""
            raise SinkError(f"pts must increase, got {pts} after {output.last_pts}{hint}", self.url)
        output.last_pts = pts
        picture = encodable(frame.image, info.colour, output.pixel_format, self._reformatter)
        picture.pts, picture.time_base = pts, output.time_base
        picture.duration = round(frame.duration * frame.time_base / output.time_base)
        if self._fragment_s is not None and (
            output.keyframe_pts is None or (pts - output.keyframe_pts) * output.time_base >= self._fragment_s
        ):
            output.keyframe_pts = pts
            picture.pict_type = PictureType.I
        try:
            self._mux(output, output.stream.encode(picture))
        except (av.FFmpegError, OSError) as error:
            self.abort()
            raise self._error(error) from None

    def close(self) -> None:
        """Raises SinkError if the file could not be completed; nothing of it stays then."""
        output = self._output
        if output is None:
            return
        if output.last_pts is None:
            self.abort()
            raise SinkError(f"{self.url} was not written: there were no frames", self.url)
        try:
            self._mux(output, output.stream.encode(None))
            if output.audio is not None:
                output.audio.copy_until(output.container, None, _shift_s(output))
                if output.audio.cut:
                    self.warnings.append(f"the audio of {self._source_path} is cut off: {output.audio.cut}")
            output.container.close()
            if self._fragment_s is not None and not is_complete(output.partial):
                raise SinkError(f"cannot write {self.url}: it was cut short", self.url)  # FFmpeg keeps quiet
            _flush_to_disk(output.partial)
            self._check_path()
            os.replace(output.partial, self._path)
        except (av.FFmpegError, OSError) as error:
            self.abort()
            raise self._error(error) from None
        except SinkError:
            self.abort()
            raise
        self._release(output)

    def abort(self) -> None:
        output = self._output
        if output is None:
            return
        # it is being thrown away; a full disk cannot take its trailer either
        with contextlib.suppress(av.FFmpegError, OSError):
            output.container.close()
        if self._fragment_s is None:
            output.partial.unlink(missing_ok=True)
        self._release(output)

    def _add_video(
        self, partial: Path, info: StreamInfo
    ) -> tuple[av.container.OutputContainer, VideoStream, str, Fraction]:
        time_base = Fraction(1, info.time_base.denominator)  # every pts of time_base is one of it
        options: dict[str, str] = {}
        if self._format in ("mp4", "mov"):
            if time_base.denominator > MAX_TIMESCALE:
                time_base = Fraction(1, 1_000_000)
            # Without these a short or late start would be rounded to the muxer's own units.
            scale = str(time_base.denominator)
            options = {"video_track_timescale": scale, "movie_timescale": scale}
            if self._fragment_s is not None:
                options |= {"movflags": FRAGMENTED, "flush_packets": "1"}
        elif self._format == "matroska":
            time_base = Fraction(1, 1000)
            # The encoder delay of copied AAC stands before 0: that must not move the pictures.
            options = {"avoid_negative_ts": "disabled"}
        else:
            time_base = 1 / info.rate
        container = av.open(str(partial), "w", format=self._format, container_options=options)
        stream = cast(VideoStream, container.add_stream(ENCODERS[self._codec], rate=info.rate))
        stream.width, stream.height = info.width, info.height
        if self._codec == "ffv1":
            pixel_format = "bgr0"
        else:
            even = info.width % 2 == 0 and info.height % 2 == 0
            pixel_format = "yuv420p" if even else "yuv444p"
            # B-frames would need a dts below the first pts, which Matroska answers by moving all pts
            speed = live_options() if self._live else {"preset": "veryfast"}
            stream.options = {**speed, "crf": str(self._crf), "bf": "0"}
            if self._fragment_s is not None:
                stream.options |= {"forced-idr": "1", "sc_threshold": "0"}
            if self._codec in HARDWARE:
                stream.options = {**encoder_options(self._crf, None, live=self._live)}
        stream.pix_fmt = pixel_format
        stream.time_base = time_base
        context = stream.codec_context
        context.time_base = time_base
        context.thread_count = self._threads
        context.flags |= Flags.frame_duration
        tag(context, info.colour, pixel_format)
        return container, stream, pixel_format, time_base

    def _mux(self, output: _Output, packets: list[av.Packet]) -> None:
        for packet in packets:
            if output.audio is not None and packet.dts is not None:
                time_s = packet.dts * (packet.time_base or output.time_base)
                output.audio.copy_until(output.container, time_s, _shift_s(output))
            output.container.mux(packet)

    def _check_path(self) -> None:
        if self._path.is_dir():
            raise SinkError(f"{self.url} is a directory: name a file in it", self.url)
        if not self._path.parent.is_dir():
            raise SinkError(f"no such directory: {self._path.parent}", self.url)
        if not self._path.exists():
            return
        source = self._source_path
        if source is not None and os.path.exists(source) and self._path.samefile(source):
            raise SinkError(f"{self.url} is the source itself: name another output", self.url)
        if not self._overwrite:
            raise SinkError(f"{self.url} exists: use --overwrite or another name", self.url)

    def _require_open(self) -> _Output:
        if self._output is None:
            raise SinkError(f"{self.url} is not open", self.url)
        return self._output

    def _release(self, output: _Output) -> None:
        self._output = None
        if output.audio is not None:
            output.audio.close()

    def _error(self, error: Exception) -> SinkError:
        reason = getattr(error, "strerror", None) or error
        return SinkError(f"cannot write {self.url}: {reason}", self.url)


def _shift_s(output: _Output) -> Fraction:
    return (output.shift or 0) * output.time_base


def _flush_to_disk(path: Path) -> None:
    """Some file systems tell of a full disk only here."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
