import time

import cv2
import numpy as np
import pytest

from streamsr.errors import FrameError
from streamsr.face.alignment import crop_aligned, invert, rescale_template
from streamsr.face.background import upscale
from streamsr.face.composite import Paste, covers, paste, paste_residual, project
from streamsr.face.mask import face_mask
from streamsr.face.reduction import CameraError, certificate

RNG = np.random.default_rng(3)


def camera_frame(height: int = 180, width: int = 240) -> np.ndarray:
    noise = RNG.normal(0, 1, (height, width, 3)).astype(np.float32)
    return np.clip(128 + 160 * cv2.GaussianBlur(noise, (0, 0), 3), 30, 225).astype(np.uint8)


def alignment(native: float, degrees: float, corner: tuple[float, float]) -> np.ndarray:
    angle, k = np.radians(degrees), native / 512
    linear = k * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return invert(np.column_stack([linear, corner]))


def soft_disc(size: int, radius: float = 0.3) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    distance = np.hypot(x - (size - 1) / 2, y - (size - 1) / 2) / size
    return np.clip((radius + 0.1 - distance) / 0.1, 0, 1).astype(np.float32)


def project_under(
    mask: np.ndarray, matrix: np.ndarray, out: np.ndarray, camera: np.ndarray, luma: float, chroma: float
) -> None:
    [cover] = covers([Paste(matrix, np.zeros((*mask.shape, 3), np.float32), mask, luma)], camera, 2)
    assert cover is not None
    project(CameraError(out, camera, 2), cover, luma, chroma)


def mesh_in(matrix: np.ndarray) -> np.ndarray:
    """A (478, 2) mesh whose oval is an ellipse about the template's face, in frame px."""
    from streamsr.face.landmarks import FACE_OVAL

    template = np.tile([256.0, 300.0], (478, 1))
    angle = np.linspace(0, 2 * np.pi, len(FACE_OVAL), endpoint=False)
    template[FACE_OVAL] = np.stack([256 + 140 * np.sin(angle), 300 - 170 * np.cos(angle)], 1)
    template[[105, 334]] = [[190, 200], [320, 200]]
    inverse = invert(matrix)
    return (template @ inverse[:, :2].T + inverse[:, 2]).astype(np.float32)


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_upscale_size_and_place(scale):
    camera = camera_frame(45, 61)
    out = upscale(camera, scale)
    assert out.shape == (45 * scale, 61 * scale, 3)
    rms, most = certificate(out, camera, scale)
    assert rms < 2 and most < 25
    if scale == 1:
        assert out is not camera and (out == camera).all()


@pytest.mark.parametrize(
    ("scale", "size", "native"), [(1, 256, 90), (2, 256, 90), (2, 512, 150), (4, 256, 100)]
)
@pytest.mark.parametrize("degrees", [0, 14])
def test_residual_lands_where_its_crop_came_from(scale, size, native, degrees):
    """Cut a crop from a frame, take what changed in another frame as residual: pasting gives the other."""
    camera = camera_frame()
    matrix = alignment(native, degrees, (80.3, 40.7))
    out = upscale(camera, scale)
    bump = cv2.GaussianBlur(
        RNG.normal(0, 1, (*out.shape[:2], 1)).astype(np.float32), (0, 0), 2.5 * max(scale, 2)
    )
    changed = out + 40 * np.repeat((bump / np.abs(bump).max())[:, :, None], 3, 2)
    at_output = np.column_stack(
        [matrix[:, :2] / scale, matrix[:, 2] + matrix[:, :2] @ ([0.5 / scale - 0.5] * 2)]
    )
    residual = crop_aligned((changed - out).astype(np.float32), at_output, size)
    mask = soft_disc(size)

    pasted = out.copy()
    paste_residual(pasted, residual, mask, matrix, scale)
    core = np.zeros((size, size), np.float32)
    core[mask > 0.999] = 1
    inside = cv2.warpAffine(
        core,
        rescale_template(at_output, size),
        out.shape[1::-1],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )
    inside = cv2.erode(inside, np.ones((5, 5))) > 0.99
    assert inside.sum() > 500
    got = (pasted.astype(np.float32) - out)[inside][:, 0]
    wanted = (changed - out)[inside][:, 0]
    assert np.sqrt(((got - wanted) ** 2).mean()) < 0.6
    # least squares of got - wanted = gradient . shift
    slope_y, slope_x = np.gradient((changed - out)[:, :, 0])
    slopes = np.stack([slope_x[inside], slope_y[inside]], 1)
    shift = np.linalg.lstsq(slopes, got - wanted, rcond=None)[0]
    assert np.hypot(*shift) < 0.05 * max(1, native * scale / size)  # of a px of the crop or the output


