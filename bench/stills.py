"""Held-out aligned stills, and what a camera or a call would have given of them.

"clean": block average. "call": the face drifts by a px a frame inside a 320-px-wide picture, coded by
x264 at CRF 30; the last of five frames is cut out. "cctv": blur, block average, fresh sensor noise in
every frame, the same coding at CRF 33.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from streamsr.errors import ConfigError
from streamsr.face.alignment import TEMPLATE_PX, invert, rescale_template

from .clips import CRF, NOISY, Picture, add_noise, read_clip, reduce, write_clip

__all__ = ["aligned_stills", "central_ellipse", "coded_face", "photograph", "read_still", "template_matrix"]

# of the 512 template, px: brows to chin, cheek to cheek
ELLIPSE_CENTRE, ELLIPSE_RADII = (256.0, 300.0), (140.0, 180.0)

CALL_WIDTH_PX, CALL_HEIGHT_PX = 320, 240  # rate control overshoots on smaller pictures
CALL_FRAMES = 5


def aligned_stills(data: Path, split: str = "val") -> list[tuple[str, Path, int]]:
    """(name, path, side) of the stills of one split in ``data/faces.csv``. Raises ConfigError."""
    table = data / "faces.csv"
    if not table.is_file():
        raise ConfigError(f"no {table}: stills need faces.csv and faces/ in the data folder")
    with table.open(newline="") as lines:
        chosen = [line for line in csv.DictReader(lines) if line["split"] == split]
    if not chosen:
        raise ConfigError(f"{table} has no line with split {split}")
    return [(line["name"], data / "faces" / f"{line['name']}.webp", int(line["size"])) for line in chosen]


def read_still(path: Path, size: int) -> np.ndarray:
    """(size, size, 3) uint8 RGB, area-resized. Raises ConfigError."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise ConfigError(f"cannot read the still {path}")
    picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)


def photograph(truth: np.ndarray, condition: str, scale: int, seed: int) -> np.ndarray:
    """What the camera gives of a clean still (S, S, 3): (S / scale, S / scale, 3) uint8."""
    low = reduce(truth, condition, scale)
    if condition not in CRF:
        return low
    return coded_face(low, CRF[condition], np.random.default_rng(seed) if condition in NOISY else None)


def coded_face(
    face: np.ndarray, crf: int = CRF["call"], noise: np.random.Generator | None = None
) -> np.ndarray:
    """What a call's encoder leaves of a face: (n, n, 3) uint8 RGB, the same size.

    The face drifts one pixel a frame, so that the last picture is predicted from others, as nearly
    all pictures of a call are. It ends on a multiple of 8 px: the blocks of a whole frame begin there.
    noise: of a sensor in poor light, drawn anew for every frame; None: none.
    """
    side = face.shape[0]
    width = max(CALL_WIDTH_PX, side + side % 2 + 2 * CALL_FRAMES)
    height = max(CALL_HEIGHT_PX, side + side % 2)
    top = (height - side) // 2 // 8 * 8
    left = ((width - side) // 2 + CALL_FRAMES - 1) // 8 * 8 - (CALL_FRAMES - 1)
    spread = CALL_FRAMES + max(left, width - side - left)
    canvas = cv2.copyMakeBorder(face, top, height - side - top, spread, spread, cv2.BORDER_REPLICATE)

    def drifting() -> Iterator[Picture]:
        for k in range(CALL_FRAMES):
            x = spread - left - k  # where the view starts on the canvas; the face moves to the right
            view = np.ascontiguousarray(canvas[:, x : x + width])
            yield Picture(view if noise is None else add_noise(view, noise), k, Fraction(1, 25))

    memory = io.BytesIO()
    write_clip(memory, drifting(), Fraction(25), crf)
    memory.seek(0)
    *_, last = read_clip(memory)
    x = left + CALL_FRAMES - 1
    return np.ascontiguousarray(last.image[top : top + side, x : x + side])


def template_matrix(size: int) -> np.ndarray:
    """(2, 3) alignment of an aligned still of side ``size``: its px -> px of the 512 template."""
    return invert(rescale_template(np.eye(2, 3), size))


def central_ellipse(size: int) -> np.ndarray:
    """(size, size) float32, 1 over the face of the template."""
    y, x = (np.mgrid[:size, :size] + 0.5) * (TEMPLATE_PX / size) - 0.5
    u = (x - ELLIPSE_CENTRE[0]) / ELLIPSE_RADII[0]
    v = (y - ELLIPSE_CENTRE[1]) / ELLIPSE_RADII[1]
    return (u * u + v * v <= 1).astype(np.float32)
