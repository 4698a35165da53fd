"""Measures with the user's own weights: real TorchScript files, and closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from portrait import aligned_portrait
from scipy.linalg import sqrtm
from torch import Tensor, nn

from streamsr.bench.stills import template_matrix
from streamsr.bench.user_networks import ARCFACE_FIVE, ArcFace, Lpips, VideoFeatures, frechet_distance
from streamsr.errors import ConfigError
from streamsr.face.alignment import TEMPLATE_FIVE, similarity


class Distance(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().mean((1, 2, 3), keepdim=True)


class Means(nn.Module):
    """The mean colour of each half, top and bottom: (B, 6)."""

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[-2] // 2
        halves = [x[..., :half, :].flatten(2).mean(2), x[..., half:, :].flatten(2).mean(2)]
        return torch.cat(halves, 1)


def script(network: nn.Module, path: Path) -> Path:
    torch.jit.script(network).save(str(path))
    return path


def test_lpips_sees_pictures_in_its_range(tmp_path: Path) -> None:
    lpips = Lpips(script(Distance(), tmp_path / "lpips.pt"))
    black, white = np.zeros((40, 30, 3), np.uint8), np.full((40, 30, 3), 255, np.uint8)
    assert lpips.distance(black, black) == 0
    assert lpips.distance(black, white) == pytest.approx(4)  # from -1 to 1


def test_arcface_sees_its_own_alignment(tmp_path: Path) -> None:
    face = aligned_portrait()
    arcface = ArcFace(script(Means(), tmp_path / "arcface.pt"))
    direction = arcface.embed(face, template_matrix(512))
    assert np.linalg.norm(direction) == pytest.approx(1)
    # half of the chip's height, 56 px, is 0.6 of the template's: where that lies, the halves part
    to_chip = similarity(TEMPLATE_FIVE, ARCFACE_FIVE)
    middle = (55.5 - to_chip[1, 2]) / to_chip[1, 1]
    marked = np.zeros_like(face)
    marked[round(middle) :] = 255
    top_and_bottom = arcface.embed(marked, template_matrix(512))
    assert top_and_bottom[:3] == pytest.approx(-top_and_bottom[3:], abs=0.03)


def test_frechet_distance_is_that_of_the_matrix_root() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (40, 5)), rng.normal(0.5, 2, (30, 5)) @ rng.normal(0, 1, (5, 5))
    covariances = [np.cov(each, rowvar=False) for each in (a, b)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(sum(covariances) - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_fvd_takes_windows_of_a_video_and_none_across_a_cut(tmp_path: Path) -> None:
    videos = VideoFeatures(script(Means(), tmp_path / "fvd.pt"))
    face, matrix = aligned_portrait()[::2, ::2], template_matrix(256)
    dark = face // 2
    for clip in range(2):
        for k in range(24):  # two windows each
            videos.add(("truth",), np.roll(face, k + 30 * clip, 0), matrix)
            videos.add(("same",), np.roll(face, k + 30 * clip, 0), matrix)
            videos.add(("dark",), np.roll(dark, k + 30 * clip, 0), matrix)
        videos.cut()
    for k in range(15):
        videos.add(("short",), np.roll(face, k, 0), matrix)
    assert videos.distance(("same",), ("truth",)) == pytest.approx(0, abs=1e-9)
    assert videos.distance(("dark",), ("truth",)) > 0.01
    assert np.isnan(videos.distance(("short",), ("truth",)))
    assert len(videos._features[("truth",)]) == 4


def test_files_of_another_contract_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no network")
    with pytest.raises(ConfigError, match=r"--lpips .*text\.pt is no TorchScript"):
        Lpips(tmp_path / "text.pt")
    with pytest.raises(ConfigError, match=r"--fvd .*none\.pt is no TorchScript"):
        VideoFeatures(tmp_path / "none.pt")
    grey = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(ConfigError, match=r"--lpips .*does not take \(1, 3, 32, 32\) and"):
        Lpips(script(Means(), tmp_path / "one.pt")).distance(grey, grey)
    with pytest.raises(ConfigError, match="must give one distance"):
        Lpips(script(Images(), tmp_path / "images.pt")).distance(grey, grey)
    with pytest.raises(ConfigError, match=r"must give \(1, D\)"):
        ArcFace(script(nn.Identity(), tmp_path / "same.pt")).embed(grey, np.eye(2, 3))


class Images(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a - b
