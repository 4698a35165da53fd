"""The embedded sample in motion, and the live camera made of it."""

from __future__ import annotations

import threading
import time
from fractions import Fraction

import cv2
import numpy as np
import pytest

from streamsr.clock import NS_PER_MS, NS_PER_S
from streamsr.errors import ConfigError, SourceError
from streamsr.io.synthetic import SAMPLE_PX, TIME_BASE, DegradedSource, MotionSample, sample_picture


class HandClock:
    """Stands still until the test moves it."""

    def __init__(self) -> None:
        self.ns = 5 * NS_PER_S

    def now_ns(self) -> int:
        return self.ns


class SteppingClock:
    """Every look at it moves it on by ``step_ms``: pacing without waiting."""

    def __init__(self, step_ms: int) -> None:
        self.ns = 0
        self.step_ns = step_ms * NS_PER_MS

    def now_ns(self) -> int:
        self.ns += self.step_ns
        return self.ns


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(np.float64) - b) ** 2)
    return float(10 * np.log10(255**2 / error))


def test_the_embedded_picture() -> None:
    picture = sample_picture()
    assert picture.shape == (SAMPLE_PX, SAMPLE_PX, 3) and picture.dtype == np.uint8
    # RGB, not BGR: the suit is orange
    red, green, blue = picture[330, 150].astype(int)
    assert red > green + 60 > blue + 60


def test_frames_are_fixed_by_the_seed() -> None:
    first, again, other = MotionSample(30, seed=3), MotionSample(30, seed=3), MotionSample(30, seed=4)
    assert np.array_equal(first.frame(29), again.frame(29))
    assert np.array_equal(first.frame(7), first.frame(7))
    assert not np.array_equal(first.frame(29), other.frame(29))
    assert first.frame(0).shape == (SAMPLE_PX, SAMPLE_PX, 3) and first.frame(0).dtype == np.uint8


def test_a_longer_sample_begins_with_the_shorter_one() -> None:
    short, long = MotionSample(10, seed=1), MotionSample(100, seed=1)
    assert np.array_equal(short.frame(9), long.frame(9))


@pytest.mark.parametrize("seed", range(5))
def test_the_view_never_leaves_the_picture(seed: int) -> None:
    sample = MotionSample(500, seed=seed)
    last = SAMPLE_PX - 1
    corners = np.array([[0, 0], [last, 0], [last, last], [0, last]], np.float64)
    for index in range(0, 500, 7):
        inverse = cv2.invertAffineTransform(sample.matrix(index))
        seen = corners @ inverse[:, :2].T + inverse[:, 2]
        assert seen.min() > -1e-6 and seen.max() < last + 1e-6


def test_motion_is_there_and_gentle() -> None:
    sample = MotionSample(250)
    path = np.array([sample.face_px(index) for index in range(250)])
    step = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert 0.2 < np.median(step) < 4
    assert step.max() < 12
    assert np.ptp(path, axis=0).min() > 10


def test_face_px_follows_the_face() -> None:
    sample = MotionSample(60)
    start = sample.frame(0)
    x0, y0 = sample.face_px(0)
    left, top = round(x0) - 40, round(y0) - 40
    face = start[top : top + 80, left : left + 80]
    for index in (20, 40, 59):
        zoom = np.sqrt(np.linalg.det(sample.matrix(index)[:, :2]) / np.linalg.det(sample.matrix(0)[:, :2]))
        larger = cv2.resize(face, None, fx=zoom, fy=zoom)
        score = cv2.matchTemplate(sample.frame(index), larger, cv2.TM_CCOEFF_NORMED)
        _, best, _, (found_x, found_y) = cv2.minMaxLoc(score)
        x, y = sample.face_px(index)
        assert best > 0.8
        half = larger.shape[0] / 2
        assert abs(found_x + half - x) < 3 and abs(found_y + half - y) < 3


@pytest.mark.parametrize("index", [-1, 10])
def test_a_frame_outside_the_sample(index: int) -> None:
    with pytest.raises(IndexError, match=r"0\.\.9"):
        MotionSample(10).frame(index)


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="frames"):
        MotionSample(0)
    with pytest.raises(ConfigError, match="rate"):
        MotionSample(10, Fraction(0))
    with pytest.raises(ConfigError, match="crf"):
        DegradedSource(MotionSample(2), crf=52)


