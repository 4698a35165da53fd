"""A stream's pictures: where its crops are cut and its output is put together. Here on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .face.background import Background
from .face.composite import Paste, covers, paste
from .face.mask import face_mask
from .face.steadiness import KEPT, Detailed, Seen, SteadyDetail
from .face.tracker import TrackedFace
from .frame import StreamInfo, check_image
from .model.crop import Crop, DeviceCrop
from .model.reading import Trace
from .report import Certificate

__all__ = ["Detail", "HostPictures", "Pictures", "Placed"]

Placed = tuple[np.ndarray, int]
"""Where a crop lies, as ``TrackedFace.matrix``, and its side S."""


@dataclass(frozen=True, slots=True)
class Detail:
    """A face's restored residual and how it is to be pasted. residual: as of ``Trace``, from the crop that
    these pictures cut. weight: of the effect, in [0, 1]."""

    face: TrackedFace
    size: int
    residual: Any
    weight: float
    gamma: float


class Pictures(Protocol):
    """The pixels of one stream, wherever they are. What ``take`` gives is opaque to everybody else.

    ``take`` and ``cut`` are called on one thread, ``steady`` and ``carry`` on one, ``composite`` on one; they
    may differ.
    """

    def take(self, image: Any) -> Any:
        """A frame's picture (H, W, 3) uint8 RGB, taken over. Raises FrameError for one that is none."""
        ...

    def seen(self, picture: Any) -> np.ndarray:
        """What was taken, for a tracker: (H, W, 3) uint8 RGB."""
        ...

    def cut(self, picture: Any, faces: Sequence[Placed]) -> Sequence[Crop | DeviceCrop]: ...

    def steady(self, before: Trace, now: Trace) -> Any:
        """The residual of ``now`` with its fine detail held steady against that of ``before``, an earlier
        frame of the same face and S; see ``face.steadiness``."""
        ...

    def carry(self, before: Trace, crop: Any) -> Any:
        """The residual of ``before``, an earlier frame of the same face and S, moved to where the face is in
        ``crop``, and 0 where it no longer fits."""
        ...

    def composite(
        self, picture: Any, details: Sequence[Detail], yuv420p: StreamInfo | None = None
    ) -> tuple[Any, Certificate]:
        """The output (scale H, scale W, 3): enlarged, with the restored detail pasted in; of the kind that
        ``take`` was given. And what was done to the camera's pixels.

        yuv420p: the output may as well be a ``Yuv420p``, if it is of this size; then in this colour.
        """
        ...


class HostPictures:
    """In numpy, by OpenCV. kept: see ``SteadyDetail``."""

    def __init__(self, scale: int, kept: float = KEPT) -> None:
        self._scale = scale
        self._background = Background(scale)
        self._steady = SteadyDetail(kept)

    def take(self, image: np.ndarray) -> np.ndarray:
        check_image(image, "frame")
        return image

    def seen(self, picture: np.ndarray) -> np.ndarray:
        return picture

    def cut(self, picture: np.ndarray, faces: Sequence[Placed]) -> list[Crop]:
        return [Crop.cut(picture, matrix, size) for matrix, size in faces]

    def steady(self, before: Trace, now: Trace) -> np.ndarray:
        return self._steady(_detailed(before), _detailed(now))

    def carry(self, before: Trace, crop: Crop) -> np.ndarray:
        return self._steady.carried(_detailed(before), Seen(crop.x_in, crop.y))

    def composite(
        self, picture: np.ndarray, details: Sequence[Detail], yuv420p: StreamInfo | None = None
    ) -> tuple[np.ndarray, Certificate]:
        """Always RGB: the sink converts it as fast, and on a thread of its own."""
        pastes = [_paste(detail) for detail in details]
        under = covers(pastes, picture, self._scale)
        out = self._background.enlarge(picture, under)
        before, after = paste(out, picture, pastes, self._scale, under)
        return out, Certificate(*before, *after)


def _detailed(trace: Trace) -> Detailed:
    return Detailed(trace.crop.x_in, trace.crop.y, trace.residual)


def _paste(detail: Detail) -> Paste:
    mask = face_mask(detail.face.landmarks, detail.face.matrix, detail.size) * detail.weight
    return Paste(detail.face.matrix, detail.residual, mask, detail.gamma)
