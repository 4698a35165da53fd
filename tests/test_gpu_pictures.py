"""Pictures on the device: of any size as on a CPU, planes for encoders, tensors in and out, bad frames."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from av.video.reformatter import VideoReformatter
from gpu_fixtures import DeviceEnhancer, device, device_session, frame_of, launches, restorer, weights
from helpers import MemorySink, MemorySource
from media import moving_portrait

from streamsr.bench.fidelity import psnr_y
from streamsr.errors import FrameError
from streamsr.frame import Colour, Matrix, Range, StreamInfo, Yuv420p
from streamsr.gpu.pictures import DevicePictures
from streamsr.io.colour import from_rgb
from streamsr.io.file import FileSource
from streamsr.io.file_sink import FileSink
from streamsr.model.restorer import Restorer
from streamsr.pictures import HostPictures
from streamsr.pipeline import Pipeline

__all__ = ["device", "launches", "restorer", "weights"]


def _camera(index: int) -> np.ndarray:
    return cv2.resize(moving_portrait(index, 400, 300), (200, 150), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 2), (45, 61), (90, 121)])
@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_pictures_of_any_size_become_what_they_become_on_a_cpu(
    device: torch.device, scale: int, shape: tuple[int, int]
) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    camera = cv2.addWeighted(noise, 0.3, moving_portrait(0, shape[1], shape[0]), 0.7, 0)
    results = []
    for pictures in (DevicePictures(scale, device), HostPictures(scale)):
        results.append(pictures.composite(pictures.take(camera), []))
    (out, proof), (wanted, expected) = results
    assert out.shape == wanted.shape and out.dtype == np.uint8
    inside = (slice(3 * scale, -3 * scale or None),) * 2  # borders of the error's energy differ
    apart = np.abs(out.astype(int) - wanted)
    assert apart.mean() < 0.6
    assert apart[inside].max(initial=0) <= 2 and (apart[inside] > 1).sum() <= 1e-4 * apart.size
    assert proof.rms == proof.rms_before == pytest.approx(expected.rms, rel=0.1, abs=0.3)
    if scale == 1:
        assert np.array_equal(out, camera) and proof.max == 0


def _assert_like_swscales(planes: Yuv420p, rgb: np.ndarray, colour: Colour) -> None:
    """Of full range swscale rounds chroma down."""
    assert isinstance(planes, Yuv420p) and planes.colour == colour and planes.shape == rgb.shape[:2]
    height, width = rgb.shape[:2]
    nv12 = from_rgb(rgb, colour, "nv12", VideoReformatter()).to_ndarray()  # yuv420p would not be swscale's
    chroma = nv12[height:].reshape(height // 2, width // 2, 2).transpose(2, 0, 1)
    wanted = np.concatenate([nv12[:height], chroma.reshape(height // 2, width)])
    apart = np.abs(planes.planes.astype(int) - wanted)
    assert apart.max() <= 1, apart.max()
    assert apart[: len(rgb)].mean() < 0.1


@pytest.mark.parametrize("span", Range)
@pytest.mark.parametrize("matrix", Matrix)
@pytest.mark.parametrize("shape", [(48, 64), (45, 61)])
def test_what_an_encoder_gets_is_what_swscale_makes_of_the_picture(
    device: torch.device, launches: Counter[str], shape: tuple[int, int], matrix: Matrix, span: Range
) -> None:
    colour = Colour(matrix, span, 1, 13)
    pictures, camera = DevicePictures(2, device), moving_portrait(0, shape[1], shape[0])
    height, width = 2 * shape[0], 2 * shape[1]
    rgb, proof = pictures.composite(pictures.take(camera), [])
    output = StreamInfo(width, height, Fraction(25), Fraction(1, 25), colour)
    launches.clear()
    planes, same = pictures.composite(pictures.take(camera), [], output)
    assert launches["colour"] == 1 and same == proof
    _assert_like_swscales(planes, rgb, colour)
    for other in (replace(output, width=width + 2), replace(output, height=height - 2)):
        out, _ = pictures.composite(pictures.take(camera), [], other)  # which is to be fitted
        assert np.array_equal(out, rgb)
    tensor = torch.from_numpy(camera).to(device)
    out, _ = pictures.composite(pictures.take(tensor), [], output)
    assert isinstance(out, torch.Tensor) and np.array_equal(out.cpu().numpy(), rgb)
    assert launches["colour"] == 1


class _TaggedSource(MemorySource):
    def open(self) -> StreamInfo:
        return replace(super().open(), colour=Colour(Matrix.BT709, Range.FULL, 1, 1))


class _EncodingSink(MemorySink):
    takes_yuv420p = True


async def test_a_pipeline_hands_planes_to_an_encoder_and_pictures_to_others(
    restorer: Restorer, launches: Counter[str]
) -> None:
    frames = [frame_of(_camera(index), index) for index in range(3)]
    small = cv2.resize(frames[1].image, (160, 120))
    frames[1] = frames[1].with_image(small)  # of another size for a while: fitted, as RGB
    outs, reports, counts = [], [], []
    for sink in (MemorySink(), _EncodingSink()):
        async with Pipeline(_TaggedSource(frames), sink, DeviceEnhancer(restorer)) as pipeline:
            launches.clear()  # of its beginning
            reports.append(await pipeline.run())
        counts.append(launches["colour"])
        assert sink.final is not None and sink.info is not None
        outs.append([frame.image for frame in sink.final])
    assert counts == [0, 2]
    for index in (0, 2):
        _assert_like_swscales(outs[1][index], outs[0][index], sink.info.colour)
    assert np.array_equal(outs[0][1], outs[1][1]) and outs[0][1].shape == (300, 400, 3)
    for name in ("certificate_rms", "certificate_max", "nfe", "faces", "restored_share"):
        assert getattr(reports[0], name) == getattr(reports[1], name)


@pytest.mark.parametrize(
    ("name", "codec", "size", "converted"),
    [("a.mp4", "h264", (62, 46), 2), ("a.mp4", "h264", (61, 45), 0), ("a.mkv", "ffv1", (62, 46), 0)],
)
async def test_files_are_given_what_their_codec_takes(
    restorer: Restorer,
    launches: Counter[str],
    tmp_path: Path,
    name: str,
    codec: str,
    size: tuple[int, int],
    converted: int,
) -> None:
    frames = [frame_of(moving_portrait(index, *size), index) for index in range(2)]
    crf = 1 if codec == "h264" else None
    enhancer = DeviceEnhancer(restorer)
    memory = MemorySink()
    async with Pipeline(_TaggedSource(frames), memory, enhancer, scale=1) as pipeline:
        await pipeline.run()
    async with Pipeline(
        _TaggedSource(frames), FileSink(str(tmp_path / name), codec=codec, crf=crf), enhancer, scale=1
    ) as pipeline:
        launches.clear()
        await pipeline.run()
    assert launches["colour"] == converted
    source = FileSource(str(tmp_path / name))
    assert source.open().colour.primaries == 1
    for wanted in memory.final or ():
        got = source.read()
        assert got is not None and psnr_y(got.image, wanted.image) > 38
    source.close()


def test_a_tensor_comes_out_as_a_tensor(restorer: Restorer) -> None:
    class Borrowed:
        """As other libraries hand theirs over."""

        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor, self.shape = tensor, tuple(tensor.shape)

        def __dlpack__(self, **options: object) -> object:
            return self.tensor.__dlpack__(**options)

        def __dlpack_device__(self) -> object:
            return self.tensor.__dlpack_device__()

    camera = _camera(0)
    tensor = torch.from_numpy(camera).to(restorer.device)
    strided = torch.zeros((*camera.shape[:2], 5), dtype=torch.uint8, device=restorer.device)[..., 1:4]
    strided.copy_(tensor)
    outs = []
    for image in (camera, tensor, strided, Borrowed(tensor)):
        with device_session(restorer, 2) as session:
            outs.append(session.process(image)[0])
    assert isinstance(outs[0], np.ndarray)
    for out in outs[1:]:
        assert isinstance(out, torch.Tensor) and out.device == restorer.device
        assert np.array_equal(out.cpu().numpy(), outs[0])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros((4, 4), dtype=torch.uint8), r"must be \(H, W, 3\), got \(4, 4\)"),
        (torch.zeros((4, 4, 3)), "must be uint8 on .*, got float32 on"),
        (torch.zeros((4, 4, 3), dtype=torch.uint8, device="meta"), "got uint8 on meta"),
        (np.zeros((4, 4, 3), np.float32), "must be uint8, got float32"),
        ("no picture", "must be a numpy array or a tensor, got str"),
    ],
)
def test_bad_frames_are_named(device: torch.device, image: object, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        DevicePictures(2, device).take(image)
