"""The enhancer with the packaged weights on a real portrait."""

from contextlib import closing
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from helpers import FakeClock

from streamsr.aligner import Tracked
from streamsr.clock import NS_PER_MS
from streamsr.enhancer import Enhancer, Session
from streamsr.errors import ConfigError, FrameError
from streamsr.face.alignment import crop_aligned, rescale_template, similarity
from streamsr.face.background import Background
from streamsr.frame import Frame
from streamsr.memory import FADE_FRAMES
from streamsr.model.crop import Crop
from streamsr.model.restorer import GuideReading
from streamsr.report import FrameReport, Outcome


@pytest.fixture(scope="module")
def enhancer() -> Enhancer:
    return Enhancer(device="cpu")


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return np.ascontiguousarray(skimage.data.astronaut())  # (512, 512, 3), its face about 90 px wide


@pytest.fixture(scope="module")
def camera(portrait: np.ndarray) -> np.ndarray:
    return cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA)


def _frame(image: np.ndarray, index: int, captured_ns: int = 0) -> Frame:
    return Frame(image, index, Fraction(1, 25), captured_ns, index, discontinuity=index == 0)


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_a_face_is_restored_at_every_scale(enhancer: Enhancer, camera: np.ndarray, scale: int) -> None:
    small = camera if scale <= 2 else cv2.resize(camera, (160, 160), interpolation=cv2.INTER_AREA)
    session = enhancer.session(scale=scale)
    out, report = session.process(small)
    session.close()
    assert out.shape == (small.shape[0] * scale, small.shape[1] * scale, 3)
    assert out.dtype == np.uint8
    assert [face.outcome for face in report.faces] == [Outcome.RESTORED]
    assert report.faces[0].nfe == 1
    assert report.certificate is not None
    assert report.certificate.rms <= report.certificate.rms_before
    assert set(report.stage_ms) == {"track", "align", "guide", "net", "composite"}


def test_the_output_is_nearer_to_the_truth_than_bicubic(
    enhancer: Enhancer, camera: np.ndarray, portrait: np.ndarray
) -> None:
    session = enhancer.session(scale=2, fidelity=1.0)
    out, report = session.process(camera)
    x, y, w, h = (2 * v for v in report.faces[0].roi_px)
    face = slice(y, y + h), slice(x, x + w)
    bicubic = cv2.resize(camera, (512, 512), interpolation=cv2.INTER_CUBIC)
    error = [np.square(p[face].astype(float) - portrait[face]).mean() for p in (bicubic, out)]
    assert error[1] < error[0]


def test_nothing_far_from_a_face_is_touched(enhancer: Enhancer, camera: np.ndarray) -> None:
    out, _ = enhancer.session(scale=2).process(camera)
    untouched = Background(2).enlarge(camera)
    assert np.array_equal(out[400:], untouched[400:])
    assert not np.array_equal(out[:300], untouched[:300])


def test_a_picture_without_a_face_is_resized(enhancer: Enhancer) -> None:
    grey = np.full((90, 121, 3), 77, np.uint8)
    out, report = enhancer.session(scale=2).process(grey)
    assert out.shape == (180, 242, 3)
    assert (out == 77).all()
    assert report.faces == ()
    assert report.certificate is not None
    assert report.certificate.max == 0


def test_switched_off_it_lets_the_upscaled_original_through(enhancer: Enhancer, camera: np.ndarray) -> None:
    with closing(enhancer.session(scale=2)) as session:
        session.enabled = False
        out, report = session.process(camera)
        np.testing.assert_array_equal(out, Background(2).enlarge(camera))
        assert report.faces == ()
        session.enabled = True
        out, report = session.process(camera)
        assert report.restored == 1 and (out != Background(2).enlarge(camera)).any()


def test_one_pixel_is_a_frame(enhancer: Enhancer) -> None:
    out, report = enhancer.session(scale=2).process(np.full((1, 1, 3), 9, np.uint8))
    assert out.shape == (2, 2, 3)
    assert report.faces == ()


