from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from memories import nothing

from streamsr.model.network import GUIDE_OUTPUTS, PRESETS, Condition, Network
from streamsr.model.recurrence import Past, recall, warp


def _flow(x: float, y: float, side: int = 32) -> torch.Tensor:
    return torch.tensor([x, y]).view(1, 2, 1, 1).expand(1, 2, side, side)


def test_a_warp_by_whole_pixels_moves_them() -> None:
    x = torch.randn(1, 3, 64, 64)
    moved = warp(x, _flow(2, -1), s=2)  # px of the flow's grid, twice as coarse
    assert torch.allclose(moved[..., 2:, :60], x[..., :62, 4:], atol=1e-4)


def test_a_plain_warp_is_bilinear() -> None:
    x = torch.randn(1, 1, 32, 32)
    moved = warp(x, _flow(0.25, 0), s=1)
    assert torch.allclose(moved[..., :31], 0.75 * x[..., :31] + 0.25 * x[..., 1:], atol=1e-5)


@pytest.mark.parametrize("s", [2, 4])
def test_one_lookup_is_enlarging_warping_and_reducing(s: int) -> None:
    """The three steps of OGWM, written out: repetition, bilinear warp, the middle of each s x s."""
    g = torch.Generator().manual_seed(s)
    x, side = torch.randn(1, 2, 16, 16, generator=g), 16
    flow = F.interpolate(torch.randn(1, 2, 4, 4, generator=g), side, mode="bicubic")
    large = x.repeat_interleave(s, 2).repeat_interleave(s, 3)
    at = torch.arange(side) * s + (s - 1) / 2  # where the middle of a pixel lies when it is enlarged
    columns, rows = at + s * flow[:, 0], at[:, None] + s * flow[:, 1]
    grid = torch.stack([columns, rows], 3) / (side * s - 1) * 2 - 1
    expected = F.grid_sample(large, grid, mode="bilinear", padding_mode="border", align_corners=True)
    inner = slice(2, -2)
    assert torch.allclose(warp(x, flow, s)[..., inner, inner], expected[..., inner, inner], atol=1e-4)


def test_repeated_warps_blur_less_with_rescaling() -> None:
    x = torch.randn(1, 1, 64, 64)
    energy = []
    for s in (1, 2, 4):
        y = x
        for k in range(10):
            y = warp(y, _flow(0.3 if k % 2 else -0.3, 0), s)
        energy.append(float((y[..., 1:] - y[..., :-1]).square().mean()))
    assert energy[0] < energy[1] < energy[2]


def _past(size: int = 64) -> Past:
    return Past(
        torch.rand(1, 3, size, size), torch.rand(1, 3, size // 4, size // 4), torch.rand(1, 8, 16, 16)
    )


def test_a_still_picture_is_remembered_as_it_was() -> None:
    past, valid = _past(), torch.ones(1, 1, 32, 32)
    memory = recall(past, past.y, _flow(0, 0), valid)
    assert torch.allclose(memory.picture, past.picture, atol=1e-5)
    assert torch.allclose(memory.features, past.features, atol=1e-5)
    assert memory.mask.shape == (1, 1, 16, 16)
    assert memory.mask.min() > 0.999
    assert memory.difference.abs().max() < 1e-5


def test_where_the_camera_sees_something_else_nothing_is_remembered() -> None:
    past, valid = _past(), torch.ones(1, 1, 32, 32)
    y = past.y.clone()
    y[..., :8, :] += 0.5
    valid[..., 24:, :] = 0
    mask = recall(past, y, _flow(0, 0), valid).mask
    assert mask[..., :6, :].max() < 1e-3
    assert mask[..., 9:12, :].min() > 0.9
    assert mask[..., 12:, :].max() == 0


@pytest.mark.parametrize("size", [256, 512])
def test_only_high_bands_come_from_the_past_and_only_where_the_gain_says_so(size: int) -> None:
    """A network that restores nothing, with its gain K as it begins, and at 0."""
    network = Network(PRESETS["tiny"]).eval()
    x_in, y = torch.rand(1, 3, size, size), torch.zeros(1, 3, size // 4, size // 4)
    t = torch.tensor([0.1])
    condition = Condition(t, t, torch.zeros(1, GUIDE_OUTPUTS), torch.eye(2, 3)[None], torch.ones(1))
    mask = torch.ones(1, 1, size // 4, size // 4)
    mask[..., : size // 8, :] = 0
    memory = nothing(1, size, 16, 64, torch.device("cpu"))
    memory = memory._replace(picture=torch.rand(1, 3, size, size), mask=mask)
    with torch.inference_mode():
        begun = x_in + network(x_in, x_in, y, condition, memory, size=size).residual
        network.ports[str(size)].gain.bias.fill_(-30.0)  # type: ignore[operator, union-attr]
        out = x_in + network(x_in, x_in, y, condition, memory, size=size).residual
    assert torch.allclose(begun - x_in, 0.25 * (out - x_in), atol=1e-5)
    assert torch.equal(out[..., : size // 2, :], x_in[..., : size // 2, :])
    below = [v[..., size // 2 :, :] for v in (out, x_in, memory.picture)]
    assert torch.allclose(F.avg_pool2d(below[0], 4), F.avg_pool2d(below[1], 4), atol=1e-5)
    high = [v - F.interpolate(F.avg_pool2d(v, 4), scale_factor=4) for v in below]
    assert torch.allclose(high[0], high[2], atol=1e-5)
