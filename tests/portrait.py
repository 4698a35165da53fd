"""NASA's astronaut as a data folder: aligned stills, random features, and a clip in which she sways."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from helpers import write_squeezenet
from media import moving_portrait, write_video

from streamsr.face.alignment import crop_aligned
from streamsr.face.tracker import MediaPipeTracker


@cache
def aligned_portrait() -> np.ndarray:
    """(512, 512, 3) uint8 RGB: her face on the template, enlarged."""
    picture = np.ascontiguousarray(skimage.data.astronaut())
    tracker = MediaPipeTracker()
    (face,) = tracker.track(picture, 0.0)
    tracker.close()
    return crop_aligned(picture, face.matrix, 512)


def write_portrait_data(data: Path, validation: Sequence[str] = ("val_38", "val_39")) -> Path:
    """``faces.csv`` of 38 training stills and those of validation, ``faces/``, ``peers/`` and ``clips/``."""
    (data / "faces").mkdir(parents=True)
    (data / "clips").mkdir()
    write_squeezenet(data)
    face = aligned_portrait()
    grain = np.random.default_rng(0).normal(0, 3, face.shape)
    lines = []
    names = [*(f"train_{index}" for index in range(38)), *validation]
    for index, name in enumerate(names):
        levels = (face * (0.7 + 0.008 * index) + grain).clip(0, 255).astype(np.uint8)
        still = levels[:, ::-1] if index % 2 else levels
        cv2.imwrite(str(data / "faces" / f"{name}.webp"), still[..., ::-1])
        lines.append({"name": name, "split": "train" if index < 38 else "val", "size": 512})
    with (data / "faces.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["name", "split", "size"])
        writer.writeheader()
        writer.writerows(lines)
    write_video(
        data / "clips" / "sway.mp4",
        count=6,
        size=(400, 300),
        picture_of=moving_portrait,
        options={"crf": "14"},
    )
    return data
