"""What becomes of a face over time, with weights that know a past: real pictures in motion."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers import FakeClock
from media import moving_portrait
from memories import loud_weights

from streamsr import size_limit
from streamsr.bench.drift import measure
from streamsr.clock import NS_PER_MS
from streamsr.enhancer import Enhancer, Session
from streamsr.face.background import Background
from streamsr.frame import Frame
from streamsr.memory import FADE_FRAMES, RECENT_FRAMES, FaceMemory
from streamsr.model.reading import GuideReading
from streamsr.model.weights import load_weights, save_weights
from streamsr.report import Outcome
from streamsr.session import Refused

SIZE = (200, 150)  # at scale 2 its face is restored at S = 256
ROUNDING = 0.5  # rms of the difference of two rounded pictures, and a little
PLENTY, LITTLE, LATE = 1e6, 1e-3, -1.0  # ms left: the network, the cache, nothing


@pytest.fixture(scope="module")
def enhancer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enhancer]:
    path = loud_weights(tmp_path_factory.mktemp("weights") / "recurrent.safetensors")
    with Enhancer(path, device="cpu") as enhancer:
        yield enhancer


def _talking(index: float) -> np.ndarray:
    """The portrait, who sways, opens her mouth and blinks."""
    picture = moving_portrait(0, *SIZE)
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]].astype(np.float32)
    up = 1.5 * np.cos(index / 7) * np.ones_like(rows)
    for x, y, sigma, speed in ((87, 68, 7, 3.0), (73, 45, 5, 4.0), (97, 45, 5, 4.0)):
        near = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
        up += 1.5 * near * np.sin(index / speed) * np.sign(rows - y)
    columns += 2 * np.sin(index / 9)
    return cv2.remap(picture, columns, rows + up, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


class _Stream:
    """A session whose frames come with the time that is left for them."""

    def __init__(self, enhancer: Enhancer, **options: int) -> None:
        self.clock = FakeClock()
        self.session: Session = enhancer.session(scale=2, clock=self.clock, **options)
        self.index = 0
        self.outcomes: list[Outcome] = []
        self.weights: list[float] = []
        self.landmarks = np.empty((0, 2))

    def show(self, image: np.ndarray, left_ms: float = PLENTY, *, cut: bool = False) -> np.ndarray:
        discontinuity = cut or self.index == 0
        frame = Frame(image, self.index, Fraction(1, 25), 0, self.index, discontinuity=discontinuity)
        self.index += 1
        tracked = self.session.track(frame)
        deadline_ns = self.clock.now_ns() + int(left_ms * NS_PER_MS)
        out, report = self.session.composite(self.session.restore(tracked, deadline_ns))
        for aligned, face in zip(tracked.faces, report.faces, strict=True):
            self.outcomes.append(face.outcome)
            self.weights.append(face.blend)
            self.landmarks = 2 * aligned.face.landmarks[:, :2]
        return out.image


def test_the_past_is_seen_and_the_noise_stays(enhancer: Enhancer) -> None:
    picture = _talking(0)
    stream, other = _Stream(enhancer), _Stream(enhancer)
    first = [each.show(picture) for each in (stream, other)]
    assert np.array_equal(*first)
    assert not np.array_equal(stream.show(picture), first[0])
    again = other.show(picture, cut=True)
    assert np.array_equal(again, first[0])  # without a past the same picture gives the same, noise and all


@pytest.mark.parametrize("event", ["scene cut", "lost track", "resolution"])
def test_a_new_beginning_knows_nothing_of_what_was(enhancer: Enhancer, event: str) -> None:
    stream, fresh = _Stream(enhancer), _Stream(enhancer)
    for index in range(4):
        stream.show(_talking(index))
    after = [_talking(index) for index in (10, 11, 12)]
    if event == "lost track":
        for _ in range(30):
            stream.show(np.full((SIZE[1], SIZE[0], 3), 90, np.uint8))
        fresh.show(np.full((SIZE[1], SIZE[0], 3), 90, np.uint8))
    if event == "resolution":
        after = [cv2.resize(picture, (220, 166)) for picture in after]
    for k, picture in enumerate(after):
        out = stream.show(picture, cut=event == "scene cut" and k == 0)
        assert np.array_equal(out, fresh.show(picture)), f"frame {k} after {event}"


def test_another_size_of_the_crop_knows_nothing_of_the_other(enhancer: Enhancer) -> None:
    """The face comes nearer until S changes: the trace of one size never meets a crop of the other."""
    stream = _Stream(enhancer)
    sizes = []
    for zoom in np.linspace(1, 2.2, 12):
        matrix = np.array([[zoom, 0, 87 * (1 - zoom)], [0, zoom, 55 * (1 - zoom)]])
        stream.show(cv2.warpAffine(_talking(0), matrix, SIZE, flags=cv2.INTER_CUBIC))
        memory = next(iter(stream.session._memories.values()))
        assert memory.trace is not None
        assert memory.trace.crop.size == memory.key[1]
        sizes.append(memory.key[1])
    assert sizes[0] == 256
    assert sizes[-1] == 512
    assert sorted(sizes) == sizes


def test_nothing_older_than_the_recent_frames_is_built_upon(
    enhancer: Enhancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After frames without the network the first one is that of a face never seen before."""
    pasts: list[bool] = []
    engine = enhancer._restorer._backend.engine
    recall = engine.recall

    def spied(found, y):  # type: ignore[no-untyped-def]
        pasts.extend(each is not None for each in found)
        return recall(found, y)

    monkeypatch.setattr(engine, "recall", spied)
    for without in (RECENT_FRAMES - 1, RECENT_FRAMES):
        pasts.clear()
        stream = _Stream(enhancer)
        for left_ms in [PLENTY] * 2 + [LITTLE] * without + [PLENTY] * 2:
            stream.show(_talking(stream.index), left_ms)
        assert pasts == [False, True, without < RECENT_FRAMES, True]
        assert stream.outcomes[2 : 2 + without] == [Outcome.CACHED] * without


