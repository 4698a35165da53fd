"""A visit of a clip: what it is compared with, and what of the past it is given."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.data
import torch

from streamsr.errors import ModelError
from streamsr.model.guide import Guide
from streamsr.model.network import PRESETS, Condition, Network
from streamsr.train.data import Batch, degrade_clips, make_batch
from streamsr.train.degrade import draw
from streamsr.train.lesson import ALONE, Lesson

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def batch() -> Batch:
    """A face that moves a px a frame, three frames of it, twice."""
    wide = np.ascontiguousarray(skimage.data.astronaut()[:256, 90:356])
    clip = [np.ascontiguousarray(wide[:, k : k + 256]) for k in range(3)]
    rng = np.random.default_rng(0)
    hows = [draw(rng, 256) for _ in range(2)]
    return make_batch([clip, clip], degrade_clips([clip, clip], hows, rng), hows)


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return Network(PRESETS["tiny"])


def _generator_of(low: float, high: float) -> torch.Generator:
    """One whose first draw lies between the two."""
    for seed in range(1000):
        if low <= float(torch.rand((), generator=torch.Generator().manual_seed(seed))) < high:
            return torch.Generator().manual_seed(seed)
    raise AssertionError("no seed")


@pytest.mark.parametrize(("low", "high", "has_past"), [(0.0, ALONE, False), (ALONE, 1.0, True)])
def test_a_frame_with_a_past_is_to_be_held_steady(
    batch: Batch, network: Network, low: float, high: float, has_past: bool
) -> None:
    lesson = Lesson(Guide(), batch, CPU, cropped=False)
    visit = lesson.visit(network, 1.0, _generator_of(low, high))
    assert visit.x.shape == visit.x_hat.shape == (2, 3, 256, 256)
    assert torch.equal(visit.x, lesson.last_frame()[0])
    assert (visit.before is not None) == has_past
    assert bool(visit.loss(steady=1.0) > visit.loss()) == has_past


def test_what_it_is_held_to_has_been_moved_along(batch: Batch, network: Network) -> None:
    """The truth before, warped, is nearer to the truth now than it was."""
    lesson = Lesson(Guide(), batch, CPU, cropped=False)
    before = lesson.visit(network, 1.0, _generator_of(ALONE, 1.0)).before
    assert before is not None
    now, then = (batch.x[:, k].float() / 127.5 - 1 for k in (2, 1))
    inside = before.fits > 0.5
    assert inside.float().mean() > 0.5

    def gap(picture: torch.Tensor) -> float:
        return float(((picture - now).abs() * inside).sum() / inside.sum())

    assert gap(before.x) < 0.7 * gap(then)


def test_a_network_without_memory_is_told_none_and_still_compared(batch: Batch, network: Network) -> None:
    told: list[object] = []
    watching = network.register_forward_pre_hook(lambda _, given: told.append(given[4]))
    lesson = Lesson(Guide(), batch, CPU, cropped=False)
    visit = lesson.visit(network, 1.0, _generator_of(ALONE, 1.0), recurrent=False)
    watching.remove()
    assert told == [None, None]  # the frame before, and this one
    assert visit.before is not None and visit.loss(steady=1.0) > visit.loss()


def test_a_window_is_part_of_the_face(batch: Batch, network: Network) -> None:
    lesson = Lesson(Guide(), batch, CPU, cropped=True)
    visit = lesson.visit(network, 1.0, torch.Generator().manual_seed(1))
    whole = lesson.last_frame()[0]
    assert visit.x.shape == (2, 3, 128, 128)
    places = whole.unfold(2, 128, 16).unfold(3, 128, 16)  # (2, 3, rows, columns, 128, 128)
    assert ((places - visit.x[:, :, None, None]).abs().amax((0, 1, 4, 5)) == 0).any()
    assert lesson.visits == 3


@pytest.mark.parametrize("preset", ["S", "M", "L", "G"])
def test_every_preset_learns_at_its_sizes(preset: str) -> None:
    torch.manual_seed(0)
    network, rng = Network(PRESETS[preset]), np.random.default_rng(0)
    assert network.config.sizes == ((512,) if preset == "G" else (256, 512))
    for size in network.config.sizes:
        face = cv2.resize(skimage.data.astronaut()[:256, 96:352], (size, size))
        how = draw(rng, size)
        batch = make_batch([[face]], degrade_clips([[face]], [how], rng), [how])
        visit = Lesson(Guide(), batch, CPU, cropped=True).visit(
            network, 1.0, torch.Generator().manual_seed(0)
        )
        visit.loss().backward()
        port = network.ports[str(size)]
        assert port.leave.weight.grad is not None
        assert port.leave.weight.grad.abs().max() > 0
        network.zero_grad()


def test_a_network_names_the_sizes_it_restores() -> None:
    network, x = Network(PRESETS["G"]), torch.zeros(1, 3, 256, 256)
    told = Condition(*torch.ones(2, 1), torch.zeros(1, 9), torch.ones(1, 2, 3), torch.ones(1))
    with pytest.raises(ModelError, match=r"size must be one of \(512,\), got 256"):
        network(x, x, x[..., ::4, ::4], told, size=256)
