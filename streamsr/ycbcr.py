"""RGB to Y'CbCr by ITU-T H.273, and whole pictures in 4:2:0 as encoders take them."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from .frame import Colour, Matrix, Range

__all__ = ["coefficients", "planes_420"]

# Kr and Kb of Y' = Kr R' + (1 - Kr - Kb) G' + Kb B'
_LUMA = {Matrix.BT601: (0.299, 0.114), Matrix.BT709: (0.2126, 0.0722), Matrix.BT2020: (0.2627, 0.0593)}


def coefficients(matrix: Matrix, span: Range) -> tuple[tuple[float, float, float, float], ...]:
    """For Y, Cb and Cr: factors of R, G and B in 0..255, and what is added; at 8 bits."""
    red, blue = _LUMA[matrix]
    luma = (red, 1 - red - blue, blue)
    black, luma_span, chroma_span = (16, 219, 224) if span is Range.LIMITED else (0, 255, 255)
    cb = [chroma_span / 255 * ((i == 2) - luma[i]) / (2 * (1 - blue)) for i in range(3)]
    cr = [chroma_span / 255 * ((i == 0) - luma[i]) / (2 * (1 - red)) for i in range(3)]
    y = [luma_span / 255 * factor for factor in luma]
    return (y[0], y[1], y[2], black), (cb[0], cb[1], cb[2], 128.0), (cr[0], cr[1], cr[2], 128.0)


def planes_420(image: np.ndarray, colour: Colour) -> np.ndarray:
    """image (H, W, 3) uint8 RGB, full range, H and W even. Returns (3 H / 2, W) uint8 as of ``Yuv420p``.

    Chroma is of the mean colour of 2 x 2 px. OpenCV's factors are 1024ths: Y is up to 0.1 off, in a third
    of the time that swscale takes.
    """
    height, width = image.shape[:2]
    factors = _factors(colour.matrix, colour.range)
    planes = np.empty((height + height // 2, width), np.uint8)
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    cv2.extractChannel(cv2.transform(image, factors), 0, planes[:height])
    reduced = cv2.resize(image, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    coloured = cv2.transform(reduced, factors)
    for channel, plane in enumerate(chroma, 1):
        cv2.extractChannel(coloured, channel, plane)
    return planes


@lru_cache
def _factors(matrix: Matrix, span: Range) -> np.ndarray:
    return np.array(coefficients(matrix, span), np.float32)