def test_the_camera_is_half_the_sample_and_coded() -> None:
    sample = MotionSample(12)
    source = DegradedSource(sample, crf=30, clock=SteppingClock(50))
    info = source.open()
    assert source.live
    assert (info.width, info.height, info.rate, info.time_base) == (256, 256, Fraction(25), TIME_BASE)
    assert info.frames is None
    for index in range(12):
        frame = source.read()
        assert frame is not None and frame.index == index
        assert frame.image.shape == (256, 256, 3) and frame.image.dtype == np.uint8
        assert frame.image.flags.c_contiguous
        half = cv2.resize(sample.frame(index), (256, 256), interpolation=cv2.INTER_AREA)
        assert 24 < psnr(frame.image, half) < 40
        # and it is this moment, not its neighbour held back by the decoder
        other = cv2.resize(sample.frame((index + 6) % 12), (256, 256), interpolation=cv2.INTER_AREA)
        assert psnr(frame.image, half) > psnr(frame.image, other) + 1
    assert source.read() is None
    assert source.read() is None
    source.close()


def test_a_higher_crf_costs_fewer_bytes() -> None:
    sizes = []
    for crf in (18, 30, 42):
        source = DegradedSource(MotionSample(8), crf=crf)
        assert source.coded_bytes == 0
        source.open()
        sizes.append(source.coded_bytes)
        source.close()
    assert sizes[0] > 1.5 * sizes[1] > 2 * sizes[2] > 0


@pytest.mark.parametrize("rate", [Fraction(25), Fraction(30_000, 1001)])
def test_pts_and_capture_times_follow_the_rate(rate: Fraction) -> None:
    clock = SteppingClock(50)
    source = DegradedSource(MotionSample(6, rate), clock=clock)
    source.open()
    frames = [source.read() for _ in range(6)]
    first = frames[0]
    assert first is not None and first.discontinuity
    for index, frame in enumerate(frames):
        assert frame is not None
        assert frame.pts == round(index * 90_000 / rate) and frame.time_base == Fraction(1, 90_000)
        assert frame.duration == round((index + 1) * 90_000 / rate) - frame.pts
        assert frame.captured_ns - first.captured_ns == round(index * NS_PER_S / rate)
        assert source.index(frame.pts) == index
        assert frame.discontinuity == (index == 0)
    source.close()


def test_a_frame_is_not_given_out_before_it_is_due() -> None:
    clock = HandClock()
    source = DegradedSource(MotionSample(3), clock=clock)
    source.open()
    first = source.read()
    assert first is not None and first.captured_ns == clock.ns
    got: list = []
    reader = threading.Thread(target=lambda: got.append(source.read()))
    reader.start()
    clock.ns += 39 * NS_PER_MS
    reader.join(0.15)
    assert reader.is_alive() and not got
    clock.ns += 1 * NS_PER_MS
    reader.join(2)
    assert got[0].captured_ns == first.captured_ns + 40 * NS_PER_MS
    source.close()


def test_a_late_reader_gets_every_frame_with_its_due_time() -> None:
    clock = HandClock()
    source = DegradedSource(MotionSample(6), clock=clock)
    source.open()
    start = source.read()
    assert start is not None
    clock.ns += NS_PER_S
    late = [source.read() for _ in range(5)]
    assert [frame.index for frame in late if frame] == [1, 2, 3, 4, 5]
    ages_ms = [(clock.ns - frame.captured_ns) // NS_PER_MS for frame in late if frame]
    assert ages_ms == [960, 920, 880, 840, 800]
    source.close()


def test_paced_by_the_real_clock() -> None:
    source = DegradedSource(MotionSample(11))
    source.open()
    source.read()
    start = time.monotonic()
    for _ in range(10):
        source.read()
    assert 0.38 < time.monotonic() - start < 1.0
    source.close()


def test_interrupt_ends_a_blocked_read() -> None:
    source = DegradedSource(MotionSample(3), clock=HandClock())
    source.open()
    source.read()
    got: list = []
    reader = threading.Thread(target=lambda: got.append(source.read()))
    reader.start()
    time.sleep(0.05)
    assert reader.is_alive()
    source.interrupt()
    reader.join(1)
    assert got == [None]
    source.close()


def test_interrupt_ends_open() -> None:
    source = DegradedSource(MotionSample(100_000))
    threading.Timer(0.1, source.interrupt).start()
    with pytest.raises(SourceError, match="interrupted"):
        source.open()
    source.close()


def test_replay_is_what_was_read() -> None:
    source = DegradedSource(MotionSample(5), clock=SteppingClock(50))
    with pytest.raises(SourceError, match="before open"):
        next(source.replay())
    source.open()
    read = [source.read() for _ in range(5)]
    source.close()
    again = list(source.replay())
    assert len(again) == 5
    for frame, image in zip(read, again, strict=True):
        assert frame is not None and np.array_equal(frame.image, image)


def test_close_may_be_called_twice_and_without_open() -> None:
    source = DegradedSource(MotionSample(2))
    source.close()
    source.close()
    with pytest.raises(SourceError, match="before open"):
        source.read()
