"""The kernel that cuts faces out of frames against its twin, and the twin against what the aligner cuts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kernel_fixtures import Framed, assert_as_good, place
from torch import Tensor

from streamsr.errors import KernelError
from streamsr.frame import Colour, Matrix, Range
from streamsr.kernels.crop import Crops, Nv12, Picture, Placed, cut, reference, table

__all__ = ["place"]

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
COLOURS = [(matrix, span) for matrix in Matrix for span in Range]


def _matrix(native: float, degrees: float, centre: tuple[float, float]) -> np.ndarray:
    """Frame px to 512-template px of a face whose crop has ``native`` px a side around ``centre``."""
    angle, k = np.radians(degrees), 512 / native
    linear = k * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.column_stack([linear, np.array([255.5, 255.5]) - linear @ centre])


def _picture(height: int, width: int, noise: float = 12.0) -> np.ndarray:
    """(H, W, 3) uint8: smooth colours under noise."""
    g = torch.Generator().manual_seed(height)
    smooth = F.interpolate(torch.randn(1, 3, 9, 9, generator=g), (height, width), mode="bicubic")[0]
    levels = 128 + 60 * smooth + noise * torch.randn(smooth.shape, generator=g)
    return levels.clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def _nv12(place: torch.device, height: int, width: int, span: Range, framed: bool) -> Nv12:
    """Every code there is, also those that no RGB picture has."""
    g = torch.Generator().manual_seed(width)
    y = torch.randint(0, 256, (height, width), dtype=torch.uint8, generator=g).to(place)
    uv = torch.randint(0, 256, (-(-height // 2), -(-width // 2), 2), dtype=torch.uint8, generator=g).to(place)
    return Nv12(*((Framed.of(y), Framed.of(uv)) if framed else (y, uv)), Matrix.BT601, span)


def _frames(place: torch.device, framed: bool) -> list[Picture]:
    rgb = torch.from_numpy(_picture(61, 83)).to(place)
    planar = torch.from_numpy(_picture(40, 30)).to(place).permute(2, 0, 1).contiguous().permute(1, 2, 0)
    return [
        Framed.of(rgb) if framed else rgb,
        _nv12(place, 50, 72, Range.LIMITED, framed),
        planar,
        _nv12(place, 31, 27, Range.FULL, framed),
        rgb[:1, :1],
    ]


def _faces() -> list[Placed]:
    """Of all frames; enlarged, reduced, over the edge, turned over, mirrored and far outside."""
    mirrored = _matrix(33, 10, (20, 20)) * [[-1], [1]] + [[0, 0, 512], [0, 0, 0]]
    return [
        Placed(0, _matrix(20, 7, (40.2, 30.1)), 0),
        Placed(0, _matrix(75, -44, (44.0, 25.0)), 3),
        Placed(1, _matrix(41, 12, (36.3, 26.9)), 1),
        Placed(1, _matrix(300, 178, (10.0, 40.0)), 2, batch=1),
        Placed(2, mirrored, 0, batch=1),
        Placed(3, _matrix(29, 91, (26.0, 30.0)), 2),
        Placed(3, _matrix(50, 0, (-200.0, 900.0)), 4),
        Placed(4, _matrix(10, 0, (0.0, 0.0)), 1, batch=1),
    ]


def _table(
    frames: list[Picture], faces: list[Placed], batches: list[tuple[int, int]], place: torch.device
) -> Tensor:
    return torch.from_numpy(table(frames, faces, batches, rows=11)).to(place)


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(48, 64), (37, 4), (130, 20)])
def test_cut(place, sizes, dtype, framed):
    """Eight faces of five frames into two batches, of which one crop of the second is nobody's."""
    frames, batches = _frames(place, framed), [(5, sizes[0]), (4, sizes[1])]
    rows = _table(frames, _faces(), batches, place)
    memory = [[Framed((n, 3, s, s), dtype, place) for s in (size, size // 4)] for n, size in batches]
    out = [Crops(*(each.inside for each in pair)) for pair in memory] if framed else None
    got = cut(frames, rows, batches, dtype, out=out)
    twins = reference.cut(frames, rows, batches, dtype)
    exacts = reference.cut(frames, rows, batches, torch.float64)
    for k, count in enumerate((5, 3)):
        for each in zip(got[k], twins[k], exacts[k], strict=True):
            assert_as_good(*(x[:count] for x in each))
            assert each[0][:count].abs().max() <= 1
    if framed:
        for each in (frame for pair in memory for frame in pair):
            each.assert_outside_untouched()
        assert got[1].x_in[3].isnan().all() or not got[1].x_in[3].any()
    else:
        assert not got[1].x_in[3].any() and not got[1].y[3].any()


@pytest.mark.parametrize("native", [9, 25, 47, 64, 70, 100, 101, 256, 1000])
def test_a_face_of_any_size_and_turn(place, native):
    frames: list[Picture] = [torch.from_numpy(_picture(140, 150)).to(place)]
    faces = [
        Placed(0, _matrix(native, degrees, (70.3, 66.6)), k) for k, degrees in enumerate((0, 20, 45, 135))
    ]
    rows = _table(frames, faces, [(4, 64)], place)
    (got,), (twin,), (exact,) = (
        of(frames, rows, [(4, 64)], dtype)
        for of, dtype in (
            (cut, torch.float32),
            (reference.cut, torch.float32),
            (reference.cut, torch.float64),
        )
    )
    for each in zip(got, twin, exact, strict=True):
        assert_as_good(*each)


def test_no_faces_no_launch(place):
    frames: list[Picture] = [torch.from_numpy(_picture(20, 20)).to(place)]
    none = torch.from_numpy(table(frames, [], [(0, 16)])).to(place)
    (got,) = cut(frames, none, [(0, 16)])
    assert got.x_in.shape == (0, 3, 16, 16)
    kept = Crops(torch.full((1, 3, 16, 16), 5.0, device=place), torch.full((1, 3, 4, 4), 5.0, device=place))
    cut(frames, _table(frames, [], [(1, 16)], place), [(1, 16)], out=[kept])
    assert (kept.x_in == 5).all() and (kept.y == 5).all()


def _levels(crop: Tensor) -> np.ndarray:
    return (crop[0].permute(1, 2, 0).numpy() + 1) * 127.5


@pytest.mark.parametrize("size", [256, 512])
@pytest.mark.parametrize("native", [24, 60, 150, 200, 255, 300, 420])
def test_twin_is_what_the_aligner_cuts(size, native):
    """To roundings: those to whole levels alone are 0.29 rms, and OpenCV looks up 32nds of a px."""
    pytest.importorskip("cv2")
    from streamsr.model.crop import Crop

    image, matrix = _picture(360, 400, noise=3.0), _matrix(native, 11, (203.3, 150.8))
    frames: list[Picture] = [torch.from_numpy(image)]
    (got,) = reference.cut(
        frames, torch.from_numpy(table(frames, [Placed(0, matrix, 0)], [(1, size)])), [(1, size)]
    )
    wanted = Crop.cut(image, matrix, size)
    for crop, there in zip(got, (wanted.x_in, wanted.y), strict=True):
        apart = _levels(crop) - there
        assert np.sqrt(np.square(apart).mean()) < 0.6
        assert abs(apart.mean()) < 0.05


@pytest.mark.parametrize(("matrix", "span"), COLOURS)
def test_twin_reads_nv12_as_decoded_frames_are_read(matrix, span):
    """Of even sizes: with odd ones swscale stretches chroma."""
    pytest.importorskip("cv2")
    pytest.importorskip("av")
    from av.video.reformatter import VideoReformatter

    from streamsr.io.colour import from_rgb, to_rgb
    from streamsr.model.crop import Crop

    picture = _picture(200, 240, noise=3.0)
    coded = from_rgb(picture, Colour(matrix, span), "nv12", VideoReformatter())
    coded.colorspace = {Matrix.BT601: 6, Matrix.BT709: 1, Matrix.BT2020: 9}[matrix]
    coded.color_range = 1 if span is Range.LIMITED else 2
    planes = [
        torch.from_numpy(np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: 200 // k, :240].copy())
        for plane, k in zip(coded.planes, (1, 2), strict=True)
    ]
    frames: list[Picture] = [Nv12(planes[0], planes[1].unflatten(1, (120, 2)), matrix, span)]
    place = _matrix(120, 11, (113.3, 95.8))
    (got,) = reference.cut(
        frames, torch.from_numpy(table(frames, [Placed(0, place, 0)], [(1, 256)])), [(1, 256)]
    )
    wanted = Crop.cut(to_rgb(coded, VideoReformatter()), place, 256)
    for crop, there in zip(got, (wanted.x_in, wanted.y), strict=True):
        apart = _levels(crop) - there
        assert np.sqrt(np.square(apart).mean()) < 0.9
        assert np.abs(apart.mean((0, 1))).max() < 0.3


def test_what_does_not_fit_is_refused(place):
    frames: list[Picture] = [torch.zeros(9, 9, 3, dtype=torch.uint8, device=place)]
    face = Placed(0, _matrix(9, 0, (4, 4)), 0)
    rows = _table(frames, [face], [(1, 16)], place)

    def refused(message, **other):
        given = {"frames": frames, "faces": rows, "batches": [(1, 16)]}
        with pytest.raises(KernelError, match=message):
            cut(**given | other)

    refused("faces must be", faces=rows.int())
    refused("faces must be contiguous", faces=rows.T.contiguous().T)
    refused("1 to 2 batches, got 3", batches=[(1, 16)] * 3)
    refused("at least 4 px, got", batches=[(1, 3)])
    refused("got torch.float64", dtype=torch.float64)
    refused("out must have 1 batches, got 0", out=[])
    refused("frames must be on", frames=[torch.zeros(9, 9, 3, dtype=torch.uint8, device="meta")])
    whole = Crops(torch.zeros(1, 3, 16, 16, device=place), torch.zeros(1, 3, 5, 5, device=place))
    refused(r"out.y must be \(1, 3, 4, 4\)", out=[whole])
    with pytest.raises(KernelError, match="room for 1 faces, got 2"):
        table(frames, [face] * 2, [(1, 16)], rows=1)
    for matrix in (np.zeros((2, 3)), np.array([[9.0, 0, 0], [0, 1, 0]]), np.full((2, 3), np.nan)):
        with pytest.raises(KernelError, match="matrix must be a similarity"):
            table([torch.zeros(400, 400, 3, dtype=torch.uint8)], [Placed(0, matrix, 0)], [(1, 256)])
    for wrong, message in (
        (replace(face, frame=1), "frame must be one of 1, got 1"),
        (replace(face, batch=-1), "batch must be one of 1, got -1"),
        (replace(face, index=1), "index must be one of 1, got 1"),
    ):
        with pytest.raises(KernelError, match=message):
            table(frames, [wrong], [(1, 16)])
    with pytest.raises(KernelError, match="a frame must be"):
        table([torch.zeros(4, 4, 3)], [], [(1, 16)])
    with pytest.raises(KernelError, match=r"uv of a frame must be \(3, 2, 2\)"):
        table([Nv12(*(torch.zeros(s, dtype=torch.uint8) for s in ((5, 4), (2, 2, 2))))], [], [(1, 16)])