def test_the_ladder_does_not_flash(enhancer: Enhancer) -> None:
    """Frames without the network among others: what comes and goes does so over several of them."""
    left_ms = [PLENTY] * 8 + [LITTLE] * 4 + [LATE] * 8 + [PLENTY] * 8
    stream, steady = _Stream(enhancer), _Stream(enhancer)
    before: tuple[np.ndarray, np.ndarray] | None = None
    jumps: dict[str, list[float]] = {"face": [], "mouth": [], "eyes": []}
    changes: dict[str, list[tuple[float, float]]] = {name: [] for name in jumps}
    effect: dict[str, float] = dict.fromkeys(jumps, 0.0)
    for left in left_ms:
        picture = _talking(stream.index / 4)
        now = stream.show(picture, left).astype(float), steady.show(picture).astype(float)
        untouched = Background(2).enlarge(picture).astype(float)
        for name, box in _regions(steady.landmarks).items():
            effect[name] = max(effect[name], _rms((now[1] - untouched)[box]))
            if before is not None:
                change = [(one - other)[box] for one, other in zip(now, before, strict=True)]
                jumps[name].append(_rms(change[0] - change[1]))
                changes[name].append((_rms(change[0]), _rms(change[1])))
        before = now
    assert stream.outcomes[8:16] == [Outcome.CACHED] * 8
    assert stream.outcomes[16:20] == [Outcome.SKIPPED] * 4
    assert np.allclose(stream.weights[19:26], [0, 0.2, 0.4, 0.6, 0.8, 1, 1])
    for name in jumps:
        with_switch, without = (max(column) for column in zip(*changes[name], strict=True))
        assert max(jumps[name]) < 1.5 / FADE_FRAMES * effect[name] + ROUNDING, name
        assert with_switch < 1.1 * without, name


