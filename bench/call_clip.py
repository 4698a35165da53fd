"""The input of the speed benchmarks: real faces in motion in a 640x360 call."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import count
from pathlib import Path

import cv2
import numpy as np

from streamsr.errors import ConfigError

from .clips import Picture, read_clip, write_clip

__all__ = ["CALL_PX", "call_pictures", "fitted", "write_call_clip"]

CALL_PX = (640, 360)
RATE = Fraction(25)
CRF = 23
ONE = ("scene_a",)  # at 640x360 its face box is about 115 px wide
FOUR = ("talk_a", "talk_b", "talk_c", "scene_a")  # two by two; faces 60 to 95 px wide


def write_call_clip(data: Path, target: Path, faces: int, frames: int) -> int:
    """Write ``frames`` pictures at 25 fps, x264 zerolatency CRF 23; fewer where a clip ends before.

    data: folder with ``clips/``. faces: 1 (a room and a speaker) or 4 (a grid of four). Returns how
    many were written. Raises ConfigError, SourceError.
    """
    names = {1: ONE, 4: FOUR}.get(faces)
    if names is None:
        raise ConfigError(f"faces must be 1 or 4, got {faces}")
    paths = [data / "clips" / f"{name}.mp4" for name in names]
    for path in paths:
        if not path.is_file():
            raise ConfigError(f"no clip {path}: --data must hold clips/")
    return write_clip(target, call_pictures(paths, frames), RATE, CRF)


def call_pictures(paths: list[Path], frames: int) -> Iterator[Picture]:
    """(360, 640, 3) pictures: one clip fills the picture, several share it in a grid of two columns."""
    columns = 1 if len(paths) == 1 else 2
    rows = -(-len(paths) // columns)
    tile_px = (CALL_PX[0] // columns, CALL_PX[1] // rows)
    sources = [read_clip(path, frames) for path in paths]
    for pts in count():
        pictures = [next(source, None) for source in sources]
        canvas = np.zeros((CALL_PX[1], CALL_PX[0], 3), np.uint8)
        for index, picture in enumerate(pictures):
            if picture is None:
                return
            x, y = index % columns * tile_px[0], index // columns * tile_px[1]
            canvas[y : y + tile_px[1], x : x + tile_px[0]] = fitted(picture.image, *tile_px)
        yield Picture(canvas, pts, 1 / RATE)


def fitted(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """``image`` as high as the tile, before a blurred copy of itself where it is not as wide."""
    inner = min(width, round(image.shape[1] * height / image.shape[0]))
    middle = cv2.resize(image, (inner, height), interpolation=cv2.INTER_AREA)
    if inner == width:
        return middle
    tile = cv2.GaussianBlur(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), (0, 0), 12)
    left = (width - inner) // 2
    tile[:, left : left + inner] = middle
    return tile
