"""The word that every picture which leaves in evidence mode bears."""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["MARK", "draw_mark"]

MARK = "enhanced"
FONT = cv2.FONT_HERSHEY_SIMPLEX  # strokes that come with OpenCV, not with the machine
SHARE = 1 / 30  # height of the capitals over that of the picture
LEAST_PX, MOST_PX = 8, 40  # of that height
CAPITAL_PX = 22  # at scale 1


def draw_mark(image: np.ndarray) -> np.ndarray:
    """``image`` (H, W, 3) uint8 with the word in its lower left corner, white on black; a new array."""
    height, width = image.shape[:2]
    wanted = min(max(height * SHARE, LEAST_PX), MOST_PX)
    (text_width, _), _ = cv2.getTextSize(MARK, FONT, 1.0, 1)
    scale = min(wanted / CAPITAL_PX, 0.9 * width / text_width)
    capital = round(CAPITAL_PX * scale)
    thickness = max(1, round(capital / 10))
    (text_width, text_height), below = cv2.getTextSize(MARK, FONT, scale, thickness)
    pad = max(2, capital // 3)
    marked = image.copy()
    top = max(0, height - text_height - below - 2 * pad)
    marked[top:, : text_width + 2 * pad] = 0
    cv2.putText(
        marked, MARK, (pad, height - pad - below), FONT, scale, (255, 255, 255), thickness, cv2.LINE_AA
    )
    return marked
