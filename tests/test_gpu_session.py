"""A whole session with its pictures on the device: what comes out is what the CPU's gives."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from gpu_fixtures import device, device_session, frame_of, launches, restorer, weights
from helpers import FakeClock, wait_until
from media import moving_portrait
from model_process import random_crop

from streamsr.bench.fidelity import psnr_y
from streamsr.clock import NS_PER_MS
from streamsr.enhancer import Enhancer
from streamsr.gpu.pictures import DevicePictures
from streamsr.model.restorer import Restorer
from streamsr.report import Outcome

__all__ = ["device", "launches", "restorer", "weights"]

FRAMES = 4
CAMERA_PX = {1: (200, 150), 2: (200, 150), 4: (160, 120)}  # by scale


@pytest.fixture(scope="module")
def on_cpu(weights: Path) -> Iterator[Enhancer]:
    with Enhancer(weights, device="cpu") as enhancer:
        yield enhancer


def _clip(scale: int, faces: int, count: int = FRAMES, first: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """(camera, truth) of ``faces`` women side by side, each at another moment."""
    width, height = CAMERA_PX[scale]
    pictures = []
    for index in range(first, first + count):
        parts = [moving_portrait(index + 3 * k, scale * width, scale * height) for k in range(faces)]
        truth = np.hstack(parts) if faces else np.ascontiguousarray(_nobody(scale, index))
        camera = cv2.resize(truth, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
        pictures.append((cv2.GaussianBlur(camera, (0, 0), 1.0) if scale == 1 else camera, truth))
    return pictures


def _nobody(scale: int, index: int) -> np.ndarray:
    """The portrait upside down, below its face."""
    width, height = CAMERA_PX[scale]
    return moving_portrait(index, scale * width, scale * height)[-scale * height // 3 :][::-1]


@pytest.mark.parametrize("faces", [0, 1, 3])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_it_gives_what_the_cpu_gives_by_the_kernels(
    restorer: Restorer, on_cpu: Enhancer, launches: Counter[str], scale: int, faces: int
) -> None:
    theirs = on_cpu.session(scale=scale, steps=1)
    quality = []
    with device_session(restorer, scale) as session:
        launches.clear()  # of its beginning
        for camera, truth in _clip(scale, faces):
            (out, report), (wanted, expected) = session.process(camera), theirs.process(camera)
            quality.append([psnr_y(each, truth) for each in (out, wanted)])
            assert [face.outcome for face in report.faces] == [Outcome.RESTORED] * faces
            assert [face.outcome for face in expected.faces] == [Outcome.RESTORED] * faces
            assert np.abs(out.astype(int) - wanted).mean() < 0.5
            assert report.certificate is not None and expected.certificate is not None
            assert report.certificate.rms == pytest.approx(expected.certificate.rms, rel=0.1, abs=0.02)
            assert report.certificate.rms <= report.certificate.rms_before
    theirs.close()
    mine, other = np.mean(quality, 0)
    assert abs(mine - other) < 0.1, (mine, other)
    sizes = {face.size_px for face in report.faces}
    assert launches["consistency"] == FRAMES
    assert launches["crop"] == (FRAMES if faces else 0)
    if restorer.device_type == "cpu":  # a graph launches on its own
        assert launches["flow"] == launches["ogwm"] == FRAMES * len(sizes)


def test_sessions_at_once_get_what_they_get_alone(restorer: Restorer) -> None:
    clips = [[camera for camera, _ in _clip(2, faces, 3, 5 * faces)] for faces in (1, 3, 1)]
    seeds = (0, 0, 7)
    backend, counts = restorer._backend, []
    restore = backend.restore

    def spied(asked, **options):  # type: ignore[no-untyped-def]
        counts.append(len(asked))
        return restore(asked, **options)

    def shown(clip: list[np.ndarray], seed: int) -> list[np.ndarray]:
        with device_session(restorer, 2, seed=seed) as session:
            return [session.process(camera)[0] for camera in clip]

    alone = [shown(clip, seed) for clip, seed in zip(clips, seeds, strict=True)]
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(len(clips)) as threads:
        patch.setattr(backend, "restore", spied)
        together = list(threads.map(shown, clips, seeds))
    assert sum(counts) == 3 * (1 + 3 + 1)
    for one, other in zip(alone, together, strict=True):
        for a, b in zip(one, other, strict=True):
            apart = np.abs(a.astype(int) - b)
            assert apart.max() <= 2 and apart.mean() < 0.02
    assert any((a != b).any() for a, b in zip(together[0], together[2], strict=True))


def test_calls_that_wait_together_are_evaluated_together_and_give_what_they_give_alone(
    restorer: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [[random_crop(256, 10 * k + face) for face in range(count)] for k, count in enumerate((1, 2, 1))]
    readings = [restorer.guide(crops) for crops in calls]
    before = [restorer.restore(*call) for call in zip(calls, readings, strict=True)]
    before[1] = [None, before[1][1]]  # type: ignore[list-item]
    alone = [restorer.restore(*call) for call in zip(calls, readings, before, strict=True)]
    counts = []
    restore = restorer._backend.restore

    def spied(asked, **options):  # type: ignore[no-untyped-def]
        counts.append(len(asked))
        return restore(asked, **options)

    monkeypatch.setattr(restorer._backend, "restore", spied)
    free, held = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        free.wait(10)

    with ThreadPoolExecutor(len(calls) + 1) as callers:
        callers.submit(restorer._batches.alone, hold)
        assert held.wait(10)
        asked = [
            callers.submit(restorer.restore, *call) for call in zip(calls, readings, before, strict=True)
        ]
        wait_until(lambda: len(restorer._batches._waiting) == len(calls), 10)
        free.set()
    assert counts == [4]
    for found, wanted in zip(asked, alone, strict=True):
        for one, other in zip(found.result(), wanted, strict=True):
            np.testing.assert_allclose(one.residual, other.residual, atol=0.05)
            np.testing.assert_allclose(one.past.features.cpu(), other.past.features.cpu(), atol=0.01)


def _untouched(camera: np.ndarray, restorer: Restorer) -> np.ndarray:
    pictures = DevicePictures(2, restorer.device)
    out, _ = pictures.composite(pictures.take(camera), [])
    assert isinstance(out, np.ndarray)
    return out


def test_frames_in_flight_on_three_threads_do_not_touch_each_other(restorer: Restorer) -> None:
    """As a pipeline has them: one is tracked while the one before is restored and that before composited."""
    clip = [camera for camera, _ in _clip(2, 1, 8)]
    with device_session(restorer, 2) as session:
        wanted = [session.process(camera)[0] for camera in clip]
    with device_session(restorer, 2) as session, ExitStack() as stack:
        tracking, restoring, compositing = (stack.enter_context(ThreadPoolExecutor(1)) for _ in range(3))
        tracked = [tracking.submit(session.track, frame_of(camera, k)) for k, camera in enumerate(clip)]
        restored = [restoring.submit(lambda each=each: session.restore(each.result())) for each in tracked]
        out = [compositing.submit(lambda each=each: session.composite(each.result())) for each in restored]
        frames = [each.result()[0] for each in out]
    for frame, picture in zip(frames, wanted, strict=True):
        assert np.array_equal(frame.image, picture)


@pytest.mark.parametrize("event", ["cut", "resolution"])
def test_a_new_beginning_knows_nothing_of_what_was(restorer: Restorer, event: str) -> None:
    before = [camera for camera, _ in _clip(2, 1)]
    after = [camera for camera, _ in _clip(2, 1, 2, first=20)]
    if event == "resolution":
        after = [cv2.resize(camera, (221, 166)) for camera in after]
    with device_session(restorer, 2) as session, device_session(restorer, 2) as fresh:
        for index, camera in enumerate(before):
            session.composite(session.restore(session.track(frame_of(camera, index))))
        for k, camera in enumerate(after):
            frame = frame_of(camera, len(before) + k, cut=event == "cut" and k == 0)
            out, report = session.composite(session.restore(session.track(frame)))
            assert report.cache_reset is (k == 0)
            wanted, _ = fresh.process(camera)
            assert np.array_equal(out.image, wanted)


def test_late_frames_are_given_detail_where_the_face_is_as_on_a_cpu(
    restorer: Restorer, on_cpu: Enhancer, launches: Counter[str]
) -> None:
    clock = FakeClock()
    theirs = on_cpu.session(scale=2, steps=1, clock=clock)
    with device_session(restorer, 2, clock=clock) as session:
        for index, (camera, _) in enumerate(_clip(2, 1, 5)):
            deadline_ns = clock.now_ns() + (1 if index % 3 else int(1e9))
            outs, reports = [], []
            launches.clear()
            for each in (session, theirs):
                out, report = each.composite(each.restore(each.track(frame_of(camera, index)), deadline_ns))
                outs.append(out.image.astype(int))
                reports.append(report.faces[0].outcome)
            assert reports == [Outcome.CACHED if index % 3 else Outcome.RESTORED] * 2
            assert np.abs(outs[0] - outs[1]).mean() < 0.5
            if index:
                assert launches["flow"] == launches["ogwm"] == 1
    theirs.close()


def test_late_frames_reuse_what_lies_on_the_device_and_then_fade(restorer: Restorer) -> None:
    camera = _clip(2, 1)[0][0]
    clock = FakeClock()
    outcomes, weights = [], []
    with device_session(restorer, 2, clock=clock) as session:
        for index, left_ms in enumerate([1e6, 1e6, 1e-3, *[-1.0] * 5]):
            tracked = session.track(frame_of(camera, index))
            deadline_ns = clock.now_ns() + int(left_ms * NS_PER_MS)
            out, report = session.composite(session.restore(tracked, deadline_ns))
            outcomes.append(report.faces[0].outcome)
            weights.append(report.faces[0].blend)
    assert outcomes[:4] == [Outcome.RESTORED, Outcome.RESTORED, Outcome.CACHED, Outcome.CACHED]
    assert outcomes[-1] is Outcome.SKIPPED
    assert weights[2] == 1 and np.allclose(weights[3:], [0.8, 0.6, 0.4, 0.2, 0])
    assert np.array_equal(out.image, _untouched(camera, restorer))


def test_a_face_the_guide_calls_sharp_comes_back_bit_for_bit(
    restorer: Restorer, monkeypatch: pytest.MonkeyPatch, launches: Counter[str]
) -> None:
    ask = restorer.guide

    def all_there(*arguments):  # type: ignore[no-untyped-def]
        return [replace(r, log_bands=np.full(7, np.log(1e-3), np.float32)) for r in ask(*arguments)]

    monkeypatch.setattr(restorer, "guide", all_there)
    camera = _clip(1, 1)[0][1]
    with device_session(restorer, 1) as session:
        launches.clear()  # of its beginning
        out, report = session.process(camera)
    assert [face.outcome for face in report.faces] == [Outcome.BYPASSED]
    assert np.array_equal(out, camera)
    assert launches["flow"] == 0


def test_a_tiny_face_is_never_repainted(restorer: Restorer) -> None:
    canvas = np.full((240, 240, 3), 110, np.uint8)
    tiny = moving_portrait(0, 400, 300)[0:200, 90:290]
    canvas[80:120, 80:120] = cv2.resize(tiny, (40, 40), interpolation=cv2.INTER_AREA)
    with device_session(restorer, 2) as session:
        out, report = session.process(canvas)
    assert [(face.outcome, face.nfe) for face in report.faces] == [(Outcome.TOO_SMALL, 0)]
    assert np.array_equal(out, _untouched(canvas, restorer))


def test_both_sizes_of_face_in_one_frame_and_more_steps_than_a_graph_has(
    restorer: Restorer, on_cpu: Enhancer
) -> None:
    near, far = moving_portrait(0, 400, 300), np.zeros((300, 200, 3), np.uint8)
    far[75:225] = moving_portrait(2, 200, 150)
    camera = np.hstack([near, far])
    theirs = on_cpu.session(scale=2, steps=5)
    with device_session(restorer, 2, steps=5) as session:
        for _ in range(2):
            (out, report), (wanted, _) = session.process(camera), theirs.process(camera)
            assert sorted(face.size_px for face in report.faces) == [256, 512]
            assert [face.nfe for face in report.faces] == [5, 5]
            assert np.abs(out.astype(int) - wanted).mean() < 0.5
    theirs.close()


def test_a_seed_fixes_the_output(restorer: Restorer) -> None:
    clip = [camera for camera, _ in _clip(2, 1, 2)]
    outs = []
    with ExitStack() as open_sessions:
        for seed in (3, 3, 4):
            session = open_sessions.enter_context(device_session(restorer, 2, seed=seed))
            outs.append([session.process(camera)[0] for camera in clip])
    for k in range(2):
        assert np.array_equal(outs[0][k], outs[1][k])
        assert not np.array_equal(outs[0][k], outs[2][k])
