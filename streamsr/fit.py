"""The size of the output: fixed when the stream opens, kept whatever the source does later."""

from __future__ import annotations

import cv2
import numpy as np

from .errors import ConfigError
from .frame import MAX_SIDE_PX, StreamInfo

__all__ = ["SCALES", "fit_image", "output_px"]

SCALES = (1, 2, 4, 8)
MAX_PX = 2**28  # of a picture and a border of 64 px around it: FFmpeg holds no larger one
SAME_ASPECT = 0.01  # sides that differ by less than this are rounding, not another aspect


def output_px(info: StreamInfo, scale: int, size: tuple[int, int] | None = None) -> tuple[int, int]:
    """(width, height) of the output: ``size``, or what the first picture's gives.

    Raises ConfigError where it is too large.
    """
    width, height = size or (info.width * scale, info.height * scale)
    gives = f"{info.width}x{info.height} at scale {scale} gives {width}x{height}"
    if max(width, height) > MAX_SIDE_PX:
        raise ConfigError(f"{gives}, more than {MAX_SIDE_PX} px: choose a smaller --scale")
    if (width + 128) * (height + 128) >= MAX_PX:
        raise ConfigError(f"{gives}, more than a video can hold: choose a smaller --scale")
    return width, height


def fit_image(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """image: (H, W, 3) uint8. Returns (height, width, 3): itself, or resized to fit, centred on black.

    There are bars only where the aspect is another; bars and what they enclose are even, as 4:2:0
    video wants them.
    """
    had_height, had_width = image.shape[:2]
    if (had_width, had_height) == (width, height):
        return image
    ratio = min(width / had_width, height / had_height)
    inner_width, inner_height = _side(had_width * ratio, width), _side(had_height * ratio, height)
    method = cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC
    inner = cv2.resize(image, (inner_width, inner_height), interpolation=method)
    if (inner_width, inner_height) == (width, height):
        return inner
    fitted = np.zeros((height, width, 3), np.uint8)
    left, top = (width - inner_width) // 4 * 2, (height - inner_height) // 4 * 2
    fitted[top : top + inner_height, left : left + inner_width] = inner
    return fitted


def _side(wanted: float, room: int) -> int:
    if room - wanted <= max(1.0, SAME_ASPECT * room):
        return room
    return max(int(wanted) // 2 * 2, 2)
