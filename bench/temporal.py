"""What changes from frame to frame and ought not to; see luma.py for the terms."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from .luma import check_alike, luma_full, weighted_mean

__all__ = ["Motion", "flow_error", "motion", "temporal_error"]


@dataclass(frozen=True, slots=True)
class Motion:
    """flow: (H, W, 2) float32 px, from where each pixel of a frame came in the frame before, relative
    to itself. seen: (H, W) float32, 1 where it was in view there and the flow passes the
    forward-backward check (1 px): not occluded.
    """

    flow: np.ndarray
    seen: np.ndarray


def motion(previous: np.ndarray, current: np.ndarray) -> Motion:
    """Optical flow (DIS, Kroeger et al. 2016) between two following frames, (H, W, 3) uint8."""
    check_alike(current, previous, None)
    before, after = luma_full(previous), luma_full(current)
    forward, backward = _flow(after, before), _flow(before, after)
    height, width = after.shape
    source = _source(forward)
    returned = forward + cv2.remap(backward, source[..., 0], source[..., 1], cv2.INTER_LINEAR)
    inside = (source >= 0).all(2) & (source[..., 0] <= width - 1) & (source[..., 1] <= height - 1)
    return Motion(forward, (inside & ((returned**2).sum(2) < 1.0)).astype(np.float32))


def temporal_error(
    images: tuple[np.ndarray, np.ndarray],
    truths: tuple[np.ndarray, np.ndarray],
    moved: Motion,
    weight: np.ndarray | None = None,
) -> tuple[float, float]:
    """Change between two following frames (previous, current): of the picture, and too much of it.

    moved: ``motion(*truths)``. Returns (warp, flicker), rms in units of 1/255 of luma where the
    motion is seen, NaN if it is seen nowhere. warp (Ewarp, Lai et al. 2018, as rms): current - W
    previous; a blurred result makes it small, so it stands beside the truth's own and never alone.
    flicker: that change minus the truth's own, so only change that the truth does not have.
    """
    check_alike(images[1], truths[1], weight)
    seen = moved.seen if weight is None else moved.seen * weight
    if not seen.any():
        return float("nan"), float("nan")
    source = _source(moved.flow)

    def change(pair: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        before = cv2.remap(luma_full(pair[0]), source[..., 0], source[..., 1], cv2.INTER_LINEAR)
        return luma_full(pair[1]) - before

    changed, should = change(images), change(truths)
    warp, flicker = weighted_mean(changed**2, seen), weighted_mean((changed - should) ** 2, seen)
    return float(np.sqrt(warp)), float(np.sqrt(flicker))


def flow_error(
    images: tuple[np.ndarray, np.ndarray], moved: Motion, weight: np.ndarray | None = None
) -> float:
    """tOF (TecoGAN, Chu et al. 2020): L1 distance in px of the flow of two following frames (previous,
    current) from the truth's, ``moved``, averaged where the truth is not occluded; NaN if it all is.
    """
    check_alike(images[1], images[0], weight)
    seen = moved.seen if weight is None else moved.seen * weight
    if not seen.any():
        return float("nan")
    flow = _flow(luma_full(images[1]), luma_full(images[0]))
    return weighted_mean(np.abs(flow - moved.flow).sum(2), seen)


def _source(flow: np.ndarray) -> np.ndarray:
    """(H, W, 2) float32 px: where each pixel was."""
    height, width = flow.shape[:2]
    return flow + np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)


def _flow(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(H, W, 2) float32 px: where each pixel of ``start`` lies in ``end``, relative to itself."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    no_guess = np.zeros((*start.shape, 2), np.float32)
    return dis.calc(np.rint(start).astype(np.uint8), np.rint(end).astype(np.uint8), no_guess)
