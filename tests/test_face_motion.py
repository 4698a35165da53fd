from __future__ import annotations

import cv2
import numpy as np
import skimage.data

from streamsr.face.motion import MOTION_PX, MotionFinder


def _portrait(side: int = 256) -> np.ndarray:
    return cv2.resize(skimage.data.astronaut()[:256, 96:352], (side, side), interpolation=cv2.INTER_AREA)


def test_a_shift_is_found_where_there_is_something_to_see() -> None:
    before = _portrait()
    now = cv2.warpAffine(
        before, np.array([[1.0, 0, 6], [0, 1, -4]]), (256, 256), borderMode=cv2.BORDER_REFLECT
    )
    motion = MotionFinder().find(before, now)
    inner = slice(16, MOTION_PX - 16)
    assert motion.flow.shape == (MOTION_PX, MOTION_PX, 2)
    # what is at p now was at p + flow before; half the px of the picture
    assert np.allclose(np.median(motion.flow[inner, inner], (0, 1)), [-3, 2], atol=0.2)
    assert motion.valid[inner, inner].mean() > 0.95


def test_the_same_picture_has_not_moved() -> None:
    motion = MotionFinder().find(_portrait(512), _portrait(512))
    assert np.abs(motion.flow).max() < 0.05
    assert motion.valid.all()


def test_what_an_edge_covers_or_uncovers_is_not_valid() -> None:
    rng = np.random.default_rng(0)
    ground, block = (
        cv2.resize(rng.integers(0, 256, (side, side, 3), np.uint8), (8 * side, 8 * side)) for side in (32, 8)
    )
    before, now = ground.copy(), ground.copy()
    before[96:160, 80:144] = block
    now[96:160, 104:168] = block  # 12 px of the grid to the right
    valid = MotionFinder().find(before, now).valid
    assert valid[48:80, 36:88].mean() < 0.995
    assert valid[:32].all()
