"""The kernel that pastes faces against its twin, and the twin against what ``face.composite`` does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kernel_fixtures import Framed, place
from torch import Tensor

from streamsr.errors import KernelError
from streamsr.kernels.consistency import Pasted, Patches, Placed, certificate, paste, reference, table

__all__ = ["place"]

SIZES = (48, 64)  # of the two sets of patches
COUNT = 3  # in each


def _patches(place: torch.device, unit: float = 20.0) -> list[Patches]:
    """Smooth noise under soft discs."""
    sets = []
    for size in SIZES:
        g = torch.Generator().manual_seed(size)
        noise = F.interpolate(torch.randn(COUNT, 3, size // 3, size // 3, generator=g), size, mode="bicubic")
        line = (torch.arange(size) - (size - 1) / 2) / size
        disc = ((0.47 - torch.hypot(line, line[:, None])) / 0.1).clamp(0, 1).expand(COUNT, size, size)
        sets.append(Patches((unit * noise).permute(0, 2, 3, 1).to(place), disc.to(place)))
    return sets


def _matrix(native: float, degrees: float, centre: tuple[float, float]) -> np.ndarray:
    """Camera px to 512-template px of a face whose crop has ``native`` px a side around ``centre``."""
    angle, k = np.radians(degrees), 512 / native
    linear = k * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return np.column_stack([linear, np.array([255.5, 255.5]) - linear @ centre])


def _frames(place: torch.device, batch: int, height: int, width: int, scale: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(height)
    smooth = F.interpolate(torch.randn(batch or 1, 3, 9, 9, generator=g), (height, width), mode="bicubic")
    camera = (128 + 60 * smooth + 6 * torch.randn(smooth.shape, generator=g)).clamp(0, 255)
    enlarged = F.interpolate(camera, scale_factor=scale, mode="nearest") + 3
    base, camera = (x.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)[:batch] for x in (enlarged, camera))
    return base.contiguous().to(place), camera.contiguous().to(place)


def _faces(height: int, width: int) -> list[Placed]:
    """Of both sizes; the first two overlap, the third hangs over the edge, the last is far away."""
    side = max(0.6 * min(height, width), 12.0)
    return [
        Placed(_matrix(side, 8, (0.4 * width, 0.5 * height)), 48, 0, gamma=0.6),
        Placed(
            _matrix(0.7 * side, -20, (0.6 * width, 0.45 * height)),
            64,
            2,
            gamma=0.3,
            gamma_chroma=0.9,
            patches=1,
        ),
        Placed(_matrix(0.9 * side, 170, (width - 2.5, height - 1.5)), 48, 1, gamma=1.0, gain=2.0, weight=0.5),
        Placed(_matrix(side, 0, (-3 * width, 0.0)), 48, 0, gamma=1.0),
    ]


def _tables(
    place: torch.device, frames: list[list[Placed]], base: Tensor, scale: int
) -> tuple[Tensor, Tensor]:
    faces, first = table(frames, *base.shape[1:3], scale, rows=20)
    return torch.from_numpy(faces).to(place), torch.from_numpy(first).to(place)


def _assert_as_good(got: Pasted, twin: Pasted, exact: Pasted) -> None:
    """Half-way between two levels either is right: as often as with the twin, or twice as often."""
    apart, allowed = ((each.out.int() - exact.out.int()).abs() for each in (got, twin))
    assert not apart.numel() or apart.max() <= 1
    assert int(apart.sum()) <= 2 * int(allowed.sum()) + 2e-4 * apart.numel() + 1


def _assert_certified(got: Pasted, camera: Tensor, scale: int) -> None:
    """What is said of the picture is true of the picture, to the last digit."""
    block, units = (4, 144) if scale == 1 else (scale, scale**2)
    sums = got.sums.tolist()
    for out, seen, (*_, squares, most) in zip(got.out.cpu(), camera.cpu(), sums, strict=True):
        errors = []
        for y in range(0, out.shape[0], block):
            for x in range(0, out.shape[1], block):
                mean = out[y : y + block, x : x + block].double().mean((0, 1))
                wanted = (
                    seen[y : y + block, x : x + block]
                    if scale == 1
                    else seen[y // scale, x // scale, None, None]
                )
                errors.append(mean - wanted.double().mean((0, 1)))
        whole = (torch.stack(errors) * units).round().long()
        assert (squares, most) == (int(whole.square().sum()), int(whole.abs().max()))


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize(("shape", "scale"), [
    ((60, 80), 1), ((61, 79), 1), ((30, 44), 2), ((31, 43), 2), ((17, 20), 4), ((9, 11), 8), ((1, 1), 2),
    ((1, 3), 1),
])  # fmt: skip
def test_paste(place, shape, scale, framed):
    """Three frames: with four faces, none, and one."""
    base, camera = _frames(place, 3, *shape, scale)
    faces = _faces(*shape)
    patches, tables = _patches(place), _tables(place, [faces, [], faces[1:2]], base, scale)
    given = (base, camera, patches, *tables, scale)
    frame = Framed(tuple(base.shape), torch.uint8, place)
    if framed:
        odd = [Patches(Framed.of(residual), Framed.of(mask)) for residual, mask in patches]
        sums = torch.full((3, 4), 7, dtype=torch.int64, device=place)
        got = paste(Framed.of(base), Framed.of(camera), odd, *tables, scale, out=Pasted(frame.inside, sums))
    else:
        got = paste(*given)
    frame.assert_outside_untouched()
    twin, exact = reference.paste(*given), reference.paste(*given, dtype=torch.float64)
    _assert_as_good(got, twin, exact)
    _assert_certified(got, camera, scale)
    assert torch.equal(got.out[1], base[1])
    assert torch.equal(got.sums[1, :2], got.sums[1, 2:])
    figures = [certificate(each.sums, *base.shape[1:3], scale) for each in (got, exact)]
    assert torch.allclose(*figures, rtol=1e-3, atol=1e-2)
    if min(shape) > 1:
        assert (got.out[0] != base[0]).any()
        assert figures[0][0, 1, 0] < figures[0][0, 0, 0]


@pytest.mark.parametrize("side", [5, 11, 20, 30, 34, 47, 60, 90])
def test_a_face_of_any_size(place, side):
    """From ten times reduced to twice enlarged, through all parts of the filter and to the patch's edge."""
    base, camera = _frames(place, 1, 40, 50, 2)
    faces = [Placed(_matrix(side, 12, (24.2, 20.7)), 48, 0, gamma=0.7)]
    bare = [Patches(residual, torch.ones_like(mask)) for residual, mask in _patches(place)]
    given = (base, camera, bare, *_tables(place, [faces], base, 2), 2)
    _assert_as_good(paste(*given), reference.paste(*given), reference.paste(*given, dtype=torch.float64))


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_in_place_and_from_channels_first(place, scale):
    base, camera = _frames(place, 2, 33, 36, scale)
    patches, tables = _patches(place), _tables(place, [_faces(33, 36)] * 2, base, scale)
    planar = [Patches(x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1), mask) for x, mask in patches]
    wanted = paste(base, camera, patches, *tables, scale)
    canvas, sums = base.clone(), torch.full((2, 4), 5, dtype=torch.int64, device=place)
    paste(canvas, camera, planar, *tables, scale, out=Pasted(canvas, sums))
    assert torch.equal(canvas, wanted.out)
    assert torch.equal(sums, wanted.sums)


