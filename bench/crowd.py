"""A camera before one person or many: copies of the packaged portrait in motion, each at a moment of its own.

The faces are as large as a size S of the network wants them, whatever the picture's size: what a benchmark
varies is one thing at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from streamsr.errors import ConfigError
from streamsr.io.synthetic import MotionSample

from .call_scene import place

__all__ = ["SIZES", "Crowd"]

SIZES = (256, 512)
OUTPUT_SIDE_PX = {256: 230.0, 512: 325.0}  # of a crop in the output frame, on average, by S
FACE_PX = 195.0  # the same in the sample
HEAD_PX = (slice(0, 250), slice(105, 355))  # of the sample: all of a head, wherever it moves
FRAMES = 75  # shown forth and back
APART = 11  # pictures between one person's moment and the next one's


@dataclass(frozen=True, slots=True)
class Crowd:
    """faces: how many. size: S that they are restored at. input_px: width, height. scale: of the output."""

    faces: int
    size: int
    input_px: tuple[int, int]
    scale: int

    def pictures(self) -> Iterator[np.ndarray]:
        """(height, width, 3) uint8 RGB, without end. Raises ConfigError if so many do not fit."""
        width, height = self.input_px
        side = round(HEAD_PX[0].stop * OUTPUT_SIDE_PX[self.size] / self.scale / FACE_PX)
        across, down = width // side, height // side
        if self.faces > across * down:
            raise ConfigError(
                f"{self.faces} faces of S = {self.size} do not fit into {width}x{height} at scale "
                f"{self.scale}, {across * down} do: use a larger input"
            )
        return self._drawn(side, across)

    def _drawn(self, side: int, across: int) -> Iterator[np.ndarray]:
        width, height = self.input_px
        sample = MotionSample(FRAMES)
        heads = [
            cv2.resize(sample.frame(k)[HEAD_PX], (side, side), interpolation=cv2.INTER_AREA)
            for k in range(FRAMES)
        ]
        room = cv2.GaussianBlur(cv2.resize(sample.frame(0), (640, 360)), (0, 0), 24)
        room = cv2.resize(room, self.input_px, interpolation=cv2.INTER_LINEAR)
        columns = min(self.faces, across)
        rows = -(-self.faces // columns)
        corner = (height - rows * side) // 2, (width - columns * side) // 2
        index = 0
        while True:
            picture = room.copy()
            for face in range(self.faces):
                top, left = (a + n * side for a, n in zip(corner, divmod(face, columns), strict=True))
                picture[top : top + side, left : left + side] = heads[place(index + APART * face, FRAMES)]
            yield picture
            index += 1
