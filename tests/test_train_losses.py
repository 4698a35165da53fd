import pytest
import torch

from streamsr.train.losses import charbonnier, face_weight, psnr, restoring_loss, steadiness_loss

CPU = torch.device("cpu")


def test_charbonnier_is_an_absolute_error_that_is_smooth_at_zero() -> None:
    error = torch.tensor([0.0, 0.5, -0.5])
    assert torch.allclose(charbonnier(error), error.abs(), atol=2e-3)
    assert charbonnier(torch.zeros(1)) == 0


def test_an_error_on_the_face_counts_ten_times_one_beside_it() -> None:
    where = face_weight(256, CPU)
    losses = []
    for row, column in ((142, 128), (4, 4)):  # in the middle of the face, and in the corner
        x_hat = torch.zeros(1, 3, 256, 256)
        x_hat[:, :, row, column] = 0.5
        losses.append(float(restoring_loss(x_hat, torch.zeros_like(x_hat), where, torch.ones(1))))
    assert losses[0] == pytest.approx(10 * losses[1], rel=1e-3)


def test_luma_counts_more_than_colour() -> None:
    grey, colour = torch.zeros(2, 3, 16, 16)
    grey += 0.1
    colour[0], colour[1] = 0.1, -0.1 * 0.299 / 0.587  # of no luma
    everywhere = torch.ones(1, 1, 16, 16)
    losses = [
        float(restoring_loss(x[None], torch.zeros(1, 3, 16, 16), everywhere, torch.ones(1)))
        for x in (grey, colour)
    ]
    assert losses[0] > 2 * losses[1]


def test_samples_are_weighed() -> None:
    x_hat, x = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    everywhere = torch.ones(1, 1, 16, 16)
    first = restoring_loss(x_hat[:1], x[:1], everywhere, torch.ones(1))
    assert restoring_loss(x_hat, x, everywhere, torch.tensor([2.0, 0.0])) == pytest.approx(float(first))


def test_psnr_of_a_tenth() -> None:
    assert psnr(0.01) == pytest.approx(20)


def test_steadiness_counts_what_changes_where_the_motion_fits() -> None:
    change, fits = torch.zeros(1, 3, 16, 16), torch.zeros(1, 1, 16, 16)
    change[..., :8] = 0.2
    fits[..., 8:] = 1
    assert steadiness_loss(change, fits, torch.ones(1)) == 0
    assert steadiness_loss(change, 1 - fits, torch.ones(1)) == pytest.approx(0.2, rel=0.02)
    assert steadiness_loss(change, torch.zeros_like(fits), torch.ones(1)) == 0
