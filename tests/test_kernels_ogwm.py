"""OGWM's kernel against its twin."""

from __future__ import annotations

import pytest
import torch
from kernel_fixtures import LAYOUTS, Framed, assert_as_good, moved, place
from torch import Tensor

from streamsr.errors import KernelError
from streamsr.kernels.ogwm import recall, reference, warp

__all__ = ["place"]

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
SHAPES = [  # of x, and of the flow's grid
    ((1, 3, 64, 64), (32, 32)),
    ((2, 3, 33, 47), (16, 17)),
    ((5, 9, 12, 13), (24, 25)),
    ((3, 5, 1, 9), (4, 4)),
    ((2, 17, 7, 1), (3, 2)),
    ((1, 1, 1, 1), (1, 1)),
    ((0, 3, 8, 8), (4, 4)),
]


def _random(seed: int, *shape: int, size: float = 1.0) -> Tensor:
    return size * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _flow(seed: int, batch: int, grid: tuple[int, int]) -> Tensor:
    """Small motion, with some that leads far out of the picture."""
    flow = _random(seed, batch, 2, *grid, size=2.0)
    flow[..., ::3, ::5] *= 50
    return flow


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("s", [1, 2, 3.5])
@pytest.mark.parametrize(("shape", "grid"), SHAPES)
def test_warp(place, shape, grid, s, dtype, layout):
    x = LAYOUTS[layout](_random(1, *shape).to(place, dtype))
    flow = LAYOUTS[layout](_flow(2, shape[0], grid).to(place))
    out = Framed(shape, dtype, place)
    warp(x, flow, s, out=out.inside)
    out.assert_outside_untouched()
    assert_as_good(out.inside, reference.warp(x, flow, s), reference.warp(x.double(), flow.double(), s))
    assert torch.equal(warp(x, flow, s), out.inside)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("side", "features", "y_sides", "grid"), [
    (64, (16, 16), (16, 16), 32), (37, (20, 9), (9, 11), 64), (1, (1, 1), (1, 1), 1), (5, (3, 7), (2, 1), 3)
])  # fmt: skip
def test_recall(place, side, features, y_sides, grid, layout, dtype):
    batch, lay = 3, LAYOUTS[layout]
    given = [
        lay(_random(seed, batch, channels, *sides, size=size).to(place, dtype))
        for seed, channels, sides, size in [
            (1, 3, (side, side + 2), 1.0),
            (2, 11, features, 1.0),
            (3, 3, y_sides, 0.05),
            (4, 3, y_sides, 0.05),
        ]
    ]
    motion = [lay(_flow(5, batch, (grid, grid)).to(place))]
    motion.append(lay((_random(6, batch, 1, grid, grid) > -0.5).float().to(place)))
    got = recall(*given, *motion)
    twin = reference.recall(*given, *motion)
    exact = reference.recall(*(x.double() for x in given), *(x.double() for x in motion))
    for each in zip(got, twin, exact, strict=True):
        assert_as_good(*each)
    assert side == 1 or 0.1 < float(got.mask.float().mean()) < 0.9


def test_recall_of_more_channels_than_a_thread_takes_at_a_time(place):
    y_past, y = (_random(seed, 2, 7, 8, 8, size=0.1).to(place) for seed in (1, 2))
    features, flow, valid = y_past, _flow(3, 2, (4, 4)).to(place), torch.ones(2, 1, 4, 4, device=place)
    given = (y_past, features, y_past, y, flow, valid)
    got, twin = recall(*given), reference.recall(*given)
    for each in zip(got, twin, reference.recall(*(x.double() for x in given)), strict=True):
        assert_as_good(*each)


@pytest.mark.parametrize("dtype", DTYPES)
def test_faces_of_several_streams_lie_anywhere(place, dtype):
    """Five faces in slots; the batch takes one of them twice, and one face is new."""
    slots = torch.tensor([4, 0, -1, 0], dtype=torch.int32, device=place)
    kept = [_random(seed, 5, 3, 16, 16).to(place, dtype) for seed in (1, 2, 3)]
    y = _random(4, 4, 3, 16, 16, size=0.1).to(place, dtype)
    flow, valid = _flow(5, 4, (8, 8)).to(place), torch.ones(4, 1, 8, 8, device=place)
    got = recall(*kept, y, flow, valid, slots=slots)
    alone = recall(*(x[[4, 0, 1, 0]] for x in kept), y, flow, valid)
    for each, single, twin in zip(
        got, alone, reference.recall(*kept, y, flow, valid, slots=slots), strict=True
    ):
        assert torch.equal(each[[0, 1, 3]], single[[0, 1, 3]])
        assert not each[2].any()
        assert not twin[2].any()
    assert torch.equal(warp(kept[0], flow, slots=slots), got.picture)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bits_are_read_and_rounded_as_torch_does(place, dtype):
    """Every finite number, still and half-way to its neighbour: half of those means are ties."""
    every = torch.arange(-32768, 32768, dtype=torch.int16).view(dtype).to(place)
    smallest = 6e-8 if dtype is torch.float16 else 1e-37  # the GPU flushes what is subnormal in float32
    usable = every[every.isfinite() & (every.float().abs() < 1e37) & (every.float().abs() >= smallest)]
    x = usable.view(1, 1, 1, -1)
    still = torch.zeros(1, 2, 1, 1, device=place)
    assert torch.equal(warp(x, still).view(torch.int16), x.view(torch.int16))
    half = still + torch.tensor([0.5, 0.0], device=place).view(1, 2, 1, 1)
    wide = x.float()
    expected = (wide[..., :-1] * 0.5 + wide[..., 1:] * 0.5).to(dtype)
    assert torch.equal(warp(x, half / x.shape[3], 1)[..., :-1], expected)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_motion_without_sense_leads_nowhere_else(place, wrong):
    x = Framed.of(_random(1, 1, 3, 9, 9).to(place))
    flow = torch.full((1, 2, 4, 4), wrong, device=place)
    out = warp(x, flow)
    assert out.isfinite().all()
    assert out.abs().max() <= x.abs().max()


def _given(**other: Tensor) -> dict[str, Tensor]:
    return {"x": torch.zeros(2, 3, 8, 8), "flow": torch.zeros(2, 2, 4, 4)} | other


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (_given(x=torch.zeros(3, 8, 8)), r"x must be \(2, any, any, any\) float32 or .* got \(3, 8, 8\)"),
        (_given(x=torch.zeros(1, 3, 8, 8)), r"x must be \(2, any"),
        (_given(x=torch.zeros(2, 3, 0, 8)), r"x must be \(2, any"),
        (_given(x=torch.zeros(2, 3, 8, 8, dtype=torch.uint8)), "got .* uint8"),
        (_given(flow=torch.zeros(2, 3, 4, 4)), r"flow must be \(2, 2, any, any\)"),
        (_given(flow=torch.zeros(2, 2, 4, 4, dtype=torch.float64)), "flow must be .* float64"),
        (_given(out=torch.zeros(2, 3, 8, 9)), r"out must be \(2, 3, 8, 8\)"),
        (_given(out=torch.zeros(1, 3, 8, 8).expand(2, 3, 8, 8)), "overlap"),
        (_given(slots=torch.zeros(2)), r"slots must be \(2\) int32"),
        (_given(slots=torch.zeros(4, dtype=torch.int32)[::2]), "slots must be contiguous"),
    ],
)
def test_what_does_not_fit_is_refused(place, given, message):
    with pytest.raises(KernelError, match=message):
        warp(**{name: moved(tensor, place) for name, tensor in given.items()})
