"""Where frames come from and where they go: files, image sequences, cameras, RTSP."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from ..clock import MONOTONIC, Clock
from ..errors import ConfigError
from ..frame import Sink, Source
from .tap import PacketTap

__all__ = ["open_sink", "open_source"]

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def open_source(
    url: str,
    *,
    sink_url: str | None = None,
    clock: Clock = MONOTONIC,
    rtsp_transport: str = "tcp",
    hwaccel: str = "none",
    tap: PacketTap | None = None,
) -> Source:
    """The source that ``url`` names; its ``open`` does the work, and raises SourceError.

    url: a file, ``frames/%05d.png``, ``rtsp://host/path``, ``camera:0`` or ``/dev/video0``.
    sink_url: where the pictures go. To an RTSP server a file goes at its own pace, as a live source.
    hwaccel: what decodes files and RTSP, see ``hardware.accelerator``. tap: of a file or an RTSP source.
    Raises ConfigError for anything else.
    """
    scheme = _scheme(url, "source")
    if scheme in ("rtsp", "rtsps"):
        from .rtsp import RtspSource

        return RtspSource(url, transport=rtsp_transport, hwaccel=hwaccel, tap=tap, clock=clock)
    if scheme is not None:
        raise ConfigError(f"a source is a file, rtsp:// or camera:0, got {scheme}://")
    from .camera import CameraSource, camera_device

    if camera_device(url) is not None:
        if hwaccel != "none":
            raise ConfigError(f"hwaccel is for files and rtsp://, got {url}")
        return CameraSource(url, clock=clock)
    from .file import FileSource

    paced = sink_url is not None and _scheme(sink_url, "output") in ("rtsp", "rtsps")
    return FileSource(url, clock=clock, paced=paced, hwaccel=hwaccel, tap=tap)


def open_sink(
    url: str,
    *,
    source_url: str | None = None,
    codec: str = "h264",
    crf: int | None = None,
    overwrite: bool = False,
    live: bool = False,
    sei: Callable[[int], str] | None = None,
) -> Sink:
    """The sink that ``url`` names; its ``open`` does the work, and raises SinkError.

    url: a ``.mp4``, ``.mov``, ``.mkv`` or ``.avi`` file, ``frames/%05d.png`` or ``rtsp://host/path``.
    source_url: where the pictures come from. If it is a file, a file output gets its audio, copied.
    sei: of an RTSP output, see ``RtspSink``.
    codec: "h264", "ffv1" (lossless, .mkv and .avi), or one of ``hardware.ENCODERS``. crf: of all but ffv1;
        None: the sink's default. live: a video file has to keep up, and may be larger for it.
    Raises ConfigError for anything else.
    """
    scheme = _scheme(url, "output")
    if scheme in ("rtsp", "rtsps"):
        from .rtsp_sink import RtspSink

        return RtspSink(url, codec=codec, crf=crf, sei=sei)
    if scheme is not None:
        raise ConfigError(f"an output is a file, frames/%05d.png or rtsp://, got {scheme}://")
    from .images import FORMATS, ImageSequenceSink

    if Path(url).suffix.lower() in FORMATS:
        if codec != "h264" or crf is not None:
            raise ConfigError("codec and crf are for video files, not for pictures")
        return ImageSequenceSink(url, overwrite=overwrite)
    from .file_sink import FileSink

    source_path = source_url if source_url is not None and os.path.isfile(source_url) else None
    return FileSink(url, source_path=source_path, codec=codec, crf=crf, overwrite=overwrite, live=live)


def _scheme(url: str, what: str) -> str | None:
    """The lower-case scheme of ``url``; None for a path."""
    if not url.strip():
        raise ConfigError(f"the {what} is empty: name a file or an rtsp:// address")
    found = SCHEME.match(url)
    return found[1].lower() if found else None
