"""The baselines of streamsr.bench, and the degraded clips they are run on."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from streamsr.bench import baselines, call_clip, clips, fidelity, luma, row, stills, throughput
from streamsr.errors import ConfigError, SourceError


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    return np.ascontiguousarray(astronaut()[10:202, 120:312])  # (192, 192, 3)


@pytest.mark.parametrize("upscale", [baselines.bicubic, baselines.lanczos, baselines.back_projection])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_shape_dtype_and_place(upscale: baselines.Upscaler, scale: int) -> None:
    # a smooth ramp comes back where it was: no shift of half a pixel
    across, down = np.meshgrid(np.arange(15 * scale), np.arange(9 * scale))
    ramp = np.stack([40 + across / scale * 8, 60 + down / scale * 8, 90 + 0 * down], -1)
    truth = np.rint(ramp).astype(np.uint8)
    out = upscale(luma.area_down(truth, scale), scale)
    assert out.shape == truth.shape
    assert out.dtype == np.uint8
    inner = np.s_[3 * scale : -3 * scale, 3 * scale : -3 * scale]
    assert np.abs(out[inner].astype(int) - truth[inner]).max() <= 1


@pytest.mark.parametrize("scale", [2, 4])
def test_back_projection_beats_interpolation_on_clean_input(truth: np.ndarray, scale: int) -> None:
    low = luma.area_down(truth, scale)
    out = baselines.back_projection(low, scale)
    plain = baselines.bicubic(low, scale)
    assert fidelity.psnr_y(out, truth) > fidelity.psnr_y(plain, truth) + 0.3
    assert fidelity.consistency(out, low, scale)[0] < 0.3 * fidelity.consistency(plain, low, scale)[0]


def test_a_missing_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"espcn at scale 4 expected in .*ESPCN_x4\.pb"):
        baselines.load_peer("espcn", 4, tmp_path)
    assert set(baselines.baselines(4, tmp_path)) == {"bicubic", "lanczos", "back_projection"}


def test_a_broken_network_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "peers").mkdir()
    (tmp_path / "peers" / "ESPCN_x2.pb").write_bytes(b"not a network")
    with pytest.raises(ConfigError, match="cannot read"):
        baselines.load_peer("espcn", 2, tmp_path)


@pytest.mark.data
@pytest.mark.parametrize("scale", [2, 4])
def test_published_networks_are_in_colour_and_in_place(truth: np.ndarray, scale: int) -> None:
    low = luma.area_down(truth, scale)
    plain = baselines.bicubic(low, scale)
    found = baselines.baselines(scale, Path(os.environ["STREAMSR_DATA"]))
    assert {"fsrcnn", "espcn"} <= set(found)
    for name in ("fsrcnn", "espcn"):
        out = found[name](low, scale)
        assert out.shape == truth.shape
        assert fidelity.psnr_y(out, truth) > fidelity.psnr_y(plain, truth), name
        # channels in order: swapped red and blue would be tens of levels off
        assert np.abs(cv2.blur(out, (9, 9)).astype(int) - cv2.blur(truth, (9, 9))).mean() < 4
        with pytest.raises(ValueError, match="loaded for scale"):
            found[name](low, scale * 2)


def moving_clip(path: Path, truth: np.ndarray, frames: int = 6) -> Path:
    """A lossless clip of (72, 101, 3) pictures, 29.97 fps, that pans over ``truth``."""
    pictures = [
        clips.Picture(np.ascontiguousarray(truth[20 + k : 92 + k, 30:131]), 1001 * k, Fraction(1, 30000))
        for k in range(frames)
    ]
    assert clips.write_clip(path, pictures, Fraction(30000, 1001)) == frames
    return path


def test_a_clip_comes_back_bit_for_bit_and_on_time(truth: np.ndarray, tmp_path: Path) -> None:
    clip = moving_clip(tmp_path / "clip.mkv", truth)
    found = list(clips.read_clip(clip))
    assert len(found) == 6
    for k, picture in enumerate(found):
        assert np.array_equal(picture.image, truth[20 + k : 92 + k, 30:131])
        assert float(picture.pts * picture.time_base) == pytest.approx(k * 1.001 / 30, abs=6e-4)
    assert len(list(clips.read_clip(clip, frames=2))) == 2


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_clean_camera_is_the_block_average_of_the_cropped_clip(
    truth: np.ndarray, tmp_path: Path, scale: int
) -> None:
    clip = moving_clip(tmp_path / "clip.mkv", truth)
    degraded = clips.degrade(clip, "clean", scale, tmp_path, frames=3)
    assert degraded.frames == 3
    assert degraded.width % (2 * scale) == degraded.height % (2 * scale) == 0
    clean = list(clips.clean_pictures(clip, scale, 3))
    camera = list(clips.read_clip(degraded.camera))
    for truth_picture, seen in zip(clean, camera, strict=True):
        assert truth_picture.image.shape[:2] == (degraded.height, degraded.width)
        assert np.array_equal(seen.image, luma.area_down(truth_picture.image, scale))


def test_call_and_cctv_lose_more_but_shift_neither_colour_nor_place(
    truth: np.ndarray, tmp_path: Path
) -> None:
    clip = moving_clip(tmp_path / "clip.mkv", truth)
    clean = [picture.image for picture in clips.clean_pictures(clip, 2)]
    losses = []
    for condition in ("clean", "call", "cctv"):
        camera = [p.image for p in clips.read_clip(clips.degrade(clip, condition, 2, tmp_path).camera)]
        assert len(camera) == len(clean)
        low = luma.area_down(clean[-1], 2)
        # studio range or matrix mixed up would shift the mean by ten levels
        assert np.abs(camera[-1].mean((0, 1)) - low.mean((0, 1))).max() < 3
        losses.append(fidelity.psnr_y(camera[-1], low))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] > 18


def test_degrading_is_fixed_by_its_seed(truth: np.ndarray, tmp_path: Path) -> None:
    clip = moving_clip(tmp_path / "clip.mkv", truth)

    def last(seed: int) -> np.ndarray:
        *_, picture = clips.read_clip(clips.degrade(clip, "cctv", 2, tmp_path, seed=seed).camera)
        return picture.image

    assert np.array_equal(last(3), last(3))
    assert not np.array_equal(last(3), last(4))


def test_unusable_clips_are_refused(truth: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot open"):
        clips.degrade(tmp_path / "none.mp4", "clean", 4, tmp_path)
    clip = moving_clip(tmp_path / "clip.mkv", truth)
    with pytest.raises(ConfigError, match="condition must be"):
        clips.degrade(clip, "fog", 4, tmp_path)
    with pytest.raises(ConfigError, match="scale must be"):
        clips.degrade(clip, "clean", 3, tmp_path)
    small = tmp_path / "small.mkv"
    clips.write_clip(small, [clips.Picture(truth[:12, :12].copy(), 0, Fraction(1, 25))], Fraction(25))
    with pytest.raises(ConfigError, match="at least 16 px"):
        clips.degrade(small, "clean", 8, tmp_path)


def test_a_coded_still_stays_where_it_was(truth: np.ndarray) -> None:
    face = cv2.resize(truth, (96, 96), interpolation=cv2.INTER_AREA)
    coded = stills.coded_face(face)
    assert coded.shape == face.shape
    scores = {dx: fidelity.psnr_y(coded[:, 2:-2], np.roll(face, dx, 1)[:, 2:-2]) for dx in (-1, 0, 1)}
    assert max(scores, key=lambda dx: scores[dx]) == 0
    assert 24 < scores[0] < 45  # coded, and not beyond recognition


def test_template_matrix_of_a_still_maps_its_corners() -> None:
    corners = stills.template_matrix(128) @ np.array([[-0.5, 127.5], [-0.5, 127.5], [1, 1]])
    assert corners == pytest.approx(np.array([[-0.5, 511.5], [-0.5, 511.5]]))
    ellipse = stills.central_ellipse(128)
    area = np.pi * 140 * 180 / 512**2  # of the picture
    assert ellipse.mean() == pytest.approx(area, rel=0.01)


def test_a_call_of_four_shows_four_clips(truth: np.ndarray, tmp_path: Path) -> None:
    paths = []
    for index, channel in enumerate((0, 1, 2, None)):
        colour = np.zeros((40, 40, 3), np.uint8)
        colour[..., channel if channel is not None else slice(None)] = 200
        paths.append(tmp_path / f"{index}.mkv")
        pictures = [clips.Picture(colour, k, Fraction(1, 25)) for k in range(3 + index)]
        clips.write_clip(paths[-1], pictures, Fraction(25))
    made = list(call_clip.call_pictures(paths, 10))
    assert len(made) == 3  # the shortest clip ends it
    image = made[-1].image
    assert image.shape == (360, 640, 3)
    seen = [tuple(image[y, x] > 100) for y in (90, 270) for x in (160, 480)]
    assert seen == [(True, False, False), (False, True, False), (False, False, True), (True, True, True)]


def test_memory_growth_ignores_the_first_minute() -> None:
    filling = list(np.linspace(0, 500, 60))
    assert throughput.rss_growth_mb(filling + [500.0] * 180) == 0
    assert throughput.rss_growth_mb(filling + list(np.arange(240.0))) == pytest.approx(180)
    assert throughput.rss_growth_mb([1.0] * 179) is None


def test_rows_end_in_a_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    row.emit({"bench": "x"}, [{"a": float("nan"), "b": float("inf"), "c": 1.5}], ["a", "c"])
    *table, last = capsys.readouterr().out.splitlines()
    assert any("1.5" in line for line in table)
    assert json.loads(last) == {"bench": "x", "rows": [{"a": None, "b": None, "c": 1.5}]}
    head = row.circumstances("x", ["--data", "a b"], "cpu")
    assert head["command"] == "streamsr bench x --data 'a b'"
    assert head["cores"] >= 1
