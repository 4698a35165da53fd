"""Measures over time: what moves is no error, what flickers is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from streamsr.bench.temporal import Motion, flow_error, motion, temporal_error


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return np.ascontiguousarray(astronaut()[20:213, 120:321])  # odd sides: (193, 201, 3)


def test_motion_finds_a_shift_and_what_left_the_picture(truth: np.ndarray) -> None:
    before, after = truth[:, 4:], truth[:, :-4]  # the picture moves 4 px to the right
    moved = motion(before, after)
    seen = moved.seen > 0
    assert seen[:, 10:].mean() > 0.8
    assert np.median(moved.flow[..., 0][seen]) == pytest.approx(-4, abs=0.2)
    assert moved.seen[:, :3].mean() < 0.2  # came into view only now


def test_temporal_error_sees_flicker_and_not_motion(truth: np.ndarray) -> None:
    before, after = truth[:, 4:], truth[:, :-4]
    moved = motion(before, after)
    warp, flicker = temporal_error((before, after), (before, after), moved)
    assert flicker == 0
    brighter = np.where(after < 245, after + 10, after).astype(np.uint8)
    bright_warp, bright_flicker = temporal_error((before, brighter), (before, after), moved)
    assert bright_flicker == pytest.approx(10, abs=1)
    assert bright_warp > warp
    frozen_warp, frozen_flicker = temporal_error((before, before), (before, after), moved)
    assert frozen_warp > 2 * warp
    assert frozen_flicker > 5
    nowhere = Motion(moved.flow, np.zeros_like(moved.seen))
    assert np.isnan(temporal_error((before, after), (before, after), nowhere)).all()


def test_flow_error_is_the_difference_of_the_motions(truth: np.ndarray) -> None:
    before, after = truth[:, 4:], truth[:, :-4]  # the picture moves 4 px to the right
    moved = motion(before, after)
    assert flow_error((before, after), moved) == 0
    frozen = flow_error((before, before), moved)
    assert frozen == pytest.approx(4, abs=0.3)
    half = flow_error((truth[:, 2:-2], after), moved)  # moves 2 px
    assert half == pytest.approx(2, abs=0.3)
    shaky = np.roll(after, 3, 0)
    assert flow_error((before, shaky), moved) > 2
    left = np.zeros(after.shape[:2], np.float32)
    left[:, 20:90] = 1
    broken = after.copy()
    broken[:, 130:] = cv2.flip(broken[:, 130:], 0)
    assert flow_error((before, broken), moved, left) < 0.2 < flow_error((before, broken), moved)
    assert np.isnan(flow_error((before, after), moved, 0 * left))
