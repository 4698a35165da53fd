"""The two recordings of a segment: packets as they came, and enhanced pictures as H264 with SEI.

Both are MP4 in fragments of one picture, so that a killed writer loses the last packet of each at most:
what was muxed before the newest packet is in the file. Times begin at 0; the sidecar has the true ones.
"""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
from av.codec.context import Flags
from av.video.frame import PictureType
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from ..frame import Colour, Frame
from ..io.colour import from_rgb, tag
from ..io.nal import Framing, with_sei

__all__ = ["EnhancedFile", "OriginalFile", "Stencil"]

FRAGMENTS = {"movflags": "frag_every_frame+empty_moov+default_base_moof", "flush_packets": "1"}
KEYFRAME_S = 2
MAX_TIMESCALE = 2**31 - 1


class Stencil:
    """What is kept of a source's stream, so that files of it can be made when it is long gone."""

    def __init__(self, stream: VideoStream) -> None:
        self._container = av.open(io.BytesIO(), "w", format="mp4")  # never begun
        self.stream = self._container.add_stream_from_template(stream, opaque=True)
        context = stream.codec_context
        self.codec = context.name
        self.framing = Framing(context.name, context.extradata)
        self.time_base = Fraction(stream.time_base or Fraction(1, 90_000))
        self.size_px = (context.width, context.height)


class OriginalFile:
    """The packets of one connection, as they are. Raises FFmpegError, OSError."""

    def __init__(self, path: Path, stencil: Stencil) -> None:
        self._time_base = stencil.time_base
        self._container = av.open(str(path), "w", format="mp4", options=_timescale(stencil.time_base))
        try:
            self._stream = self._container.add_stream_from_template(stencil.stream, opaque=True)
            self._container.start_encoding()
        except BaseException:  # whatever it was, no open file stays behind
            self._container.close()
            raise
        self.packets = 0
        self._shift: int | None = None
        self._dts: int | None = None

    def write(self, data: bytes, pts: int | None, dts: int | None, duration: int, keyframe: bool) -> int:
        """Append a packet; its number in the file, from 0. Times that no file can hold are mended."""
        packet = av.Packet(data)
        at = dts if dts is not None else pts if pts is not None else 0
        if self._shift is None:
            self._shift = -at
        at += self._shift
        at = at if self._dts is None else max(at, self._dts + 1)
        shown = at if pts is None else max(pts + self._shift, at)
        packet.dts, packet.pts, packet.duration = at, shown, max(0, duration)
        packet.time_base, packet.stream, packet.is_keyframe = self._time_base, self._stream, keyframe
        self._container.mux(packet)
        self._dts = at
        self.packets += 1
        return self.packets - 1

    def close(self) -> None:
        """May be called twice. Raises FFmpegError, OSError."""
        self._container.close()


class EnhancedFile:
    """Pictures as H264, each with its words as SEI. Raises FFmpegError, OSError.

    size_px: width, height of all pictures.
    """

    def __init__(
        self,
        path: Path,
        size_px: tuple[int, int],
        rate: Fraction,
        time_base: Fraction,
        colour: Colour,
        crf: int,
    ) -> None:
        self._time_base = Fraction(1, min(time_base.denominator, MAX_TIMESCALE))
        self._colour = colour
        self._container = av.open(str(path), "w", format="mp4", options=_timescale(self._time_base))
        options = {"preset": "veryfast", "tune": "zerolatency", "crf": str(crf), "forced-idr": "1"}
        try:
            stream = cast(VideoStream, self._container.add_stream("libx264", rate=rate, options=options))
            stream.width, stream.height = size_px
            even = size_px[0] % 2 == 0 and size_px[1] % 2 == 0
            self._pixel_format = stream.pix_fmt = "yuv420p" if even else "yuv444p"
            stream.time_base = self._time_base
            context: Any = stream.codec_context
            context.time_base = self._time_base
            context.thread_count = 1
            context.gop_size = max(1, round(KEYFRAME_S * rate))
            context.flags |= Flags.frame_duration
            tag(context, colour, self._pixel_format)
            self._container.start_encoding()
        except BaseException:  # whatever it was, no open file stays behind
            self._container.close()
            raise
        self._stream = stream
        self._reformatter = VideoReformatter()
        self._shift: int | None = None
        self._pts: int | None = None
        self.framing = Framing("h264", None)  # as the encoder gives them
        self.packets = 0

    def write(self, frame: Frame, text: str) -> list[bytes]:
        """Append a picture with ``text``; the packets as written, one where all is well."""
        picture = from_rgb(frame.image, self._colour, self._pixel_format, self._reformatter)
        pts = round(frame.pts * frame.time_base / self._time_base)
        if self._shift is None:
            self._shift = -pts
            picture.pict_type = PictureType.I
        pts += self._shift
        self._pts = pts if self._pts is None else max(pts, self._pts + 1)
        picture.pts, picture.time_base = self._pts, self._time_base
        picture.duration = round(frame.duration * frame.time_base / self._time_base)
        return [self._mux(packet, text) for packet in self._stream.encode(picture)]

    def close(self) -> None:
        """May be called twice. Raises FFmpegError, OSError."""
        self._container.close()

    def _mux(self, packet: av.Packet, text: str) -> bytes:
        data = with_sei(bytes(packet), text)
        marked = av.Packet(data)
        marked.pts, marked.dts, marked.duration = packet.pts, packet.dts, packet.duration
        marked.time_base, marked.is_keyframe = packet.time_base, packet.is_keyframe
        marked.stream = self._stream
        self._container.mux(marked)
        self.packets += 1
        return data


def _timescale(time_base: Fraction) -> dict[str, str]:
    return FRAGMENTS | {"video_track_timescale": str(min(time_base.denominator, MAX_TIMESCALE))}
