"""What the call benchmark shows: a face in motion, 1280x720, and what a 640x360 camera makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np

from streamsr.errors import ConfigError
from streamsr.io.synthetic import MotionSample

from .call_clip import fitted
from .clips import read_clip

__all__ = ["CAMERA_PX", "RATE", "SCALE", "TRUTH_PX", "CallScene"]

TRUTH_PX = (1280, 720)
CAMERA_PX = (640, 360)
SCALE = 2
RATE = 25
FRAMES = 150  # shown forth and back


@dataclass(frozen=True, slots=True)
class CallScene:
    """clip: a video file, or None for the packaged sample before a blurred copy of itself."""

    clip: Path | None

    @classmethod
    def of(cls, data: Path | None) -> CallScene:
        """data: a folder with clips/scene_a.mp4, or None. Raises ConfigError."""
        if data is None:
            return cls(None)
        clip = data / "clips" / "scene_a.mp4"
        if not clip.is_file():
            raise ConfigError(f"no clip {clip}: --data must hold clips/")
        return cls(clip)

    @property
    def name(self) -> str:
        return "the packaged sample" if self.clip is None else self.clip.name

    def truth(self) -> Iterator[np.ndarray]:
        """(720, 1280, 3) uint8 RGB pictures, at most FRAMES. Raises SourceError."""
        if self.clip is not None:
            for picture in islice(read_clip(self.clip), FRAMES):
                yield fitted(picture.image, *TRUTH_PX)
            return
        sample = MotionSample(FRAMES)
        for index in range(FRAMES):
            portrait = sample.frame(index)
            small = cv2.resize(portrait, (TRUTH_PX[0] // 8, TRUTH_PX[1] // 8), interpolation=cv2.INTER_AREA)
            blurred = cv2.GaussianBlur(small, (0, 0), 3)
            canvas: np.ndarray = cv2.resize(blurred, TRUTH_PX, interpolation=cv2.INTER_CUBIC)
            top, left = (TRUTH_PX[1] - portrait.shape[0]) // 2, (TRUTH_PX[0] - portrait.shape[1]) // 2
            canvas[top : top + portrait.shape[0], left : left + portrait.shape[1]] = portrait
            yield canvas

    def camera(self) -> list[np.ndarray]:
        """(360, 640, 3) uint8: block averages of the truth."""
        return [cv2.resize(picture, CAMERA_PX, interpolation=cv2.INTER_AREA) for picture in self.truth()]


def place(index: int, frames: int) -> int:
    """Which of ``frames`` pictures is shown as the ``index``-th, forth and back without end."""
    within = index % (2 * (frames - 1))
    return within if within < frames else 2 * (frames - 1) - within
