"""The enhancer of a camera's process: everything but the network, which is in the model process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..aligner import Tracked
from ..clock import MONOTONIC, Clock
from ..face.tracker import MediaPipeTracker, Tracker
from ..frame import Frame
from ..machine import give_way
from ..report import FrameReport
from ..session import DEFAULT_FIDELITY, Restored, Session
from .region import RegionTracker
from .remote_restorer import RemoteRestorer
from .snapshots import Box

__all__ = ["CameraEnhancer"]

Show = Callable[[np.ndarray, np.ndarray, Sequence[Box]], None]


class CameraEnhancer:
    """``stages.Enhancer`` for one stream.

    roi_px: see ``RegionTracker``; None: the whole picture. show: called with each picture before and after
    and where its faces are, on the compositing thread. Where nobody is in the picture, faces are looked for
    when something moves.
    """

    def __init__(
        self, restorer: RemoteRestorer, *, roi_px: tuple[int, int, int, int] | None, show: Show
    ) -> None:
        self._restorer, self._roi_px, self._show = restorer, roi_px, show

    engine: str | None = None  # the model process's own affair
    warnings: Sequence[str] = ()

    @property
    def device(self) -> str:
        return self._restorer.device_type

    @property
    def model_sha256(self) -> str | None:
        """None before the model process was first there."""
        return self._restorer.sha256

    def session(
        self,
        *,
        scale: int,
        fidelity: float | None = None,
        steps: Any = None,
        seed: int | None = None,
        clock: Clock = MONOTONIC,
    ) -> Session:
        tracker: Tracker = MediaPipeTracker(on_motion=True)
        if self._roi_px is not None:
            tracker = RegionTracker(tracker, self._roi_px)
        return _ShownSession(
            self._restorer,
            self._show,
            scale=scale,
            fidelity=DEFAULT_FIDELITY if fidelity is None else fidelity,
            steps="auto" if steps is None else steps,
            seed=seed or 0,
            tracker=tracker,
            clock=clock,
        )


class _ShownSession(Session):
    """Tracking and compositing give way to the model and to decoding: where all cameras want more than there
    is, frames are dropped before work is spent on them, and none is decoded late."""

    def __init__(self, restorer: RemoteRestorer, show: Show, **options: Any) -> None:
        super().__init__(restorer, **options)
        self._show = show

    def track(self, frame: Frame) -> Tracked:
        give_way()
        return super().track(frame)

    def composite(self, restored: Restored) -> tuple[Frame, FrameReport]:
        give_way()
        out, report = super().composite(restored)
        self._show(restored.frame.image, out.image, [face.roi_px for face in report.faces])
        return out, report
