"""From a clean aligned still to what a camera would have given of it, and the crop the network sees.

One sample keeps one set of degradation parameters over all its frames (a clip); the geometry goes
through ``Crop.cut``, the function that runs in the product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
import torch

from ..face.alignment import TEMPLATE_PX
from ..model.coding import coding_statistics
from ..model.crop import Crop
from ..model.guide import UNCODED_QP
from .clips import Pose, shake

__all__ = ["Degradation", "Sample", "View", "draw", "film", "finish", "photograph"]

MARGIN = 1.25  # side of the photographed view over the side of the crop


@dataclass(frozen=True)
class Degradation:
    """native: n in px. blur: sigmas at S = 256 and angle. coded: None, or codec and quality."""

    kind: str  # "clean", "call", "cctv" or "sharp"
    native: float
    roll_deg: float
    shift: tuple[float, float]
    drift: tuple[float, float]  # px of the view a frame
    blur: tuple[float, float, float]
    read_noise: float
    shot_noise: float
    sharpen: float
    grey: bool
    jpeg: int | None
    coded: tuple[str, int] | None

    @property
    def quantiser(self) -> float:
        """On H.264's scale of QP; libvpx's is put on it by equal PSNR."""
        if self.coded is None:
            return UNCODED_QP
        codec, quality = self.coded
        return float(quality) if codec == "h264" else 24 + 0.38 * (quality - 16)


@dataclass(frozen=True)
class View:
    """images[k] (m, m, 3) uint8; matrices[k] (2, 3): view px -> px of the 512 template."""

    images: list[np.ndarray]
    matrices: list[np.ndarray]


class Sample(NamedTuple):
    """crop: what the network sees of a face. coding (STATISTICS,) float32."""

    crop: Crop
    coding: np.ndarray


def draw(rng: np.random.Generator, size: int) -> Degradation:
    """One degradation for a crop of side ``size``: 27 % clean, 60 % call, 8 % CCTV, 5 % sharp."""
    kind = str(rng.choice(["clean", "call", "cctv", "sharp"], p=[0.27, 0.60, 0.08, 0.05]))
    low = 1 / 8 if kind != "cctv" else 1 / 10
    native = size * float(np.exp(rng.uniform(np.log(low), 0)))
    if kind in ("clean", "call") and rng.random() < 0.8:
        native = size * float(rng.choice([1 / 4, 1 / 2], p=[0.3, 0.7]))  # the product's own scales
    if kind == "sharp":
        native = size * float(rng.uniform(0.95, 1.05))
    soft = {"clean": 0.15, "call": 0.25, "cctv": 0.9, "sharp": 0.0}[kind]
    blur = (0.0, 0.0, 0.0)
    if rng.random() < soft:
        most = 4.0 if kind == "cctv" else 2.0
        sigma = float(np.exp(rng.uniform(np.log(0.2), np.log(most))))
        blur = (sigma, sigma * float(rng.uniform(0.4, 1)), float(rng.uniform(0, 180)))
    noisy = {"clean": 0.0, "call": 0.3, "cctv": 0.9, "sharp": 0.0}[kind]
    noise = float(rng.random() < noisy)
    most_noise = 14.0 if kind == "cctv" else 5.0
    coded: tuple[str, int] | None = None
    if kind in ("call", "cctv") and rng.random() < 0.93:  # else raw, from a camera on the same machine
        if rng.random() < 0.8:
            coded = ("h264", int(rng.integers(24, 39 if kind == "call" else 43)))
        else:
            coded = ("vp8", int(rng.integers(16, 50)))
    straight = kind == "sharp" or rng.random() < 0.4
    return Degradation(
        kind=kind,
        native=native,
        roll_deg=0.0 if straight else float(rng.normal(0, 7)),
        shift=(0.0, 0.0) if straight else (float(rng.uniform(-1, 1)), float(rng.uniform(-1, 1))),
        drift=(float(rng.normal(0, 0.7)), float(rng.normal(0, 0.7))) if rng.random() < 0.7 else (0.0, 0.0),
        blur=blur,
        read_noise=noise * float(rng.uniform(0.3, most_noise)),
        shot_noise=noise * float(rng.uniform(0, most_noise / 40)),
        sharpen=float(rng.uniform(0.2, 1.0)) if kind in ("call", "cctv") and rng.random() < 0.2 else 0.0,
        grey=kind == "cctv" and rng.random() < 0.4,
        jpeg=int(rng.integers(35, 92)) if kind in ("call", "cctv") and rng.random() < 0.15 else None,
        coded=coded,
    )


def photograph(face: np.ndarray, frames: int, how: Degradation, rng: np.random.Generator) -> View:
    """``frames`` camera views of a clean aligned still (S, S, 3) uint8, before coding.

    It drifts: exposed once, its earlier frames are shifted views of the last.
    """
    image, matrix = _expose(face, how)
    images = [_sense(image, how, rng)]
    for k in range(1, frames):
        shift = np.array([[1, 0, -k * how.drift[0]], [0, 1, -k * how.drift[1]]])
        moved = cv2.warpAffine(image, shift, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT_101)
        images.insert(0, _sense(moved, how, rng))
    return View(images, [matrix] * frames)


def film(faces: Sequence[np.ndarray], how: Degradation, rng: np.random.Generator) -> View:
    """Camera views of a clip: aligned pictures (S, S, 3) uint8 of a head that sways before the camera."""
    view = View([], [])
    for face, pose in zip(
        faces, shake(Pose(how.roll_deg, how.shift), len(faces), rng, how.native), strict=True
    ):
        image, matrix = _expose(face, replace(how, roll_deg=pose.roll_deg, shift=pose.shift))
        view.images.append(_sense(image, how, rng))
        view.matrices.append(matrix)
    return view


def finish(view: View, size: int) -> list[Sample]:
    """The network's input for every frame, cut from the native view."""
    crops = [Crop.cut(image, matrix, size) for image, matrix in zip(view.images, view.matrices, strict=True)]
    return [Sample(crop, coding_statistics(torch.from_numpy(crop.patch)).numpy()) for crop in crops]


