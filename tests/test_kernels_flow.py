"""The kernel that finds motion against its twin, and the twin against OpenCV's search."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kernel_fixtures import LAYOUTS, Framed, assert_as_good, moved, place
from torch import Tensor

from streamsr.errors import KernelError
from streamsr.kernels.flow import Found, find, reference

__all__ = ["place"]

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
SHAPES = [  # batch and sides of the crops, and of the motion's grid
    (2, 64, 64, 128),
    (1, 128, 128, 128),
    (3, 37, 41, 33),
    (1, 97, 20, 5),
    (1, 1, 1, 1),
    (0, 32, 32, 128),
]


def _crops(batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Smooth colours, which turn about the middle and grow a little; light and noise change too."""
    g = torch.Generator().manual_seed(height)
    noise = torch.randn(max(batch, 1), 3, 12, 12, generator=g)
    picture = F.interpolate(noise, (height, width), mode="bicubic").clamp(-2, 2) / 2.5
    turn = torch.tensor([[1.02, -0.05, 0.04], [0.05, 1.02, -0.03]]).expand(len(picture), 2, 3)
    moved = F.grid_sample(
        picture, F.affine_grid(turn, list(picture.shape), align_corners=False), align_corners=False
    )
    return picture[:batch], (0.95 * moved + 0.02 * torch.randn(moved.shape, generator=g))[:batch]


def _exact(before: Tensor, now: Tensor, grid: int, slots: Tensor | None = None) -> tuple[Found, Tensor]:
    """In float64; and how far going there and back ends from where it began."""
    found = reference.find(before.double(), now.double(), grid, slots=slots)
    chosen = before if slots is None else before[slots.long().clamp_min(0)]
    pictures = [reference._small_luma(x.double()) for x in (chosen, now)]
    there, back = (reference._motion(pictures[1 - k], pictures[k]) for k in range(2))
    return found, reference.returned_px(there, back, grid)


def _assert_same(got: Found, twin: Found, exact: Found, apart: Tensor) -> None:
    assert_as_good(got.flow, twin.flow, exact.flow)
    clear = (apart - reference.AGREES_PX).abs() > 1e-3  # nearer to the limit, either is right
    assert got.valid.shape == exact.valid.shape
    assert torch.equal(got.valid[clear], exact.valid[clear].float())
    assert ((got.valid == 0) | (got.valid == 1)).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("batch", "height", "width", "grid"), SHAPES)
def test_find(place, batch, height, width, grid, dtype, layout):
    before, now = (LAYOUTS[layout](x.to(place, dtype)) for x in _crops(batch, height, width))
    memory = [Framed((batch, n, grid, grid), torch.float32, place) for n in (2, 1)]
    got = find(before, now, grid, out=Found(*(each.inside for each in memory)))
    for each in memory:
        each.assert_outside_untouched()
    exact, apart = _exact(before, now, grid)
    _assert_same(got, reference.find(before, now, grid), exact, apart)
    if batch and grid == 128:
        assert got.flow.abs().max() > 1
        assert 0.3 < got.valid.mean() < 1


def test_faces_of_several_streams_lie_anywhere(place):
    """Crops before in slots; one is taken twice, one face is new, and sizes differ."""
    before, now = (x.to(place) for x in (_crops(5, 64, 64)[0], _crops(4, 48, 48)[1]))
    slots = torch.tensor([4, 0, -1, 0], dtype=torch.int32, device=place)
    got, twin = (of(before, now, 32, slots=slots) for of in (find, reference.find))
    exact, apart = _exact(before, now, 32, slots)
    known = slots >= 0
    _assert_same(*(Found(*(x[known] for x in each)) for each in (got, twin, exact)), apart[known])
    for each in (got, twin):
        assert not each.flow[2].any() and not each.valid[2].any()
    alone = find(before[[4]], now[[0]], 32)
    assert torch.equal(alone.flow[0], got.flow[0])


def test_the_same_crop_has_not_moved(place):
    before, _ = (x.to(place) for x in _crops(1, 64, 64))
    got = find(before, before)
    assert not got.flow.any()
    assert got.valid.all()


def test_pictures_without_sense_are_nowhere_valid(place):
    before, now = (x.to(place) for x in _crops(1, 64, 64))
    now[...] = float("nan")
    assert not find(before, now, 32).valid.any()


