"""``bench quality --set val``: held-out aligned stills through a session of streamsr, and everyone else.

The session is told where the face is; all else is the product: guide, network, mask, projection. Judged
over the central ellipse of the template. Where the camera sees less than 24 px of a face's width nothing
is compared, because nothing is repainted; a still in which no mesh is found even when clean is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamsr.aligner import SMALLEST_FACE_PX
from streamsr.errors import ConfigError

from .entrants import Entrants
from .face_truth import FaceTruth, face_box
from .fidelity import consistency
from .known_face import KnownFace
from .landmarks import LandmarkFinder
from .panel import Panel, face_part
from .sheet import Sheet
from .stills import aligned_stills, central_ellipse, photograph, read_still, template_matrix
from .tally import Tally, add_gain, fidelity_measures

__all__ = ["COLUMNS", "SIZES", "Still", "measure_still", "pictures_of", "run", "stills_with_faces"]

SIZES = (256, 512)
FACE_SHARE = 0.53  # width of the mesh over the crop's side, on average
COLUMNS = (
    "size", "condition", "scale", "method", "n", "face_psnr_y", "face_gain_db", "face_ssim", "face_haarpsi",
    "face_hf_ratio", "feature_distance", "niqe", "identity", "landmark_error", "consistency_rms", "t0",
)  # fmt: skip


@dataclass(frozen=True)
class Still:
    """An aligned clean face: truth (S, S, 3) uint8 RGB, and its mesh in px of it."""

    name: str
    truth: np.ndarray
    face: FaceTruth


def run(
    entrants: Entrants,
    panel: Panel,
    conditions: Sequence[str],
    scales: Sequence[int],
    frames: int,
    sheet: Path | None = None,
) -> list[dict[str, Any]]:
    """Measure ``frames`` validation stills of each size, evenly chosen; a row a group and method.

    Raises ConfigError.
    """
    tally, contact = Tally(), Sheet()
    for size in SIZES:
        large_enough = [scale for scale in scales if FACE_SHARE * size / scale >= SMALLEST_FACE_PX]
        for index, still in enumerate(stills_with_faces(entrants.data, size, frames)):
            for condition in conditions:
                for scale in large_enough:
                    low = photograph(still.truth, condition, scale, entrants.seed)
                    pictures, t0 = pictures_of(entrants, still, low, scale)
                    figures = measure_still(panel, still, low, pictures)
                    for method, found in figures.items():
                        tally.add((size, condition, scale, method), found)
                    for method in entrants.streamsr():
                        tally.add((size, condition, scale, method), {"t0": t0})
                    if index == 0:
                        shown = {"truth": still.truth, **pictures}
                        label = f"{still.name} {size} {condition} x{scale}"
                        contact.add(label, {name: face_part(each) for name, each in shown.items()})
    if sheet is not None:
        contact.save(sheet)
    return _rows(tally)


def stills_with_faces(data: Path, size: int, frames: int) -> Iterator[Still]:
    """Validation stills of ``size`` px with their meshes, ``frames`` of them, evenly chosen."""
    every = [(name, path) for name, path, side in aligned_stills(data) if side >= size]
    if not every:
        raise ConfigError(f"faces.csv lists no validation still of {size} px")
    keep = np.unique(np.linspace(0, len(every) - 1, min(frames, len(every))).round().astype(int))
    finder = LandmarkFinder()
    try:
        for name, path in (every[k] for k in keep):
            truth = read_still(path, size)
            mesh = finder.find(truth)
            if mesh is not None:
                px = (mesh + 0.5) * (size / 512) - 0.5
                yield Still(name, truth, FaceTruth(px, template_matrix(size)))
    finally:
        finder.close()


def pictures_of(
    entrants: Entrants, still: Still, low: np.ndarray, scale: int
) -> tuple[dict[str, np.ndarray], float]:
    """(S, S, 3) uint8 by every method of what the camera gave, ``low``; and the guide's t0."""
    pictures, t0 = entrants.enlarged(low, scale, [still.face]), float("nan")
    for name, fidelity in entrants.streamsr().items():
        assert entrants.enhancer is not None, "streamsr() gave a name"
        session = entrants.enhancer.session(
            scale=scale,
            fidelity=fidelity,
            steps=entrants.steps,
            seed=entrants.seed,
            tracker=KnownFace(still.face.reduced(scale)),
        )
        pictures[name], report = session.process(low)
        session.close()
        found = report.faces[0].t0
        t0 = float("nan") if found is None else found
    return pictures, t0


def measure_still(
    panel: Panel, still: Still, low: np.ndarray, pictures: dict[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Every figure of every picture, by method, "truth" among them for what needs no reference."""
    truth, size = still.truth, len(still.truth)
    region = central_ellipse(size)
    box = face_box(region)
    figures = panel.measure(truth, pictures, still.face.matrix)
    for method, picture in pictures.items():
        figures[method] |= fidelity_measures(picture[box], truth[box], region[box], "face_")
        figures[method]["consistency_rms"] = consistency(picture, low, size // len(low))[0]
    return figures


def _rows(tally: Tally) -> list[dict[str, Any]]:
    """A row for each size, condition, scale and method, with its gain over bicubic."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for key in tally:
        size, condition, scale, method = key
        row = {"size": size, "condition": condition, "scale": scale, "method": method, "n": tally.count(key)}
        groups.setdefault(key[:3], []).append(row | {"native_px": size // scale} | tally.means(key))
    return [row for group in groups.values() for row in add_gain(group)]