def _expose(face: np.ndarray, how: Degradation) -> tuple[np.ndarray, np.ndarray]:
    """Blur, turn, shift and reduce one clean face; the view and its matrix to the template."""
    size = face.shape[0]
    if how.blur[0] > 0:
        sigma_u, sigma_v, angle_deg = how.blur
        face = _blurred(face, sigma_u * size / 256, sigma_v * size / 256, angle_deg)
    side = max(8, round(how.native * MARGIN))  # of the view, px
    reduce = size / how.native  # face px per view px
    centre = side / 2 - 0.5
    dx, dy = how.shift
    turn = np.deg2rad(how.roll_deg)
    c, s = np.cos(turn), np.sin(turn)
    rotation = np.array([[c, -s], [s, c]])
    # view px -> face px
    linear = rotation * reduce
    offset = np.array([size / 2 - 0.5, size / 2 - 0.5]) - linear @ np.array([centre + dx, centre + dy])
    view_to_face = np.column_stack([linear, offset])
    image = _reduced(face, view_to_face, side, reduce)
    k512 = TEMPLATE_PX / size
    matrix = view_to_face * k512
    matrix[:, 2] += 0.5 * (k512 - 1)
    return image, matrix


def _reduced(face: np.ndarray, view_to_face: np.ndarray, side: int, reduce: float) -> np.ndarray:
    """Area-average ``face`` onto a view of ``side`` px: turned at the face's own scale, then reduced."""
    fine = max(side, round(side * reduce))
    fine += -fine % side if reduce > 1 and abs(reduce - round(reduce)) < 1e-6 else 0
    step = side / fine  # view px per fine px
    to_view = np.array([[step, 0, 0.5 * step - 0.5], [0, step, 0.5 * step - 0.5], [0, 0, 1]])
    fine_to_face = (np.vstack([view_to_face, [0, 0, 1]]) @ to_view)[:2]
    turned = cv2.warpAffine(
        face,
        fine_to_face,
        (fine, fine),
        flags=(cv2.INTER_LINEAR if reduce > 1.8 else cv2.INTER_CUBIC) | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return turned if fine == side else cv2.resize(turned, (side, side), interpolation=cv2.INTER_AREA)


def _blurred(image: np.ndarray, sigma_u: float, sigma_v: float, angle_deg: float) -> np.ndarray:
    radius = min(24, int(np.ceil(2.5 * sigma_u)))
    if radius < 1:
        return image
    at = np.arange(-radius, radius + 1, dtype=np.float32)
    c, s = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    u, v = c * at[None] + s * at[:, None], -s * at[None] + c * at[:, None]
    kernel = np.exp(-0.5 * ((u / sigma_u) ** 2 + (v / max(sigma_v, 0.1)) ** 2))
    return cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101)


def _sense(image: np.ndarray, how: Degradation, rng: np.random.Generator) -> np.ndarray:
    """Grey, noise, sharpening and JPEG, as a camera does before its video encoder."""
    if how.grey:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if how.read_noise > 0:
        signal = image.astype(np.float32)
        shape = (*image.shape[:2], 1) if how.grey else image.shape
        sigma = np.sqrt(how.read_noise**2 + how.shot_noise**2 * signal[..., : shape[2]])
        signal += sigma * rng.standard_normal(shape, dtype=np.float32)
        image = np.clip(signal + 0.5, 0, 255).astype(np.uint8)
    if how.sharpen > 0:
        soft = cv2.GaussianBlur(image, (0, 0), 1.0)
        image = cv2.addWeighted(image, 1 + how.sharpen, soft, -how.sharpen, 0)
    if how.jpeg is not None:
        coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, how.jpeg])[1]
        image = cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1]
    return np.ascontiguousarray(image)
