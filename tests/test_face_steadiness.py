"""Detail held steady from frame to frame: where the face has moved, and only where it still fits."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from portrait import aligned_portrait, write_portrait_data

from streamsr.bench import steadiness
from streamsr.face.steadiness import COARSE, KEPT, Detailed, Seen, SteadyDetail


@pytest.fixture
def steady() -> SteadyDetail:
    return SteadyDetail()


@pytest.fixture(params=[256, 512])
def face(request: pytest.FixtureRequest) -> np.ndarray:
    """A big picture of a face, in which crops of S are cut; (S, S, 3) in its middle."""
    size = request.param
    return cv2.resize(aligned_portrait(), (size, size), interpolation=cv2.INTER_AREA)


def _detailed(x_in: np.ndarray, residual: np.ndarray) -> Detailed:
    y = cv2.resize(x_in, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    return Detailed(x_in, y, residual)


def _seen(x_in: np.ndarray) -> Seen:
    return Seen(*_detailed(x_in, x_in)[:2])


def _noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Fine detail of 5 levels, grey, with nothing coarse in it."""
    fine = np.random.default_rng(seed).normal(0, 5, shape[:2]).astype(np.float32)
    fine -= cv2.blur(fine, (COARSE + 1, COARSE + 1))
    return np.repeat(fine[..., None], 3, 2)


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def test_detail_of_a_face_at_rest_is_mixed_with_what_was(steady: SteadyDetail, face: np.ndarray) -> None:
    before, now = (_detailed(face, _noise(face.shape, seed)) for seed in (1, 2))
    mixed = KEPT * before.residual + (1 - KEPT) * now.residual
    assert _rms(steady(before, now) - mixed) < 0.03 * _rms(mixed)


def test_what_flickers_flickers_less_and_what_stays_stays(steady: SteadyDetail, face: np.ndarray) -> None:
    lasting = _noise(face.shape, 0)
    past = _detailed(face, lasting + _noise(face.shape, 1))
    changes = []
    for seed in range(2, 12):
        now = _detailed(face, lasting + _noise(face.shape, seed))
        held = steady(past, now)
        changes.append(_rms(held - past.residual))
        past = now._replace(residual=held)
    unheld = _rms(_noise(face.shape, 1) - _noise(face.shape, 2))
    assert max(changes[3:]) < 0.5 * unheld
    assert _rms(past.residual - lasting) < 0.6 * _rms(_noise(face.shape, 1))


def test_colour_and_coarse_light_are_this_frames_own(steady: SteadyDetail, face: np.ndarray) -> None:
    nothing = np.zeros(face.shape, np.float32)
    brighter = _detailed(face, nothing + np.float32([30, 20, 10]))
    assert np.abs(steady(_detailed(face, nothing), brighter) - brighter.residual).max() < 0.01
    fine = _noise(face.shape, 1)
    held = steady(_detailed(face, nothing), _detailed(face, fine * np.float32([1, 0, 0])))
    taken = held - fine * np.float32([1, 0, 0])
    assert np.ptp(taken, axis=2).max() < 1e-4


def test_detail_goes_with_the_face(steady: SteadyDetail, face: np.ndarray) -> None:
    """A face that moved by two px has its detail two px further, not where it was."""
    lasting = cv2.GaussianBlur(_noise(face.shape, 0), (0, 0), 1.5)
    moved, detail = (np.roll(each, 2, axis=1) for each in (face, lasting))
    held = steady(_detailed(face, lasting), _detailed(moved, np.zeros_like(lasting)))
    inner = np.s_[32:-32, 32:-32]
    follows = np.corrcoef(held[inner].ravel(), detail[inner].ravel())[0, 1]
    stays = np.corrcoef(held[inner].ravel(), lasting[inner].ravel())[0, 1]
    assert follows > 0.9 and follows > stays + 0.2


def test_where_the_picture_is_another_nothing_is_taken_over(steady: SteadyDetail, face: np.ndarray) -> None:
    """A hand before the mouth has no teeth on it."""
    size = len(face)
    hidden = face.copy()
    hidden[size // 2 :] = 255 - face[size // 2 :]
    now = _detailed(hidden, np.zeros(face.shape, np.float32))
    held = steady(_detailed(face, _noise(face.shape, 1)), now)
    below, above = held[size // 2 + size // 16 :], held[size // 16 : size // 2 - size // 16]
    assert _rms(below) < 0.1 * _rms(above)


def test_detail_is_carried_to_where_the_face_is(steady: SteadyDetail, face: np.ndarray) -> None:
    """In colour and in full, coarse light too: the frame has no other."""
    detail = cv2.GaussianBlur(_noise(face.shape, 0), (0, 0), 1.5) * np.float32([1, -1, 0.5]) + 4
    moved, wanted = (np.roll(each, 3, axis=1) for each in (face, detail))
    carried = steady.carried(_detailed(face, detail), _seen(moved))
    inner = np.s_[32:-32, 32:-32]
    assert _rms((carried - wanted)[inner]) < 0.5 * _rms((detail - wanted)[inner])
    assert carried.dtype == np.float32 and carried.shape == face.shape


def test_what_is_hidden_now_is_given_no_detail(steady: SteadyDetail, face: np.ndarray) -> None:
    size = len(face)
    hidden = face.copy()
    hidden[size // 2 :] = 255 - face[size // 2 :]
    carried = steady.carried(_detailed(face, _noise(face.shape, 1)), _seen(hidden))
    below, above = carried[size // 2 + size // 16 :], carried[size // 16 : size // 2 - size // 16]
    assert _rms(below) < 0.1 * _rms(above)


def test_the_benchmark_on_a_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_portrait_data(tmp_path / "data")
    clip = next((data / "clips").glob("*.mp4")).stem
    head, rows = steadiness.run(data, [clip], ["call"], scale=2, frames=8, kept=(0.0, 0.6))
    alone, held, *means = rows
    assert held["flicker"] < alone["flicker"] and held["warp_ratio"] < alone["warp_ratio"]
    assert held["psnr_y"] > alone["psnr_y"] - 0.1 and head["fidelity"] == 0.4
    assert [row["clip"] for row in means] == ["mean", "mean"] and means[1]["flicker"] == held["flicker"]
    _, rows = steadiness.run(data, [clip], ["clean"], scale=2, frames=6, kept=(0.6,), every=(1, 2, 6))
    each, second, first, *_ = rows
    assert [row["restored_share"] for row in (each, second, first)] == pytest.approx([1, 1 / 2, 1 / 6])
    assert min(each["psnr_y"], second["psnr_y"]) > first["psnr_y"] > each["psnr_y"] - 1.5
    assert steadiness.main(["--data", str(data), "--conditions", "foggy"]) == 2
    assert "conditions must be of" in capsys.readouterr().err