def test_a_machine_too_slow_for_large_crops_restores_in_smaller_ones(
    enhancer: Enhancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(size_limit, "CALM_FRAMES", 6)
    monkeypatch.setattr(size_limit, "OVER_FRAMES", 13)
    stream, picture = _Stream(enhancer), moving_portrait(0, 400, 300)
    sizes = []
    for index in range(34):
        stream.show(picture, LITTLE if 2 <= index < 22 else PLENTY)
        sizes.append(next(iter(stream.session._memories.values())).key[1])
    fell = sizes.index(256)
    assert 12 < fell < 22 and sizes == [512] * fell + [256] * (28 - fell) + [512] * 6
    assert Outcome.RESTORED not in stream.outcomes[2:22] and set(stream.outcomes[22:]) == {Outcome.RESTORED}


def test_a_face_that_the_camera_shows_as_large_keeps_its_large_crops(
    enhancer: Enhancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a small crop it would pass for sharp, and never be restored."""
    monkeypatch.setattr(size_limit, "OVER_FRAMES", 13)
    stream, picture = _Stream(enhancer), moving_portrait(0, 800, 600)
    for index in range(32):
        stream.show(picture, LITTLE if 2 <= index < 30 else PLENTY)
        assert next(iter(stream.session._memories.values())).key[1] == 512
    assert Outcome.RESTORED not in stream.outcomes[2:30]
    assert stream.outcomes[-1] is Outcome.RESTORED


def test_what_a_smaller_crop_cannot_show_is_restored_again_once_there_is_time(
    enhancer: Enhancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A face that is sharp as the camera saw it needs nothing at S = 256, and much at 512."""
    monkeypatch.setattr(size_limit, "CALM_FRAMES", 6)
    monkeypatch.setattr(size_limit, "OVER_FRAMES", 13)
    observe = FaceMemory.observe

    def sharp_if_small(self: FaceMemory, reading: GuideReading, *, enlarged: bool = False) -> None:
        found = replace(reading, present_energy=1e6) if self.key[1] == 256 else reading
        observe(self, found, enlarged=enlarged)

    monkeypatch.setattr(FaceMemory, "observe", sharp_if_small)
    stream, picture = _Stream(enhancer), moving_portrait(0, 400, 300)
    for index in range(36):
        stream.show(picture, LITTLE if 2 <= index < 22 else PLENTY)
    assert Outcome.BYPASSED in stream.outcomes[22:28]
    assert stream.outcomes[-1] is Outcome.RESTORED and stream.session.largest_size == 512


def test_a_bypass_does_not_flash(enhancer: Enhancer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide changes its mind about a picture that stands still: the effect leaves in equal parts."""
    stream, picture = _Stream(enhancer), _talking(0)
    outs = [stream.show(picture) for _ in range(8)]
    memory = next(iter(stream.session._memories.values()))
    observe = memory.observe

    def sharp(reading, *, enlarged=False):  # type: ignore[no-untyped-def]
        observe(replace(reading, present_energy=1e6), enlarged=enlarged)

    monkeypatch.setattr(memory, "observe", sharp)
    outs += [stream.show(picture) for _ in range(12)]
    untouched = Background(2).enlarge(picture).astype(float)
    assert stream.outcomes[-1] is Outcome.BYPASSED
    assert np.array_equal(outs[-1], untouched)
    for name, box in _regions(stream.landmarks).items():
        effect = _rms((outs[7] - untouched)[box])
        most = max(_rms(b[box].astype(float) - a[box]) for a, b in pairwise(outs[7:]))
        assert most < 1.5 / FADE_FRAMES * effect + ROUNDING, name


def test_features_of_features_do_not_grow(tmp_path: Path) -> None:
    """Weights whose features, fed back, would be larger in every frame."""
    weights = load_weights()
    with torch.no_grad():
        kernel = weights.network.ports["256"].enter_memory.weight  # type: ignore[union-attr]
        for channel in range(64):
            kernel[channel, 48 + channel, 1, 1] = 1.5  # type: ignore[index]
    path = tmp_path / "loud.safetensors"
    save_weights(path, weights.network, weights.guide, replace(weights.description, recurrent=True))
    sizes = []
    with Enhancer(path, device="cpu") as loud:
        stream = _Stream(loud)
        for index in range(12):
            stream.show(_talking(index / 4))
            trace = next(iter(stream.session._memories.values())).trace
            assert trace is not None and trace.past is not None
            assert trace.past.features.square().mean() == pytest.approx(1, rel=1e-3)
            sizes.append(_rms(trace.residual))
    assert max(sizes[6:]) < 1.3 * max(sizes[1:6])


def test_what_an_overload_taught_does_not_keep_a_new_face_from_being_read(
    enhancer: Enhancer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = _Stream(enhancer)
    restorer = stream.session._restorer
    ask, composite = restorer.guide, stream.session._pictures.composite
    slow_ms = 0.0

    def guide(crops, deadline_ns=None):  # type: ignore[no-untyped-def]
        if deadline_ns is not None and deadline_ns < stream.clock.now_ns():
            raise Refused
        return ask(crops, deadline_ns)

    def composited(*arguments):  # type: ignore[no-untyped-def]
        time.sleep(slow_ms / 1e3)
        return composite(*arguments)

    monkeypatch.setattr(restorer, "guide", guide)
    monkeypatch.setattr(stream.session._pictures, "composite", composited)
    usual_ms = 0.0
    for index in range(6):
        began = time.perf_counter()
        stream.show(_talking(index))
        usual_ms = (time.perf_counter() - began) * 1e3
    slow_ms = 4 * usual_ms
    for index in range(4):  # with time enough, and a machine that is slow
        stream.show(_talking(index), cut=index == 0)
    assert stream.outcomes[-1] is Outcome.RESTORED
    slow_ms = 0.0
    stream.outcomes.clear()
    for index in range(60):  # a new face, enough for each frame, and the machine is itself again
        stream.show(_talking(index), 2.5 * usual_ms, cut=index == 0)
    assert stream.outcomes[0] is Outcome.SKIPPED and Outcome.RESTORED in stream.outcomes[30:]


@pytest.mark.parametrize("moves", [False, True])
def test_a_face_fed_its_own_past_stays_where_it_is(enhancer: Enhancer, moves: bool) -> None:
    session = enhancer.session(scale=2)
    loop = [_talking(index) for index in range(12 if moves else 1)]
    drift = measure(session, loop + loop[-2:0:-1], 120)
    session.close()
    assert drift.size_px == 256
    assert drift.steady, drift


def _regions(landmarks: np.ndarray) -> dict[str, tuple[slice, slice]]:
    parts = {
        "face": slice(0, 468),
        "mouth": [61, 291, 0, 17],
        "eyes": [33, 133, 159, 145, 263, 362, 386, 374],
    }
    boxes = {}
    for name, part in parts.items():
        x, y = landmarks[part].T
        boxes[name] = slice(int(y.min()) - 4, int(y.max()) + 4), slice(int(x.min()) - 4, int(x.max()) + 4)
    return boxes


def _rms(change: np.ndarray) -> float:
    return float(np.sqrt(np.square(change).mean()))