def test_a_face_the_guide_calls_sharp_comes_back_bit_for_bit(
    enhancer: Enhancer, portrait: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    restorer = enhancer._restorer
    ask = restorer.guide

    def all_there(crops: list[Crop], deadline_ns: int | None = None) -> list[GuideReading]:
        return [replace(r, log_bands=np.full(7, np.log(1e-3), np.float32)) for r in ask(crops)]

    monkeypatch.setattr(restorer, "guide", all_there)
    out, report = enhancer.session(scale=1).process(portrait)
    assert [face.outcome for face in report.faces] == [Outcome.BYPASSED]
    assert report.faces[0].nfe == 0
    assert np.array_equal(out, portrait)


def test_an_ordinary_call_at_scale_2_is_not_bypassed(enhancer: Enhancer, camera: np.ndarray) -> None:
    session = enhancer.session(scale=2)
    outcomes = [session.process(camera)[1].faces[0].outcome for _ in range(12)]
    assert set(outcomes) == {Outcome.RESTORED}


def test_a_tiny_face_is_never_repainted(enhancer: Enhancer, portrait: np.ndarray) -> None:
    tiny = cv2.resize(portrait[:256, 100:356], (56, 56), interpolation=cv2.INTER_AREA)  # face about 21 px
    canvas = np.full((240, 240, 3), 110, np.uint8)
    canvas[80:136, 80:136] = tiny
    out, report = enhancer.session(scale=2).process(canvas)
    assert [(face.outcome, face.nfe) for face in report.faces] == [(Outcome.TOO_SMALL, 0)]
    assert np.array_equal(out, Background(2).enlarge(canvas))


def test_a_seed_fixes_the_output_and_sessions_do_not_share_state(
    enhancer: Enhancer, camera: np.ndarray
) -> None:
    first = enhancer.session(scale=2, seed=3)
    second = enhancer.session(scale=2, seed=3)
    moved = np.roll(camera, 2, axis=1)
    a = [first.process(image)[0] for image in (camera, moved)]
    other = enhancer.session(scale=2, seed=4).process(camera)[0]
    b = [second.process(image)[0] for image in (camera, moved)]
    assert np.array_equal(a[0], b[0])
    assert np.array_equal(a[1], b[1])
    assert not np.array_equal(a[0], other)


def test_steps_are_counted(enhancer: Enhancer, camera: np.ndarray) -> None:
    _, report = enhancer.session(scale=2, steps=3).process(camera)
    assert report.faces[0].nfe == 3


def _enhanced(
    session: Session, tracked: Tracked, deadline_ns: int | None = None
) -> tuple[Frame, FrameReport]:
    return session.composite(session.restore(tracked, deadline_ns))


def _tracked_after_learning(session: Session, camera: np.ndarray, clock: FakeClock):
    _enhanced(session, session.track(_frame(camera, 0)))  # learns what a step costs
    return session.track(_frame(camera, 1, clock.now_ns()))


def test_late_live_frames_step_down_the_ladder(enhancer: Enhancer, camera: np.ndarray) -> None:
    clock = FakeClock()
    session = enhancer.session(scale=2, steps=2, clock=clock)
    tracked = _tracked_after_learning(session, camera, clock)
    _, in_time = _enhanced(session, tracked, clock.now_ns() + 100_000 * NS_PER_MS)
    _, hurried = _enhanced(session, tracked, clock.now_ns() + NS_PER_MS // 100)
    shown = []
    for _ in range(FADE_FRAMES):
        picture, late = _enhanced(session, tracked, clock.now_ns() - NS_PER_MS)
        shown.append(late.faces[0].blend)
    assert in_time.faces[0].outcome is Outcome.RESTORED
    assert in_time.faces[0].nfe == 2
    assert hurried.faces[0].outcome is Outcome.CACHED
    assert np.allclose(shown, [0.8, 0.6, 0.4, 0.2, 0])
    assert late.faces[0].outcome is Outcome.SKIPPED
    assert np.array_equal(picture.image, Background(2).enlarge(camera))


def test_a_discontinuity_begins_a_new_memory(enhancer: Enhancer, camera: np.ndarray) -> None:
    session = enhancer.session(scale=2)
    _enhanced(session, session.track(_frame(camera, 0)))
    tracked = session.track(Frame(camera, 1, Fraction(1, 25), 0, 1, discontinuity=True))
    assert all(aligned.face.fresh for aligned in tracked.faces)
    _, report = _enhanced(session, tracked)
    assert report.faces[0].outcome is Outcome.RESTORED


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"must be \(H, W, 3\), got \(4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), "must be uint8, got float32"),
        (np.zeros((0, 4, 3), np.uint8), r"must be \(H, W, 3\), got \(0, 4, 3\)"),
        ("no picture", "must be a numpy array, got str"),
        (np.zeros((2, 9000, 3), np.uint8), "output side must be at most 16384 px, got 18000"),
    ],
)
def test_bad_frames_are_named(enhancer: Enhancer, image: np.ndarray, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        enhancer.session(scale=2).process(image)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 3}, "scale must be one of"),
        ({"fidelity": 1.5}, "fidelity must be in 0..1, got 1.5"),
        ({"steps": 0}, 'steps must be "auto" or in 1..64, got 0'),
    ],
)
def test_bad_options_are_named(enhancer: Enhancer, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        enhancer.session(**options)
    with pytest.raises(ConfigError, match="threads must be at least 1"):
        Enhancer(threads=0)


def test_alignment_used_here_is_the_one_the_network_was_trained_with(portrait: np.ndarray) -> None:
    """A crop of the crop's own picture is itself: geometry of training and running agree."""
    five = np.array([[193, 240], [319, 240], [257, 314], [201, 371], [313, 371]], np.float64)
    identity = similarity(five)
    assert np.abs(crop_aligned(portrait, identity, 512).astype(int) - portrait).max() == 0
    half = crop_aligned(portrait, identity, 256)
    assert (
        np.abs(half.astype(int) - cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA)).max() <= 1
    )
    assert np.allclose(rescale_template(identity, 256) @ [511.5, 511.5, 1], [255.5, 255.5])


def test_the_network_left_global_torch_state_alone(enhancer: Enhancer) -> None:
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() is torch.float32