def _portrait() -> np.ndarray:
    cv2, data = pytest.importorskip("cv2"), pytest.importorskip("skimage.data")
    return cv2.resize(data.astronaut()[:256, 96:352], (256, 256), interpolation=cv2.INTER_AREA)


def _tensor(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 127.5 - 1


@pytest.mark.parametrize("shift", [(6.0, -4.0), (-1.5, 0.7), (0.0, 9.0)])
def test_a_shift_is_found(place, shift):
    """Of px of the picture; those of the grid are twice as large."""
    import cv2

    before = _portrait()
    now = cv2.warpAffine(
        before, np.array([[1.0, 0, shift[0]], [0, 1, shift[1]]]), (256, 256), borderMode=cv2.BORDER_REFLECT
    )
    got = find(_tensor(before).to(place), _tensor(now).to(place))
    flow = got.flow[0, :, 16:-16, 16:-16].flatten(1)
    assert np.allclose(flow.median(1).values.cpu(), (-shift[0] / 2, -shift[1] / 2), atol=0.2)
    assert got.valid[0, 0, 16:-16, 16:-16].mean() > 0.95


@pytest.mark.parametrize("gain", [1.0, 0.97])
@pytest.mark.parametrize("degrees", [0.0, 1.0, -2.5])
def test_twin_is_close_to_the_search_on_the_cpu(degrees, gain):
    """A portrait that turns, bends and darkens: how far the two are apart, and how well each explains it."""
    cv2 = pytest.importorskip("cv2")
    from streamsr.face.motion import MOTION_PX, MotionFinder

    before = _portrait()
    turn = cv2.getRotationMatrix2D((128, 140), degrees, 1.02)
    rows, columns = np.mgrid[:256, :256].astype(np.float32)
    x, y = (turn[k, 0] * columns + turn[k, 1] * rows + turn[k, 2] for k in range(2))
    bent = (
        (x + 1.5 * np.sin(rows / 30)).astype(np.float32),
        (y + 1.0 * np.cos(columns / 40)).astype(np.float32),
    )
    now = cv2.remap(before, *bent, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    now = np.clip(gain * now.astype(np.float32), 0, 255).astype(np.uint8)
    got, there = reference.find(_tensor(before), _tensor(now)), MotionFinder().find(before, now)
    flow = got.flow[0].permute(1, 2, 0).numpy()
    true = np.stack([bent[0] - columns, bent[1] - rows], 2).reshape(128, 2, 128, 2, 2).mean((1, 3)) / 2
    inner = slice(8, MOTION_PX - 8), slice(8, MOTION_PX - 8)

    def error(of: np.ndarray) -> float:
        return float(np.linalg.norm(of - true, axis=2)[inner].mean())

    apart = float(np.linalg.norm(flow - there.flow, axis=2)[inner].mean())
    assert apart < 0.45
    assert error(flow) < 1.3 * error(there.flow) + 0.05
    assert got.valid[0, 0].mean() > there.valid.mean() - 0.05


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"before": torch.zeros(1, 3, 8, 8)}, r"before must be \(2, 3, any, any\) float32"),
        ({"before": torch.zeros(2, 3, 8, 8).half()}, "before must be .* got .* float16"),
        ({"now": torch.zeros(2, 1, 8, 8)}, r"now must be \(2, 3, any, any\)"),
        ({"now": torch.zeros(2, 3, 8, 8, dtype=torch.uint8)}, "got .* uint8"),
        ({"slots": torch.zeros(2)}, r"slots must be \(2\) int32"),
        ({"slots": torch.zeros(4, dtype=torch.int32)[::2]}, "slots must be contiguous"),
        ({"grid": 0}, "grid must be at least 1"),
        (
            {"out": Found(torch.zeros(2, 2, 9, 9), torch.zeros(2, 1, 8, 8))},
            r"out.flow must be \(2, 2, 8, 8\)",
        ),
        ({"out": Found(torch.zeros(2, 2, 8, 8), torch.zeros(1, 1, 8, 8).expand(2, 1, 8, 8))}, "overlap"),
    ],
)
def test_what_does_not_fit_is_refused(place, given, message):
    full = {"before": torch.zeros(2, 3, 8, 8), "now": torch.zeros(2, 3, 8, 8), "grid": 8} | given
    there = {name: moved(x, place) if isinstance(x, Tensor) else x for name, x in full.items()}
    if "out" in there:
        there["out"] = Found(*(moved(x, place) for x in there["out"]))
    with pytest.raises(KernelError, match=message):
        find(**there)
