"""The picture around the faces: nearer to camera and truth than bicubic, which it is under a face."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from media import moving_portrait
from portrait import write_portrait_data

from streamsr.bench import background
from streamsr.bench.fidelity import psnr_y
from streamsr.face.background import Background, Cover, upscale
from streamsr.face.reduction import certificate

RNG = np.random.default_rng(5)
TRUTH = moving_portrait(0, 512, 512)


def reduced(truth: np.ndarray, scale: int, noise: float = 0.0) -> np.ndarray:
    small = cv2.resize(truth, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
    return np.clip(small + RNG.normal(0, noise, small.shape), 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("shape", [(45, 61), (1, 1), (1, 7), (3, 2)])
@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_size_and_place(scale: int, shape: tuple[int, int]) -> None:
    camera = np.ascontiguousarray(reduced(TRUTH, 4)[: shape[0], : shape[1]])
    out = Background(scale).enlarge(camera)
    assert out.shape == (scale * shape[0], scale * shape[1], 3) and out.dtype == np.uint8
    assert certificate(out, camera, scale)[0] < 4
    if scale == 1:
        assert out is not camera and (out == camera).all()


@pytest.mark.parametrize(("scale", "gain_db"), [(2, 0.4), (4, 0.3)])
def test_it_is_nearer_to_the_truth_and_to_the_camera_than_bicubic(scale: int, gain_db: float) -> None:
    camera = reduced(TRUTH, scale)
    out, plain = Background(scale).enlarge(camera), upscale(camera, scale)
    assert psnr_y(out, TRUTH) - psnr_y(plain, TRUTH) > gain_db
    assert certificate(out, camera, scale)[0] < 0.8 * certificate(plain, camera, scale)[0]


def test_noise_is_not_sharpened() -> None:
    flat = reduced(np.full((256, 256, 3), 120, np.uint8), 2, noise=3)
    plain, own, believed = (
        float(np.std(one.enlarge(flat)))
        for one in (Background(2, strength=0), Background(2), Background(2, noise=0))
    )
    assert own / plain < 1.05 < 1.08 < believed / plain


def test_under_a_face_it_is_bicubic() -> None:
    camera = reduced(TRUTH, 2)
    cover = Cover(np.ones((100, 80), np.float32), (60, 40, 140, 140))
    out, bare = (Background(2).enlarge(camera, faces) for faces in ([cover], []))
    plain = upscale(camera, 2)
    inside, outside = np.s_[88:272, 128:272], np.s_[290:, :]  # two px of the camera from the edge
    assert (out[inside] == plain[inside]).all() and (out[outside] == bare[outside]).all()
    assert (bare[inside] != plain[inside]).any()


def test_a_picture_of_another_size_finds_nothing_of_the_last_one() -> None:
    kept, camera = Background(2), reduced(TRUTH, 4)
    kept.enlarge(reduced(TRUTH, 2))
    assert (kept.enlarge(camera) == Background(2).enlarge(camera)).all()


def test_the_benchmark_on_a_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_portrait_data(tmp_path / "data")
    clip = next((data / "clips").glob("*.mp4")).stem
    _, rows = background.run(data, [clip], ["clean", "call"], frames=3)
    clean, call = rows[:2]
    assert clean["own"] > 0.2 and call["own"] > 0 and clean["own"] > clean["0.6_2"]
    assert [row["clip"] for row in rows[2:]] == ["mean", "mean"] and rows[2]["own"] == clean["own"]
    assert background.main(["--data", str(data), "--conditions", "foggy"]) == 2
    assert "conditions must be of" in capsys.readouterr().err
