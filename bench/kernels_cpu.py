"""The kernels' five operations on a CPU: as the product does them there, and as others would."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from av.video.reformatter import VideoReformatter

from streamsr.face.alignment import crop_aligned, invert, native_side, rescale_template
from streamsr.face.composite import Paste, covers, paste
from streamsr.face.motion import MOTION_PX, Motion, MotionFinder
from streamsr.frame import Colour, Matrix, Range
from streamsr.io.colour import from_rgb
from streamsr.kernels.colour import reference as colour
from streamsr.kernels.consistency import Patches, Placed, table
from streamsr.kernels.consistency import reference as consistency
from streamsr.kernels.crop import Placed as Face
from streamsr.kernels.crop import reference as crop
from streamsr.kernels.crop import table as faces_table
from streamsr.kernels.flow import reference as flow
from streamsr.kernels.ogwm import reference as ogwm
from streamsr.model.recurrence import Past
from streamsr.model.remap import Recaller
from streamsr.ycbcr import coefficients

__all__ = ["TWIN", "WORKS", "Work"]

TWIN = "twin in torch"
_GAMMA = 0.5
_WIDTH, _GRID = 64, 64  # of the features that preset M remembers


@dataclass(frozen=True, slots=True)
class Work:
    """The same work in several ways, from what is there to values of the same meaning; each gives the array
    (or the largest of several) that can be compared with the others'. peers: by name, TWIN among them."""

    name: str
    product_name: str
    product: Callable[[], np.ndarray]
    peers: Mapping[str, Callable[[], np.ndarray]]


