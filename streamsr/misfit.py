"""Where what is remembered of a face still fits what is seen of it now."""

from __future__ import annotations

import cv2
import numpy as np

__all__ = ["MISFIT", "fits"]

MISFIT = 0.06  # of [-1, 1]: a difference at which the mask has fallen to 1/e


def fits(
    difference: np.ndarray, valid: np.ndarray, unit: float = 1.0, out: np.ndarray | None = None
) -> np.ndarray:
    """The mask of the recurrent cache: valid exp(-(|difference| / MISFIT)^2), (h, w) float32 in [0, 1].

    difference (h, w, 3) float32: low-passed, of the camera's picture now from the one before, moved. unit:
    how much of it is 1 of [-1, 1]; of levels 127.5. valid (., .) float32 in [0, 1]: where motion was found.
    """
    share = 1 / (3 * MISFIT * unit)
    misfit = cv2.transform(np.abs(difference), np.full((1, 3), share, np.float32))
    seen = cv2.resize(valid, difference.shape[1::-1], interpolation=cv2.INTER_AREA)
    return np.multiply(seen, cv2.exp(-misfit * misfit), out=out)
