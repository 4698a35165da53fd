"""The restorer alone on held-out aligned stills: no tracker, no paste, no clip.

Conditions: "clean x4": block average by 4, n = S / 4. "call x2", "call x4": the face, n = S / 2 or
S / 4 px wide, drifting by a px a frame inside a 320-px-wide picture, coded by x264 at CRF 30; the
last of five frames is cut out. Judged over the central ellipse of the template.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from streamsr.errors import ConfigError
from streamsr.face.alignment import (
    TEMPLATE_PX,
    invert,
    rescale_template,
)

from .baselines import baselines
from .clips import Picture, read_clip, write_clip
from .fidelity import consistency
from .identity import FaceEmbedder, embedder_if_installed
from .luma import area_down
from .sheet import Sheet
from .tally import Tally, fidelity_measures

if TYPE_CHECKING:
    from streamsr.model.restorer import Restorer

__all__ = ["COLUMNS", "CONDITIONS", "central_ellipse", "coded_face", "run"]

SIZES = (256, 512)
CONDITIONS = {"clean x4": ("clean", 4), "call x2": ("call", 2), "call x4": ("call", 4)}
COLUMNS = (
    "size", "condition", "method", "n", "face_psnr_y", "face_gain_db", "face_ssim", "face_haarpsi",
    "face_hf_ratio", "frame_psnr_y", "consistency_rms", "identity", "t0",
)  # fmt: skip

# of the 512 template, px: brows to chin, cheek to cheek
ELLIPSE_CENTRE, ELLIPSE_RADII = (256.0, 300.0), (140.0, 180.0)

CALL_WIDTH_PX, CALL_HEIGHT_PX = 320, 240  # rate control overshoots on smaller pictures
CALL_CRF, CALL_FRAMES = 30, 5
SHEET_STILLS = 2  # of each size
SHOWN = ("bicubic", "back_projection", "espcn", "streamsr")


def run(
    data: Path,
    frames: int = 1000,
    steps: int | str = "auto",
    seed: int = 0,
    device: str = "auto",
    weights: Path | None = None,
    sheet: Path | None = None,
    baselines_only: bool = False,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Measure on the first ``frames`` validation stills. Returns (what the rows share, rows).

    A still smaller than S is left out at S. steps: "auto" is one. Raises ConfigError, ModelError.
    """
    nfe = 1 if steps == "auto" else int(steps)
    stills = validation_stills(data)[:frames]
    restorer = None if baselines_only else load_restorer(weights, device)
    upscalers = {factor: baselines(factor, data) for factor in (2, 4)}
    embedder = embedder_if_installed()
    tally, contact = Tally(), Sheet()
    for size in SIZES:
        large = [(name, path) for name, path, side in stills if side >= size]
        for index, (name, path) in enumerate(large):
            truth = read_still(path, size)
            for condition, (kind, factor) in CONDITIONS.items():
                low = area_down(truth, factor)
                if kind == "call":
                    low = coded_face(low)
                pictures = {method: up(low, factor) for method, up in upscalers[factor].items()}
                if restorer is not None:
                    pictures["streamsr"], t0 = restore_crop(restorer, low, size, nfe, seed)
                measure((size, condition), truth, low, pictures, embedder, tally)
                if restorer is not None:
                    tally.add((size, condition, "streamsr"), {"t0": t0})
                if index % -(-len(large) // SHEET_STILLS) == 0:
                    shown = {"truth": truth} | {m: pictures[m] for m in SHOWN if m in pictures}
                    contact.add(f"{name} {size} {condition}", shown)
    if sheet is not None:
        contact.save(sheet)
    head: dict[str, Any] = {"set": "val", "seed": seed, "nfe": nfe}
    if restorer is not None:
        head |= {"device": str(restorer.device), "model_sha256": restorer.sha256}
    return head, rows(tally)


def load_restorer(weights: Path | None, device: str) -> Restorer:
    """The network and its guide. Raises ModelError, DeviceError."""
    from streamsr.model.restorer import Restorer  # torch loads here, not for --help

    return Restorer.load(weights, device=device)


def restore_crop(
    restorer: Restorer, low: np.ndarray, size: int, steps: int, seed: int
) -> tuple[np.ndarray, float]:
    """What the camera saw of a face, (n, n, 3), restored to (S, S, 3) uint8; and the guide's t0.

    The network alone: no bypass, no projection onto the camera's pixels.
    """
    from streamsr.model.crop import Crop

    crop = Crop.cut(low, template_matrix(low.shape[0]), size)
    (reading,) = restorer.guide([crop])
    (restored,) = restorer.restore([crop], [reading], steps=steps, seed=seed)
    return np.rint(crop.x_in + restored.residual).clip(0, 255).astype(np.uint8), reading.t0


def validation_stills(data: Path) -> list[tuple[str, Path, int]]:
    """(name, path, side) of the held-out stills in ``data/faces.csv``. Raises ConfigError."""
    table = data / "faces.csv"
    if not table.is_file():
        raise ConfigError(f"no {table}: --set val needs faces.csv and faces/ in the data folder")
    with table.open(newline="") as lines:
        held_out = [line for line in csv.DictReader(lines) if line["split"] == "val"]
    if not held_out:
        raise ConfigError(f"{table} has no line with split val")
    return [(line["name"], data / "faces" / f"{line['name']}.webp", int(line["size"])) for line in held_out]


def read_still(path: Path, size: int) -> np.ndarray:
    """(size, size, 3) uint8 RGB, area-resized. Raises ConfigError."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise ConfigError(f"cannot read the still {path}")
    picture = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)


def coded_face(face: np.ndarray) -> np.ndarray:
    """What a call's encoder leaves of a face: (n, n, 3) uint8 RGB, the same size.

    The face drifts one pixel a frame, so that the last picture is predicted from others, as nearly
    all pictures of a call are. It ends on a multiple of 8 px: the blocks of a whole frame begin there.
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
            yield Picture(np.ascontiguousarray(canvas[:, x : x + width]), k, Fraction(1, 25))

    memory = io.BytesIO()
    write_clip(memory, drifting(), Fraction(25), CALL_CRF)
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


def measure(
    group: tuple[int, str],
    truth: np.ndarray,
    low: np.ndarray,
    pictures: dict[str, np.ndarray],
    embedder: FaceEmbedder | None,
    tally: Tally,
) -> None:
    """One still by every method into ``tally`` under (size, condition, method)."""
    size = truth.shape[0]
    region = central_ellipse(size)
    if embedder is not None:
        face = embedder.locate(truth, template_matrix(size))
        reference = embedder.embed(truth, face)
    for method, picture in pictures.items():
        figures = fidelity_measures(picture, truth, prefix="frame_")
        figures |= fidelity_measures(picture, truth, region, "face_")
        figures["consistency_rms"] = consistency(picture, low, size // low.shape[0])[0]
        if embedder is not None:
            figures["identity"] = float(np.linalg.norm(embedder.embed(picture, face) - reference))
        tally.add((*group, method), figures)


def rows(tally: Tally) -> list[dict[str, Any]]:
    """A row for each size, condition and method, with its gain over bicubic."""
    found = []
    for key in tally:
        size, condition, method = key
        means = tally.means(key)
        gain = means["face_psnr_y"] - tally.means((size, condition, "bicubic"))["face_psnr_y"]
        found.append(
            {
                "size": size,
                "native_px": size // CONDITIONS[condition][1],
                "condition": condition,
                "method": method,
                "n": tally.count(key),
                **means,
                "face_gain_db": gain,
            }
        )
    return found
