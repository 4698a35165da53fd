from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from helpers import write_squeezenet
from safetensors.torch import save_file

from streamsr.errors import ConfigError
from streamsr.features import TAPS, feature_distance, load_squeezenet


def test_features_have_their_depths_and_tell_pictures_apart(tmp_path: Path) -> None:
    write_squeezenet(tmp_path)
    network = load_squeezenet(tmp_path)
    assert not any(p.requires_grad for p in network.parameters())
    g = torch.Generator().manual_seed(0)
    a = torch.rand(2, 3, 96, 96, generator=g) * 2 - 1
    b = a.clone()
    b[1] = torch.rand(3, 96, 96, generator=g) * 2 - 1
    taps = network(a)
    assert [tap.shape[1] for tap in taps] == list(TAPS)
    assert [tap.shape[2] for tap in taps] == [47, 23, 11, 5, 5]
    distance = feature_distance(taps, network(b))
    assert distance[0] < 1e-9
    assert distance[1] > 1e-4


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*squeezenet11_fp16\.safetensors"):
        load_squeezenet(tmp_path)
    (tmp_path / "peers").mkdir()
    save_file({"x": torch.zeros(1)}, tmp_path / "peers" / "squeezenet11_fp16.safetensors")
    with pytest.raises(ConfigError, match=r"holds no SqueezeNet 1\.1"):
        load_squeezenet(tmp_path)


@pytest.mark.data
def test_a_real_blur_is_further_away_than_a_shade() -> None:
    network = load_squeezenet(Path(os.environ["STREAMSR_DATA"]))
    face = np.ascontiguousarray(skimage.data.astronaut()[:256, 96:352])
    pictures = [face, cv2.GaussianBlur(face, (0, 0), 3), np.clip(face * 0.97, 0, 255).astype(np.uint8)]
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    taps = network(x)
    blur, shade = (
        float(feature_distance([t[:1] for t in taps], [t[i : i + 1] for t in taps])) for i in (1, 2)
    )
    assert blur > 10 * shade