@pytest.mark.parametrize("scale", [1, 2])
def test_nothing_to_add_changes_no_bit(scale):
    camera = camera_frame()
    out = upscale(camera, scale)
    before = out.copy()
    matrix = alignment(100, 5, (50, 30))
    size = 256
    residual = RNG.normal(0, 30, (size, size, 3)).astype(np.float32)
    paste_residual(out, residual, np.zeros((size, size), np.float32), matrix, scale)
    paste_residual(out, np.zeros_like(residual), soft_disc(size), matrix, scale)
    nothing = Paste(matrix, residual, np.zeros((size, size), np.float32), gamma=1.0)
    assert covers([nothing], camera, scale) == [None]
    of_camera = certificate(before, camera, scale)
    for pastes in ([], [nothing]):
        assert paste(out, camera, pastes, scale) == (of_camera, of_camera)
    assert (out == before).all()


def test_residual_outside_its_mask_is_never_seen():
    camera = camera_frame()
    out = upscale(camera, 2)
    before = out.copy()
    matrix = alignment(100, 0, (60, 40))
    residual = np.full((256, 256, 3), 90, np.float32)
    mask = soft_disc(256, radius=0.2)
    paste_residual(out, residual, mask, matrix, 2)
    changed = np.argwhere((out != before).any(2))
    centre = 2 * (np.array([40, 60]) + 50)
    reach = np.abs(changed - centre).max()
    assert 50 < reach < 0.31 * 200 + 3  # the disc ends at 0.3 of a 200-px crop


@pytest.mark.parametrize("size", [256, 512])
def test_paste_of_a_constant_leaves_no_seam(size):
    matrix = alignment(110, 7, (70, 40))
    mask = face_mask(mesh_in(matrix), matrix, size)
    out = np.full((360, 480, 3), 100, np.uint8)
    paste_residual(out, np.full((size, size, 3), 60, np.float32), mask, matrix, 2)
    assert out.max() == 160
    steps = (
        np.abs(np.diff(out[:, :, 0].astype(int), axis=0)).max(),
        np.abs(np.diff(out[:, :, 0].astype(int))).max(),
    )
    assert max(steps) <= 7  # a level of 60 is reached over 20 px or so


@pytest.mark.parametrize("size", [64, 256, 512])
def test_mask_is_soft_whole_and_zero_at_the_border(size):
    matrix = alignment(200, -12, (20, 10))
    mask = face_mask(mesh_in(matrix), matrix, size)
    assert mask.shape == (size, size) and mask.dtype == np.float32
    assert mask.min() >= 0 and mask.max() <= 1
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    assert (border == 0).all()
    k = size / 512
    assert mask[round(300 * k), round(256 * k)] > 0.999
    assert mask[round(115 * k), round(256 * k)] > 0.8  # forehead, above the mesh's own top at 130
    assert mask[round(60 * k), round(60 * k)] < 0.01
    slope = max(np.abs(np.diff(mask, axis=0)).max(), np.abs(np.diff(mask, axis=1)).max())
    assert slope < 22 / size


def test_mask_far_outside_the_crop_is_empty():
    matrix = alignment(100, 0, (0, 0))
    assert face_mask(mesh_in(matrix) + np.float32(1e6), matrix, 256).max() == 0


