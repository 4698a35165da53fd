"""``recurrence.recall`` on a CPU: OGWM's lookup through OpenCV's maps in fixed point.

Positions are rounded to 1/32 px, on which nothing here depends.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from ..face.motion import Motion
from ..misfit import fits
from .network import Memory
from .recurrence import RESCALING, Past

__all__ = ["Recaller"]

_STEPS = 32  # of a px, in OpenCV's maps


class _Lookup:
    """Where the px of a grid come from."""

    def __init__(self, cells: np.ndarray, fractions: np.ndarray) -> None:
        self._cells, self._fractions = cells, fractions

    def __call__(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """x (H, W, C) float32, of any number of channels."""
        return cv2.remap(
            x, self._cells, self._fractions, cv2.INTER_LINEAR, dst=out, borderMode=cv2.BORDER_REPLICATE
        )


class Recaller:
    """For one thread. width, grid: of the network's features. s: OGWM's rescaling."""

    def __init__(self, width: int, grid: int, s: int = RESCALING) -> None:
        self._width, self._features_px = width, grid
        # a lookup blends two px only in the middle 1/s between them: moved by the rest of it before,
        # that is the end of the px, and what comes before is the px itself
        self._shift = 0.5 - 0.5 / s
        steep = np.clip((np.arange(_STEPS) - _STEPS + _STEPS // s) * s, 0, None)
        self._fractions = (steep[:, None] * _STEPS + steep).astype(np.uint16).ravel()
        self._grids: dict[int, np.ndarray] = {}
        self._shares: dict[int, np.ndarray] = {}

    def recall(self, pasts: Sequence[tuple[Past, Motion] | None], y: Tensor) -> Memory:
        """As ``OpenVinoEngine.recall``; everything lies channels last."""
        side = y.shape[-1]
        grids = [(4 * side, 3), (self._features_px, self._width), (side, 3), (side, 1)]
        maps = [np.empty((len(y), px, px, channels), np.float32) for px, channels in grids]
        for i, (found, seen) in enumerate(zip(pasts, _maps(y), strict=True)):
            if found is None:
                for each in maps:
                    each[i] = 0
            else:
                past, motion = found
                self._recall([_maps(v)[0] for v in past], seen, motion, [each[i] for each in maps])
        return Memory(*(torch.from_numpy(each).permute(0, 3, 1, 2) for each in maps))

    def _recall(
        self, past: Sequence[np.ndarray], y: np.ndarray, motion: Motion, memory: Sequence[np.ndarray]
    ) -> None:
        """The fields of ``past`` as they are to be seen now, into those of ``memory``."""
        picture, seen, features = past
        out_picture, out_features, difference, mask = memory
        lookups = {side: self._lookup(motion.flow, side) for side in {len(each) for each in past}}
        lookups[len(picture)](picture, out_picture)
        lookups[len(features)](features, out_features)
        side = len(seen)
        change = cv2.subtract(y, lookups[side](seen))
        cv2.boxFilter(change, -1, (3, 3), dst=difference, normalize=False, borderType=cv2.BORDER_CONSTANT)
        difference *= self._share(side)
        fits(difference, motion.valid, out=mask[..., 0])

    def _lookup(self, flow: np.ndarray, side: int) -> _Lookup:
        at = cv2.resize(flow * np.float32(side / len(flow)), (side, side), interpolation=cv2.INTER_LINEAR)
        np.add(at, self._grid(side), out=at)
        cells, fractions = cv2.convertMaps(at, None, cv2.CV_16SC2)  # type: ignore[call-overload]
        return _Lookup(cells, self._fractions.take(fractions, mode="clip"))

    def _grid(self, side: int) -> np.ndarray:
        """(side, side, 2): the px themselves, moved."""
        if side not in self._grids:
            at = np.arange(side, dtype=np.float32) + np.float32(self._shift)
            self._grids[side] = np.dstack(np.meshgrid(at, at))
        return self._grids[side]

    def _share(self, side: int) -> np.ndarray:
        """(side, side, 1): what a px counts in the 3 x 3 mean around it; there are fewer at the border."""
        if side not in self._shares:
            count = np.full(side, 3.0, np.float32)
            count[[0, -1]] = 2
            self._shares[side] = (1 / (count[:, None] * count))[..., None]
        return self._shares[side]


def _maps(x: Tensor) -> np.ndarray:
    """(B, C, H, W), channels last, as the (B, H, W, C) that it is."""
    return x.permute(0, 2, 3, 1).numpy()