def _smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8."""
    noise = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    levels = 128 + 60 * F.interpolate(noise, (height, width), mode="bicubic")[0]
    return levels.clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def _matrix(native: float, height: int, width: int) -> np.ndarray:
    """Of a face in the middle of a frame, a little turned."""
    k, angle = 512 / native, np.radians(5)
    linear = k * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([linear, 255.5 - linear @ (width / 2, height / 2)])


def _colour(height: int, width: int) -> Work:
    image, tags, reformatter = _smooth(height, width), Colour(Matrix.BT709, Range.LIMITED), VideoReformatter()
    rgb, mixing = torch.from_numpy(image)[None], np.array(coefficients(Matrix.BT709, Range.LIMITED))
    taps = np.array(colour.TAPS)

    def product() -> np.ndarray:
        return from_rgb(image, tags, "nv12", reformatter).to_ndarray()[:height]

    def opencv() -> np.ndarray:
        small = cv2.sepFilter2D(image, -1, taps, taps, anchor=(3, 3), borderType=cv2.BORDER_REPLICATE)
        cv2.transform(np.ascontiguousarray(small[::2, ::2]), mixing[1:])
        return cv2.transform(image, mixing[:1])

    return Work(
        f"nv12 {width}x{height}",
        "swscale, io.colour.from_rgb",
        product,
        {"OpenCV": opencv, TWIN: lambda: colour.nv12(rgb)[0][0].numpy()},
    )


def _consistency(size: int, scale: int, height: int, width: int) -> Work:
    camera, base = _smooth(height, width), _smooth(scale * height, scale * width)
    matrix = _matrix(height / 3, height, width)
    residual = torch.from_numpy(_smooth(size, size, seed=1)).float()[None] / 8 - 16
    line = (torch.arange(size) - (size - 1) / 2) / size
    mask = ((0.47 - torch.hypot(line, line[:, None])) / 0.1).clamp(0, 1)[None]
    face = Paste(matrix, residual[0].numpy(), mask[0].numpy(), _GAMMA)
    placed = table([[Placed(matrix, size, 0, _GAMMA)]], scale * height, scale * width, scale)
    faces, first, below, seen = (torch.from_numpy(x) for x in (*placed, base[None], camera[None]))
    under = covers([face], camera, scale)  # the background's, too

    def product() -> np.ndarray:
        out = base.copy()
        paste(out, camera, [face], scale, under)
        return out

    def twin() -> np.ndarray:
        return consistency.paste(below, seen, [Patches(residual, mask)], faces, first, scale).out[0].numpy()

    return Work(
        f"paste {size} px into {scale * width}x{scale * height}",
        "OpenCV, face.composite.paste",
        product,
        {"OpenCV, whole frames": partial(_paste_whole, base, camera, face, scale), TWIN: twin},
    )


def _paste_whole(base: np.ndarray, camera: np.ndarray, face: Paste, scale: int) -> np.ndarray:
    """As peers paste a face back: frames in float, and every px of them."""
    size, (height, width) = len(face.mask), camera.shape[:2]
    to_crop = rescale_template(face.matrix, size)
    to_output = scale * invert(to_crop) + np.array([0, 0, (scale - 1) / 2])
    changed = cv2.warpAffine(
        face.residual * face.mask[..., None],
        to_output,
        (scale * width, scale * height),
        flags=cv2.INTER_CUBIC,
    )
    out = np.clip(np.rint(base + changed), 0, 255)
    weight = cv2.warpAffine(face.mask, invert(to_crop), (width, height), flags=cv2.INTER_LINEAR)
    error = cv2.resize(out, (width, height), interpolation=cv2.INTER_AREA) - camera
    luma = cv2.transform(error, np.array([[0.299, 0.587, 0.114]]))[..., None]
    chroma = 1 - (1 - face.gamma) ** 2
    moved = (face.gamma * luma + chroma * (error - luma)) * weight[..., None]
    out -= cv2.resize(moved, (scale * width, scale * height), interpolation=cv2.INTER_NEAREST)
    out = np.clip(np.rint(out), 0, 255)
    left = cv2.resize(out, (width, height), interpolation=cv2.INTER_AREA) - camera
    np.sqrt((left * left).mean()), np.abs(left).max()  # the certificate
    return out.astype(np.uint8)


def _crop(size: int, height: int, width: int) -> Work:
    image, matrix = _smooth(height, width), _matrix(0.4 * height, height, width)
    frames = [torch.from_numpy(image)]
    faces = torch.from_numpy(faces_table(frames, [Face(0, matrix, 0)], [(1, size)]))

    def product() -> np.ndarray:
        crop_aligned(image, matrix, size // 4)
        return crop_aligned(image, matrix, size)

    def opencv() -> np.ndarray:
        for side in (size // 4, size):
            shrink, source, to_crop = native_side(matrix) / side, image, rescale_template(matrix, side)
            if shrink > 1:  # antialiased
                source = cv2.GaussianBlur(image, (0, 0), 0.5 * shrink)
            found = cv2.warpAffine(
                source, to_crop, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
            )
        return found

    def twin() -> np.ndarray:
        return ((crop.cut(frames, faces, [(1, size)])[0].x_in[0].permute(1, 2, 0) + 1) * 127.5).numpy()

    return Work(
        f"crop {size} px of {width}x{height}",
        "OpenCV, face.alignment.crop_aligned",
        product,
        {"OpenCV, blurred and warped": opencv, TWIN: twin},
    )


def _flow(size: int) -> Work:
    whole, finder = _smooth(size + 4, size + 4), MotionFinder()
    before, now = (np.ascontiguousarray(x) for x in (whole[2:-2, 2:-2], whole[1:-3, 4:]))
    pair = [torch.from_numpy(x).permute(2, 0, 1)[None].float() / 127.5 - 1 for x in (before, now)]
    search: Any = cv2.FarnebackOpticalFlow.create(numLevels=3, winSize=15, numIters=3)
    px = np.arange(MOTION_PX, dtype=np.float32)
    grid = np.dstack(np.meshgrid(px, px))

    def farneback() -> np.ndarray:
        first, second = (
            cv2.cvtColor(
                cv2.resize(x, (MOTION_PX, MOTION_PX), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY
            )
            for x in (before, now)
        )
        found, back = search.calc(second, first, None), search.calc(first, second, None)
        returned = found + cv2.remap(back, grid + found, None, cv2.INTER_LINEAR)  # type: ignore[call-overload]
        np.less(np.linalg.norm(returned, axis=2), 1)
        return found

    return Work(
        f"flow {size} px",
        "OpenCV's DIS, face.motion",
        lambda: finder.find(before, now).flow,
        {
            "OpenCV's Farneback": farneback,
            TWIN: lambda: flow.find(pair[0], pair[1], MOTION_PX).flow[0].permute(1, 2, 0).numpy(),
        },
    )


def _ogwm(size: int) -> Work:
    y = torch.from_numpy(_smooth(size // 4, size // 4)).permute(2, 0, 1)[None].float() / 127.5 - 1
    g = torch.Generator().manual_seed(1)
    past = Past(
        torch.from_numpy(_smooth(size, size)).permute(2, 0, 1)[None].float() / 127.5 - 1,
        y + 0.02 * torch.randn(y.shape, generator=g),
        torch.randn(1, _WIDTH, _GRID, _GRID, generator=g).contiguous(memory_format=torch.channels_last),
    )
    still = torch.randn(1, 2, 8, 8, generator=g)
    motion = F.interpolate(still, size=(MOTION_PX, MOTION_PX), mode="bicubic")
    valid = torch.ones(1, 1, MOTION_PX, MOTION_PX)
    moved = Motion(motion[0].permute(1, 2, 0).contiguous().numpy(), valid[0, 0].numpy())
    recaller = Recaller(_WIDTH, _GRID)

    def unfused() -> np.ndarray:
        picture, before, _ = (_unfused_warp(x, motion) for x in past)
        difference = F.avg_pool2d(y - before, 3, stride=1, padding=1, count_include_pad=False)
        F.interpolate(valid, y.shape[2:], mode="area") * (-difference.abs().mean(1)).exp()
        return picture[0].numpy()

    return Work(
        f"recall {size} px",
        "OpenCV, model.remap",
        lambda: recaller.recall([(past, moved)], y).picture[0].numpy(),
        {
            "torch, unfused": unfused,
            TWIN: lambda: (
                ogwm.recall(past.picture, past.features, past.y, y, motion, valid).picture[0].numpy()
            ),
        },
    )


def _unfused_warp(x: torch.Tensor, motion: torch.Tensor, s: int = ogwm.RESCALING) -> torch.Tensor:
    """OGWM as it is written: enlarge by repetition, warp, and of that the middle of each s x s px."""
    large = F.interpolate(x, scale_factor=s, mode="nearest")
    size, wide = x.shape[3], large.shape[3]
    flow = F.interpolate(motion, size=(size, size), mode="bilinear") * (wide / motion.shape[3])
    middle = torch.arange(size) * s + (s - 1) / 2
    at = torch.stack([middle + flow[:, 0], middle[:, None] + flow[:, 1]], 3) / (wide - 1) * 2 - 1
    return F.grid_sample(large, at, mode="bilinear", padding_mode="border", align_corners=True)


# of each kernel; made when they are asked for
WORKS: dict[str, tuple[Callable[[], Work], ...]] = {
    "colour": (partial(_colour, 720, 1280), partial(_colour, 1080, 1920)),
    "consistency": (partial(_consistency, 256, 2, 360, 640), partial(_consistency, 512, 2, 540, 960)),
    "crop": (partial(_crop, 256, 360, 640), partial(_crop, 512, 720, 1280)),
    "flow": (partial(_flow, 128), partial(_flow, 256)),
    "ogwm": (partial(_ogwm, 256), partial(_ogwm, 512)),
}
