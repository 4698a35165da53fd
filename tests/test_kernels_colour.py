"""The colour kernel against its twin, and the twin against what the encoders are given today."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kernel_fixtures import Framed, place
from torch import Tensor

from streamsr.errors import KernelError
from streamsr.frame import Colour, Matrix, Range
from streamsr.kernels.colour import nv12, reference, yuv420p

__all__ = ["place"]

TIE = 1e-3  # nearer than this to half-way between two values, either is right
SHAPES = [
    (2, 64, 96),
    (1, 33, 47),
    (3, 34, 46),
    (1, 1, 1),
    (1, 2, 1),
    (2, 1, 9),
    (1, 130, 7),
    (0, 4, 4),
    (1, 17, 20),
]
COLOURS = [(matrix, span) for matrix in Matrix for span in Range]


def _picture(seed: int, *shape: int) -> Tensor:
    """Noise, with lines of black and white: the worst a cubic can meet."""
    g = torch.Generator().manual_seed(seed)
    rgb = torch.randint(0, 256, (*shape, 3), dtype=torch.uint8, generator=g)
    rgb[:, :, ::5], rgb[:, ::7], rgb[:, 1::7] = 255, 0, 255
    return rgb


def _assert_rounded(got: Tensor, exact: Tensor) -> None:
    assert got.shape == exact.shape and got.dtype == torch.uint8
    if got.numel():
        assert float((got.double() - exact).abs().max()) <= 0.5 + TIE


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize(("matrix", "span"), COLOURS)
@pytest.mark.parametrize("shape", SHAPES)
def test_nv12(place, shape, matrix, span, framed):
    rgb = _picture(1, *shape).to(place)
    batch, height, width = shape
    planes = [
        Framed(size, torch.uint8, place) for size in (shape, (batch, -(-height // 2), -(-width // 2), 2))
    ]
    out = (planes[0].inside, planes[1].inside) if framed else None
    got = nv12(Framed.of(rgb) if framed else rgb, matrix, span, out=out)
    for each, exact in zip(got, reference.planes(rgb, matrix, span, torch.float64), strict=True):
        _assert_rounded(each, exact)
    for plane in planes:
        plane.assert_outside_untouched()


@pytest.mark.parametrize("cut", [(0, 64), (4, 40), (1, 63), (2, 33), (3, 64)])
def test_a_part_of_a_wider_picture(place, cut):
    """Lines that begin at any byte, and end before the memory does."""
    rgb = _picture(2, 2, 19, 64).to(place)[:, 1:, cut[0] : cut[1]]
    for each, exact in zip(
        nv12(rgb), reference.planes(rgb, Matrix.BT709, Range.LIMITED, torch.float64), strict=True
    ):
        _assert_rounded(each, exact)


def test_planes_with_a_pitch(place):
    """Both planes in one block of memory with padded lines, as an encoder wants them."""
    rgb, pitch = _picture(3, 2, 18, 22).to(place), 32
    block = torch.full((2, 27, pitch), 93, dtype=torch.uint8, device=place)
    y, uv = block[:, :18, :22], block[:, 18:, :22].unflatten(2, (11, 2))
    nv12(rgb, out=(y, uv))
    assert all(torch.equal(a, b) for a, b in zip((y, uv), nv12(rgb), strict=True))
    assert (block[:, :, 22:] == 93).all()


@pytest.mark.parametrize("shape", [(2, 64, 96), (1, 34, 46), (3, 2, 2), (1, 18, 260), (0, 4, 4)])
@pytest.mark.parametrize(("matrix", "span"), COLOURS)
def test_yuv420p_is_nv12_in_three_planes(place, shape, matrix, span):
    rgb = _picture(7, *shape).to(place)
    batch, height, width = shape
    y, uv = nv12(rgb, matrix, span)
    wanted = torch.cat([each.flatten(1) for each in (y, uv[..., 0], uv[..., 1])], 1)
    planes = yuv420p(rgb, matrix, span)
    assert planes.shape == (batch, height // 2 * 3, width) and planes.is_contiguous()
    assert torch.equal(planes.flatten(1), wanted)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 5, 4, 3), "must be even, got 5 and 4"), ((1, 4, 5, 3), "got 4 and 5"), ((4, 4, 3), "rgb must be")],
)
def test_yuv420p_wants_even_sides(place, shape, message):
    with pytest.raises(KernelError, match=message):
        yuv420p(torch.zeros(shape, dtype=torch.uint8, device=place))


def test_planes_are_taken_from_channels_first_too(place):
    rgb = _picture(4, 1, 20, 20).to(place)
    planar = rgb.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert all(torch.equal(a, b) for a, b in zip(nv12(planar), nv12(rgb), strict=True))


@pytest.mark.parametrize(("matrix", "span"), COLOURS)
def test_twin_rounds_as_it_says(matrix, span):
    rgb = _picture(5, 2, 31, 45)
    for each, exact in zip(
        reference.nv12(rgb, matrix, span), reference.planes(rgb, matrix, span, torch.float64), strict=True
    ):
        _assert_rounded(each, exact)


@pytest.mark.parametrize(("matrix", "span"), COLOURS)
def test_twin_is_what_encoders_are_given(matrix, span):
    """Even sizes: with odd ones swscale stretches chroma. Of full range it rounds chroma down."""
    pytest.importorskip("av")
    from av.video.reformatter import VideoReformatter

    from streamsr.io.colour import from_rgb

    rgb = _picture(6, 1, 96, 128)
    frame = from_rgb(rgb[0].numpy(), Colour(matrix, span), "nv12", VideoReformatter())
    y, uv = reference.planes(rgb, matrix, span, torch.float64)
    lowest = (-0.55, -0.55 if span is Range.LIMITED else -1.05)
    for plane, exact, low in zip(frame.planes, (y[0], uv[0].flatten(1)), lowest, strict=True):
        got = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: len(exact), : exact.shape[1]]
        off = got - exact.numpy()
        assert low <= off.min() and off.max() <= 0.55


@pytest.mark.parametrize(
    ("rgb", "out", "message"),
    [
        (torch.zeros(4, 4, 3, dtype=torch.uint8), None, r"rgb must be \(4, any, any, 3\) uint8"),
        (torch.zeros(1, 4, 4, 3), None, "got .* float32"),
        (torch.zeros(1, 4, 4, 4, dtype=torch.uint8), None, "rgb must be"),
        (torch.zeros(1, 0, 4, 3, dtype=torch.uint8), None, "rgb must be"),
        (torch.zeros(1, 5, 4, 3, dtype=torch.uint8), [(1, 5, 4), (1, 2, 2, 2)], r"uv must be \(1, 3, 2, 2\)"),
        (torch.zeros(1, 4, 4, 3, dtype=torch.uint8), [(1, 4, 5), (1, 2, 2, 2)], r"y must be \(1, 4, 4\)"),
    ],
)
def test_what_does_not_fit_is_refused(place, rgb, out, message):
    planes = None if out is None else tuple(torch.zeros(s, dtype=torch.uint8, device=place) for s in out)
    with pytest.raises(KernelError, match=message):
        nv12(rgb.to(place), out=planes)