def test_no_frames_and_no_faces(place):
    base, camera = _frames(place, 0, 8, 8, 2)
    assert paste(base, camera, _patches(place), *_tables(place, [], base, 2), 2).out.shape == (0, 16, 16, 3)
    base, camera = _frames(place, 1, 8, 8, 2)
    faces, first = table([[]], 16, 16, 2)
    none = torch.from_numpy(faces).to(place), torch.from_numpy(first).to(place)
    assert torch.equal(paste(base, camera, _patches(place), *none, 2).out, base)


@pytest.mark.parametrize("scale", [1, 2])
def test_nothing_to_add_changes_no_bit(place, scale):
    base, camera = _frames(place, 1, 40, 40, scale)
    tables = _tables(place, [_faces(40, 40)], base, scale)
    hidden = [Patches(residual, torch.zeros_like(mask)) for residual, mask in _patches(place)]
    assert torch.equal(paste(base, camera, hidden, *tables, scale).out, base)


@pytest.mark.parametrize("size", [256, 512])
@pytest.mark.parametrize(("scale", "native"), [(1, 200), (2, 110), (2, 210), (4, 90)])
def test_twin_is_what_the_session_does(size, scale, native):
    """Where a crop is not reduced to less than half: there the filters differ by more than roundings."""
    pytest.importorskip("cv2")
    from streamsr.face.composite import Paste
    from streamsr.face.composite import paste as paste_there

    if size / (native * scale) >= 2:
        size = 256
    base, camera = _frames(torch.device("cpu"), 1, 240, 260, scale)
    rng = np.random.default_rng(1)
    residual = F.interpolate(
        torch.from_numpy(rng.normal(0, 12, (1, 3, size // 2, size // 2))), size, mode="bicubic"
    )
    patch = Patches(
        residual.permute(0, 2, 3, 1).float(), F.pad(torch.ones(1, size - 80, size - 80), (40,) * 4)
    )
    mask = F.avg_pool2d(patch.mask, 41, 1, 20)
    matrix = _matrix(native, 9, (130.3, 118.6))
    tables = _tables(base.device, [[Placed(matrix, size, 0, gamma=0.5)]], base, scale)
    got = reference.paste(base, camera, [Patches(patch.residual, mask)], *tables, scale)
    out = base[0].numpy().copy()
    before, after = paste_there(
        out, camera[0].numpy(), [Paste(matrix, patch.residual[0].numpy(), mask[0].numpy(), 0.5)], scale
    )
    apart = got.out[0].numpy().astype(int) - out
    changed = (out != base[0].numpy()).any(2)
    assert changed.sum() > 10_000
    assert np.sqrt(np.square(apart[changed]).mean()) < 0.8
    assert abs(float(apart[changed].mean())) < 0.05
    figures = certificate(got.sums, *base.shape[1:3], scale)[0]
    assert figures[0].tolist() == pytest.approx(before, rel=0.05)
    assert figures[1].tolist() == pytest.approx(after, rel=0.05)


def test_a_table_has_room_for_so_many_faces():
    faces = _faces(50, 50)
    rows, first = table([faces, [], faces[:1]], 100, 100, 2, rows=9)
    assert rows.shape == (9, 24)
    assert first.tolist() == [0, 4, 4, 5]
    with pytest.raises(KernelError, match="room for 4 faces, got 5"):
        table([faces, faces[:1]], 100, 100, 2, rows=4)


def test_what_does_not_fit_is_refused(place):
    base, camera = _frames(place, 2, 8, 10, 2)
    faces, first = _tables(place, [[], []], base, 2)
    patches = _patches(place)

    def refused(message, **other):
        given = {
            "base": base,
            "camera": camera,
            "patches": patches,
            "faces": faces,
            "first": first,
            "scale": 2,
        }
        with pytest.raises(KernelError, match=message):
            paste(**given | other)

    refused("scale must be one of", scale=3)
    refused(r"base must be \(2, 32, 40, 3\)", scale=4)
    refused("camera must be", camera=camera.float())
    refused("faces must be", faces=faces[:, :-1])
    refused("faces must be contiguous", faces=faces.T.contiguous().T)
    refused(r"first must be \(3\)", first=first[:-1])
    refused("1 to 2 sets, got 0", patches=[])
    refused(
        "square", patches=[Patches(torch.zeros(1, 4, 5, 3, device=place), torch.zeros(1, 4, 5, device=place))]
    )
    refused("mask must be", patches=[Patches(patches[0].residual, patches[1].mask)])
    sums = torch.zeros(2, 4, dtype=torch.int64, device=place)
    refused("out.out must be", out=Pasted(base[:, :-1], sums))
    refused("out.sums must be", out=Pasted(base.clone(), sums.int()))
    flipped = base.transpose(1, 2).contiguous().transpose(1, 2)
    refused("base itself", base=base.flatten()[: base.numel()].view(2, 16, 20, 3), out=Pasted(
        torch.as_strided(base, (2, 16, 20, 3), flipped.stride()), sums))  # fmt: skip
