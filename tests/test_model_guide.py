import pytest
import torch
import torch.nn.functional as F

from streamsr.model.coding import STATISTICS
from streamsr.model.guide import (
    BAND_SHARE,
    Guide,
    Reading,
    band_rms,
    haar_stack,
    template_mask,
    true_reading,
)


def test_the_haar_transform_keeps_energy() -> None:
    x = torch.randn(2, 3, 32, 48, dtype=torch.float64)
    assert float(haar_stack(x).square().sum()) == pytest.approx(float(x.square().sum()))


def test_low_band_is_four_times_the_block_mean() -> None:
    x = torch.randn(1, 3, 16, 16)
    assert torch.allclose(haar_stack(x)[:, -3:], 4 * F.avg_pool2d(x, 4), atol=1e-5)


def test_sigma_of_the_bands_is_the_rms_of_the_residual() -> None:
    x, x_in = torch.rand(3, 3, 64, 64), torch.rand(3, 3, 64, 64)
    everywhere = torch.ones(1, 1, 16, 16)
    reading = true_reading(x, x_in, F.avg_pool2d(x, 4), everywhere, torch.full((3,), 30.0))
    assert torch.allclose(reading.sigma, (x - x_in).square().mean((1, 2, 3)).sqrt(), rtol=1e-4)
    assert reading.log_sigma_y.exp().max() < 2e-3  # the observation is exact
    assert sum(BAND_SHARE) == 1


def test_bands_tell_blur_from_noise() -> None:
    mask = torch.ones(1, 1, 16, 16)
    smooth = F.interpolate(torch.randn(1, 3, 8, 8), scale_factor=8, mode="bicubic")
    noise = torch.randn(1, 3, 64, 64)
    low, high = band_rms(smooth, mask)[0], band_rms(noise, mask)[0]
    assert low[6] > 10 * low[0]
    assert high[6] == pytest.approx(float(high[0]), rel=0.3)


@pytest.mark.parametrize("size", [256, 512])
def test_a_guide_reads_a_batch_as_it_reads_one(size: int) -> None:
    torch.manual_seed(0)
    guide = Guide().eval()
    torch.nn.init.normal_(guide.read[-1].weight, 0, 0.1)
    x_in, native, coding, mask = (
        torch.rand(2, 3, size, size) * 2 - 1,
        torch.tensor([-2.0, 0.0]),
        torch.randn(2, STATISTICS),
        template_mask(size // 4),
    )
    with torch.inference_mode():
        both = guide(x_in, native, coding, mask)
        alone = guide(x_in[1:], native[1:], coding[1:], mask)
    assert torch.allclose(both.log_bands[1:], alone.log_bands, atol=1e-5)
    assert isinstance(both, Reading)
    assert both.condition().shape == (2, 9)
    assert ((both.t0 > 0) & (both.t0 < 1)).all()


def test_the_mask_holds_the_features_and_leaves_the_corners() -> None:
    mask = template_mask(512)[0, 0]
    for x, y in ((193, 240), (319, 240), (257, 314), (201, 371), (313, 371)):
        assert mask[y, x] == 1
    assert mask[0].max() == mask[-1].max() == mask[:, 0].max() == mask[:, -1].max() == 0