@pytest.mark.parametrize("shape", [(180, 240), (181, 239), (33, 50)])
@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_certificate_is_exact(shape, scale):
    camera = camera_frame(*shape)
    out = np.clip(upscale(camera, scale) + RNG.normal(0, 9, (shape[0] * scale, shape[1] * scale, 3)), 0, 255)
    out = out.astype(np.uint8)
    block = 4 if scale == 1 else scale
    errors = []
    for y in range(0, out.shape[0], block):
        for x in range(0, out.shape[1], block):
            mean = out[y : y + block, x : x + block].astype(float).mean((0, 1))
            if scale == 1:
                seen = camera[y : y + block, x : x + block].astype(float).mean((0, 1))
            else:
                seen = camera[y // scale, x // scale].astype(float)
            errors.append(mean - seen)
    rms, most = certificate(out, camera, scale)
    assert rms == pytest.approx(float(np.sqrt(np.mean(np.square(errors)))), rel=1e-5)
    assert most == pytest.approx(float(np.abs(errors).max()), rel=1e-5)


@pytest.mark.parametrize("shape", [(180, 240), (179, 237)])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_projection_brings_the_frame_nearer_to_the_camera(shape, scale):
    camera = camera_frame(*shape)
    out = upscale(camera, scale)
    matrix = alignment(120, 6, (80, 30))
    detail = cv2.GaussianBlur(RNG.normal(0, 1, (256, 256, 3)).astype(np.float32), (0, 0), 12) * 300
    found = Paste(matrix, detail, soft_disc(256), gamma=0.8)
    before, after = paste(out, camera, [found], scale)
    assert after == pytest.approx(certificate(out, camera, scale), rel=1e-6)
    assert after[0] < 0.6 * before[0]
    assert after[1] < before[1]


def test_full_projection_gives_the_cameras_pixels_back():
    camera = camera_frame()
    matrix = alignment(140, 0, (50, 20))
    out = upscale(camera, 2)
    mask = soft_disc(256)
    paste_residual(out, RNG.normal(0, 12, (256, 256, 3)).astype(np.float32), mask, matrix, 2)
    project_under(mask, matrix, out, camera, 1.0, 1.0)
    means = out.reshape(180, 2, 240, 2, 3).astype(float).mean((1, 3))
    centre_y, centre_x = 20 + 70, 50 + 70
    core = np.s_[centre_y - 25 : centre_y + 25, centre_x - 25 : centre_x + 25]  # within 0.3 of 140 px
    assert np.abs(means - camera)[core].max() <= 0.5


def test_projection_treats_luma_and_colour_apart():
    camera = np.full((64, 64, 3), 120, np.uint8)
    matrix = alignment(60, 0, (2, 2))
    mask = np.ones((128, 128), np.float32)
    grey = np.full((128, 128, 3), 130, np.uint8)
    project_under(mask, matrix, grey, camera, 0.0, 1.0)
    assert (grey == 130).all()  # an error of luma alone is no error of colour
    tinted = np.full((128, 128, 3), 120, np.uint8)
    tinted[..., 0] += 40
    project_under(mask, matrix, tinted, camera, 0.0, 1.0)
    inner = tinted[20:-20, 20:-20].astype(int)
    assert np.ptp(inner, axis=2).max() <= 1  # the tint is gone
    assert abs(inner.mean() - (120 + 0.299 * 40)) < 1  # and its luma stays


@pytest.mark.parametrize("corner", [(-60, -50), (200, 140), (-1000, 0), (90, 150)])
@pytest.mark.parametrize("scale", [1, 2])
def test_faces_over_the_edge_are_cut_off_not_refused(corner, scale):
    camera = camera_frame(171, 231)
    out = upscale(camera, scale)
    found = Paste(
        alignment(120, 20, corner), np.full((256, 256, 3), 25, np.float32), soft_disc(256), gamma=0.3
    )
    figures = paste(out, camera, [found], scale)
    assert np.isfinite(figures).all()
    assert out.shape == (171 * scale, 231 * scale, 3)


def test_wrong_sizes_are_refused():
    camera = camera_frame(20, 30)
    with pytest.raises(FrameError, match=r"\(40, 60, 3\)"):
        certificate(np.zeros((40, 61, 3), np.uint8), camera, 2)


def test_composite_leaves_time_for_the_network():
    """640x360 to 1280x720 with one 420-px face: about 5 ms on one thread; the bar is for busy machines."""
    camera = camera_frame(360, 640)
    matrix = alignment(210, 4, (200, 60))
    mask = soft_disc(512, 0.35)
    residual = RNG.normal(0, 5, (512, 512, 3)).astype(np.float32)
    times = []
    for _ in range(8):
        began = time.thread_time()
        out = upscale(camera, 2)
        paste(out, camera, [Paste(matrix, residual, mask, gamma=0.5)], 2)
        times.append(time.thread_time() - began)
    assert min(times) < 0.025
