"""What the kernels' twins do on a CPU, beside what the product or a common library does there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from av.video.reformatter import VideoReformatter

from streamsr.face.alignment import crop_aligned
from streamsr.face.composite import Paste, paste
from streamsr.face.motion import MOTION_PX, MotionFinder
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

__all__ = ["PAIRS", "Pair"]


@dataclass(frozen=True, slots=True)
class Pair:
    """The same work twice, from pictures that are there to ones of the same values, nearly."""

    name: str
    twin: Callable[[], object]
    peer_name: str
    peer: Callable[[], object]


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


def _colour(height: int, width: int) -> Pair:
    image, tags, reformatter = _smooth(height, width), Colour(Matrix.BT709, Range.LIMITED), VideoReformatter()
    rgb = torch.from_numpy(image)[None]
    return Pair(
        f"nv12 {width}x{height}",
        lambda: colour.nv12(rgb),
        "swscale, io.colour.from_rgb",
        lambda: from_rgb(image, tags, "nv12", reformatter),
    )


def _consistency(size: int, scale: int, height: int, width: int) -> Pair:
    camera, base = _smooth(height, width), _smooth(scale * height, scale * width)
    matrix = _matrix(height / 3, height, width)
    residual = torch.from_numpy(_smooth(size, size, seed=1)).float()[None] / 8 - 16
    line = (torch.arange(size) - (size - 1) / 2) / size
    mask = ((0.47 - torch.hypot(line, line[:, None])) / 0.1).clamp(0, 1)[None]
    face = Paste(matrix, residual[0].numpy(), mask[0].numpy(), 0.5)
    placed = table([[Placed(matrix, size, 0, 0.5)]], scale * height, scale * width, scale)
    faces, first, below, seen = (torch.from_numpy(x) for x in (*placed, base[None], camera[None]))

    def composite() -> None:
        paste(base.copy(), camera, [face], scale)

    return Pair(
        f"paste {size} px into {scale * width}x{scale * height}",
        lambda: consistency.paste(below, seen, [Patches(residual, mask)], faces, first, scale),
        "OpenCV, face.composite.paste",
        composite,
    )


def _crop(size: int, height: int, width: int) -> Pair:
    image, matrix = _smooth(height, width), _matrix(0.4 * height, height, width)
    frames = [torch.from_numpy(image)]
    faces = torch.from_numpy(faces_table(frames, [Face(0, matrix, 0)], [(1, size)]))
    return Pair(
        f"crop {size} px of {width}x{height}",
        lambda: crop.cut(frames, faces, [(1, size)]),
        "OpenCV, face.alignment.crop_aligned",
        lambda: [crop_aligned(image, matrix, side) for side in (size, size // 4)],
    )


def _flow(size: int) -> Pair:
    whole, finder = _smooth(size + 4, size + 4), MotionFinder()
    before, now = whole[2:-2, 2:-2], whole[1:-3, 4:]
    pair = [torch.from_numpy(x).permute(2, 0, 1)[None].float() / 127.5 - 1 for x in (before, now)]
    return Pair(
        f"flow {size} px",
        lambda: flow.find(pair[0], pair[1], MOTION_PX),
        "OpenCV's DIS, face.motion",
        lambda: finder.find(before, now),
    )


def _warp(size: int) -> Pair:
    x = torch.from_numpy(_smooth(size, size)).permute(2, 0, 1)[None].float() / 127.5 - 1
    still = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    motion = F.interpolate(still, size=(MOTION_PX, MOTION_PX), mode="bicubic")
    return Pair(
        f"warp {size} px", lambda: ogwm.warp(x, motion), "torch, unfused", lambda: _unfused_warp(x, motion)
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
PAIRS: dict[str, tuple[Callable[[], Pair], ...]] = {
    "colour": (partial(_colour, 720, 1280), partial(_colour, 1080, 1920)),
    "consistency": (partial(_consistency, 256, 2, 360, 640), partial(_consistency, 512, 2, 540, 960)),
    "crop": (partial(_crop, 256, 360, 640), partial(_crop, 512, 720, 1280)),
    "flow": (partial(_flow, 128), partial(_flow, 256)),
    "ogwm": (partial(_warp, 256), partial(_warp, 512)),
}
