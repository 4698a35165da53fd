"""Pictures for eyes rather than figures: the same face by every method side by side, and over time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from streamsr.errors import ConfigError

__all__ = ["Profiles", "Sheet"]

TILE_PX = 320
CAPTION_PX = 22
EYES_SHARE = 0.36  # of a face's height, from above


class Sheet:
    """Rows of equal tiles, each with its caption."""

    def __init__(self) -> None:
        self._rows: list[np.ndarray] = []

    def add(self, label: str, pictures: Mapping[str, np.ndarray]) -> None:
        """pictures: by method, (h, w, 3) uint8 RGB, all of one size; the first carries ``label`` too."""
        tiles = []
        for index, (name, picture) in enumerate(pictures.items()):
            height, width = picture.shape[:2]
            ratio = TILE_PX / max(height, width)
            size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
            method = cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC
            tile = np.zeros((TILE_PX + CAPTION_PX, TILE_PX, 3), np.uint8)
            resized = cv2.resize(picture, size, interpolation=method)
            tile[CAPTION_PX : CAPTION_PX + size[1], : size[0]] = resized
            caption = f"{label}: {name}" if index == 0 else name
            where = (4, CAPTION_PX - 7)
            cv2.putText(tile, caption, where, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255,) * 3, 1, cv2.LINE_AA)
            tiles.append(tile)
        self._rows.append(np.hstack(tiles))

    def save(self, path: Path) -> None:
        """Write as PNG, or whatever the name says. Raises ConfigError, also where there is nothing."""
        if not self._rows:
            raise ConfigError(f"no face to show in {path}")
        width = max(row.shape[1] for row in self._rows)
        padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in self._rows]
        picture = cv2.cvtColor(np.vstack(padded), cv2.COLOR_RGB2BGR)
        try:
            written = cv2.imwrite(str(path), picture)
        except cv2.error as error:
            raise ConfigError(f"cannot write the sheet {path}: {error.err}") from error
        if not written:
            raise ConfigError(f"cannot write the sheet {path}")


class Profiles:
    """Temporal profiles: one row of pixels across the face, the frames one below another.

    What is steady draws smooth lines; flicker is seen as noise from line to line.
    """

    def __init__(self) -> None:
        self._lines: dict[str, dict[str, list[np.ndarray]]] = {}
        self._where: dict[str, tuple[int, slice]] = {}

    def add(self, label: str, pictures: Mapping[str, np.ndarray], box: tuple[slice, slice]) -> None:
        """The next frame of a clip, by method. box: of the face; that of the first frame counts."""
        if label not in self._where:
            self._where[label] = (round(box[0].start + EYES_SHARE * (box[0].stop - box[0].start)), box[1])
        row, columns = self._where[label]
        lines = self._lines.setdefault(label, {})
        for name, picture in pictures.items():
            lines.setdefault(name, []).append(picture[row, columns])

    def save(self, path: Path) -> None:
        """Write as PNG, or whatever the name says. Raises ConfigError."""
        sheet = Sheet()
        for label, lines in self._lines.items():
            tiles = {}
            for name, rows in lines.items():
                picture = np.stack(rows)
                taller = max(1, round(picture.shape[1] / len(picture)))  # as high as wide
                tiles[name] = picture.repeat(taller, axis=0)
            sheet.add(label, tiles)
        sheet.save(path)
