"""Real-time enhancement of face video: live streams, files and arrays.

``import streamsr`` is light: torch, PyAV, aiortc and mediapipe load when a name that needs them is used.
"""

# General layout ("<-": may be imported by; nothing imports upward)
#
#   errors, clock, version <- frame, report <- channel, stats      the core types
#       <- io          where frames come from and go to            (av)
#       <- face        tracking, alignment, mask, composite        (numpy, mediapipe)
#       <- kernels <- model    the network, its guide and weights  (torch)
#   face, model <- pictures <- gpu                     a frame's px, by OpenCV or by the kernels
#   face, model, pictures <- aligner, memory <- session <- enhancer    Frame -> faces -> model -> composite
#   io, channel, stats <- pipeline    source -> enhancer -> sink
#   pipeline <- rtc    tracks inside a WebRTC call          (av, aiortc)
#       <- serve       WHIP, WHEP and the page                     (aiohttp)
#   all of these <- bench <- train;   <- demo, doctor;   all <- cli

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .enhancer import Enhancer
    from .errors import StreamSRError
    from .frame import Frame
    from .pipeline import Pipeline
    from .report import Certificate, FaceReport, FrameReport
    from .rtc import EnhancedTrack
    from .session import Session

__all__ = [
    "Certificate",
    "EnhancedTrack",
    "Enhancer",
    "FaceReport",
    "Frame",
    "FrameReport",
    "Pipeline",
    "Session",
    "StreamSRError",
    "__version__",
]

_HOME = {
    "Certificate": "report",
    "EnhancedTrack": "rtc",
    "Enhancer": "enhancer",
    "FaceReport": "report",
    "Frame": "frame",
    "FrameReport": "report",
    "Pipeline": "pipeline",
    "Session": "session",
    "StreamSRError": "errors",
}  # public name -> the module it lives in


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
