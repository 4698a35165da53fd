"""A clock in the pixels: squares that survive codecs and scaling, read again at the other end of a call."""

from __future__ import annotations

import numpy as np

__all__ = ["PERIOD_MS", "STRIP_PX", "draw_marker", "read_marker"]

BITS = 16
PERIOD_MS = 1 << BITS  # 65.5 s
SIDE_PX = 16  # of a square in the camera's picture: one macroblock
MARGIN_PX = 16
SQUARES = BITS + 2  # the parity of the bits, and the flash
STRIP_PX = (MARGIN_PX + SQUARES * SIDE_PX + SIDE_PX, 2 * SIDE_PX)  # width, height to keep free, from (0, 0)
DARK, BRIGHT = 40, 215
UNSURE = (100, 155)  # a square whose mean lies between is not read


def draw_marker(luma: np.ndarray, ms: int, flash: bool) -> None:
    """Draw ``ms`` modulo PERIOD_MS and the flash into the top left of a camera's (H, W) uint8 luma."""
    gray = (ms % PERIOD_MS) ^ ((ms % PERIOD_MS) >> 1)  # neighbours differ in one square
    bits = [gray >> bit & 1 for bit in range(BITS)]
    luma[: STRIP_PX[1], : STRIP_PX[0]] = (DARK + BRIGHT) // 2
    for square, bit in enumerate([*bits, sum(bits) & 1, int(flash)]):
        left = MARGIN_PX + square * SIDE_PX
        luma[SIDE_PX // 2 : SIDE_PX // 2 + SIDE_PX, left : left + SIDE_PX] = BRIGHT if bit else DARK


def read_marker(luma: np.ndarray, scale: int) -> tuple[int, bool] | None:
    """(ms, flash) from a picture ``scale`` times as large; None if it cannot be read for sure.

    luma: (H, W) uint8.
    """
    side, inset = SIDE_PX * scale, SIDE_PX * scale // 4
    rows = slice(side // 2 + inset, side // 2 + side - inset)
    bits = []
    for square in range(SQUARES):
        left = MARGIN_PX * scale + square * side
        mean = float(luma[rows, left + inset : left + side - inset].mean())
        if UNSURE[0] < mean < UNSURE[1]:
            return None
        bits.append(int(mean >= UNSURE[1]))
    *gray, parity, flash = bits
    if sum(gray) & 1 != parity:
        return None
    value = sum(bit << place for place, bit in enumerate(gray))
    shift = 1
    while shift < BITS:
        value ^= value >> shift
        shift <<= 1
    return value, bool(flash)
