from __future__ import annotations

import pytest
import torch

from streamsr.features import SqueezeNet
from streamsr.train import adversary as module
from streamsr.train.adversary import Adversary, Judged


@pytest.fixture
def rival() -> Adversary:
    torch.manual_seed(0)
    return Adversary(SqueezeNet().requires_grad_(False).eval(), torch.device("cpu"), seed=1)


def _judged(generator: torch.Generator) -> Judged:
    """Real pictures are rough, restored ones smooth."""
    x = torch.rand(2, 3, 64, 64, generator=generator) * 2 - 1
    x_hat = torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1)
    return Judged(x_hat.requires_grad_(), x, x_hat.detach(), torch.ones(2))


def test_it_learns_to_tell_restored_from_real(rival: Adversary) -> None:
    generator = torch.Generator().manual_seed(3)
    for _ in range(80):
        rival.update(rival.look(_judged(generator)))
    assert rival.accuracy > 0.7


def test_its_weight_waits_grows_and_stops(rival: Adversary) -> None:
    weights = []
    for rival.step in (0, module.WARM_UP, module.WARM_UP + module.RAMP // 2, 10**6):
        weights.append(rival.weight)
    assert weights == pytest.approx([0, 0, module.MOST / 2, module.MOST])


@pytest.mark.parametrize("step", [0, 10**6])
def test_the_loss_pulls_a_picture_to_the_real_one(rival: Adversary, step: int) -> None:
    rival.step = step
    judged = _judged(torch.Generator().manual_seed(4))
    rival.loss(rival.look(judged)).backward()
    gradient = judged.x_hat.grad
    assert gradient is not None
    assert float((gradient * (judged.x - judged.x_hat.detach())).sum()) < 0
    same = judged._replace(x_hat=judged.x.clone())
    with torch.no_grad():
        losses = [float(rival.loss(rival.look(each))) for each in (same, judged)]
    if step == 0:
        assert losses[0] < 0.01
    assert losses[0] < losses[1]


def test_colour_and_hopeless_faces_are_left_alone(rival: Adversary) -> None:
    rival.step = 10**6
    judged = _judged(torch.Generator().manual_seed(6))
    tint = torch.tensor([1.0, -0.509, 0.0]).view(1, 3, 1, 1) * 0.2 * torch.rand(2, 1, 64, 64)  # of no luma
    with torch.no_grad():
        losses = []
        for x_hat in (judged.x_hat, judged.x_hat + tint):
            rival._generator.manual_seed(1)
            losses.append(float(rival.loss(rival.look(judged._replace(x_hat=x_hat)))))
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    pulls = []
    for counts in (1.0, 0.1):
        rival._generator.manual_seed(1)
        loss = rival.loss(rival.look(judged._replace(weight=torch.tensor([1.0, counts]))))
        pulls.append(torch.autograd.grad(loss, judged.x_hat)[0].abs().mean((1, 2, 3)).tolist())
    assert pulls[1][0] == pytest.approx(pulls[0][0])
    assert 0 < pulls[1][1] < 0.95 * pulls[0][1]  # what is left of it is regression


def test_a_checkpoint_brings_it_back(rival: Adversary) -> None:
    rival.update(rival.look(_judged(torch.Generator().manual_seed(5))))
    other = Adversary(rival.backbone, torch.device("cpu"), seed=1)
    other.load(rival.state())
    assert other.step == 1
    for one, two in zip(rival.discriminator.parameters(), other.discriminator.parameters(), strict=True):
        assert torch.equal(one, two)
