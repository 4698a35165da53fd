from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from streamsr.errors import ConfigError
from streamsr.features import TAPS, SqueezeNet, feature_distance, load_squeezenet


def write_squeezenet(data: Path) -> None:
    """With weights of its layout, random."""
    (data / "peers").mkdir(exist_ok=True)
    torch.manual_seed(0)
    tensors = {name: value.half() for name, value in SqueezeNet().state_dict().items()}
    save_file(tensors, data / "peers" / "squeezenet11_fp16.safetensors")


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
def test_a_real_blur_is_further_away_than_a_shade(data_folder: Path) -> None:
    import cv2
    import numpy as np
    import skimage.data

    network = load_squeezenet(data_folder)
    face = np.ascontiguousarray(skimage.data.astronaut()[:256, 96:352])
    pictures = [face, cv2.GaussianBlur(face, (0, 0), 3), np.clip(face * 0.97, 0, 255).astype(np.uint8)]
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    taps = network(x)
    blur, shade = (
        float(feature_distance([t[:1] for t in taps], [t[i : i + 1] for t in taps])) for i in (1, 2)
    )
    assert blur > 10 * shade
