"""Colour through decode, encode and decode again, against the arithmetic of the standards."""

from __future__ import annotations

import gc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from streamsr.errors import DecodeError, FrameError
from streamsr.frame import Colour, Matrix, Range, Yuv420p
from streamsr.io.colour import UprightRgb, colour_of, encodable, from_rgb, oriented, to_rgb
from streamsr.io.file import FileSource
from streamsr.io.file_sink import FileSink

WEIGHTS = {Matrix.BT601: (0.299, 0.114), Matrix.BT709: (0.2126, 0.0722), Matrix.BT2020: (0.2627, 0.0593)}
CODES = {Matrix.BT601: 6, Matrix.BT709: 1, Matrix.BT2020: 9}
PRIMARIES = {Matrix.BT601: 6, Matrix.BT709: 1, Matrix.BT2020: 9}
COLOURS = [Colour(matrix, range_, PRIMARIES[matrix], 13) for matrix in Matrix for range_ in Range]


def chart(width: int = 192, height: int = 128) -> np.ndarray:
    """24 patches with soft edges and a slight ramp; saturated colours, skin tones and greys."""
    colours = np.array(
        [
            [235, 20, 20], [20, 220, 30], [25, 25, 230], [240, 230, 20], [20, 220, 230], [225, 30, 220],
            [198, 134, 110], [141, 85, 62], [224, 172, 140], [92, 57, 42], [255, 219, 188], [170, 120, 100],
            [0, 0, 0], [32, 32, 32], [64, 64, 64], [128, 128, 128], [200, 200, 200], [255, 255, 255],
            [80, 120, 60], [60, 90, 150], [150, 60, 90], [230, 140, 40], [90, 50, 130], [40, 130, 120],
        ],
        dtype=np.float64,
    ).reshape(4, 6, 3)  # fmt: skip
    picture = np.kron(colours, np.ones((height // 4, width // 6, 1)))
    ramp = np.linspace(-6, 6, height // 4)[:, None, None]
    picture = picture + np.tile(ramp, (4, 1, 1))
    window = np.hanning(19)[1:-1] / np.hanning(19).sum()
    for axis in (0, 1):  # hard edges would measure chroma subsampling, not colour
        padded = np.pad(picture, [(8, 8) if a == axis else (0, 0) for a in range(3)], mode="edge")
        picture = np.apply_along_axis(np.convolve, axis, padded, window, mode="valid")
    return np.clip(picture, 0, 255).round().astype(np.uint8)


def ycbcr(image: np.ndarray, colour: Colour, bits: int = 8) -> np.ndarray:
    """(3, H, W) float64 Y, Cb, Cr in code values, by the standard's own equations (H.273, 8.3)."""
    kr, kb = WEIGHTS[colour.matrix]
    red, green, blue = (image[..., channel] / 255.0 for channel in range(3))
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    if colour.range is Range.FULL:
        top, middle = 2**bits - 1, 2 ** (bits - 1)
        return np.stack([luma * top, cb * top + middle, cr * top + middle])
    unit = 2 ** (bits - 8)
    return np.stack([luma * 219 + 16, cb * 224 + 128, cr * 224 + 128]) * unit


def coded_frame(image: np.ndarray, colour: Colour, pixel_format: str = "yuv444p") -> av.VideoFrame:
    """A frame whose samples come from ``ycbcr``, not from the code under test."""
    frame = av.VideoFrame(image.shape[1], image.shape[0], pixel_format)
    bits = 10 if "10" in pixel_format else 8
    dtype = np.uint16 if bits == 10 else np.uint8
    for plane, values in zip(frame.planes, ycbcr(image, colour, bits), strict=True):
        if plane.width < values.shape[1]:
            values = values.reshape(plane.height, 2, plane.width, 2).mean(axis=(1, 3))
        rows = np.zeros((plane.height, plane.line_size // np.dtype(dtype).itemsize), dtype)
        rows[:, : plane.width] = np.clip(values.round(), 0, 2**bits - 1)
        plane.update(rows.tobytes())
    frame.colorspace = CODES[colour.matrix]
    frame.color_range = 2 if colour.range is Range.FULL else 1
    frame.color_primaries, frame.color_trc = colour.primaries, colour.transfer
    return frame


def write_chart(path: Path, image: np.ndarray, colour: Colour, frames: int = 3) -> None:
    """H.264 4:4:4 at crf 1 with samples from ``ycbcr``."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.height, stream.width = image.shape[:2]
        stream.pix_fmt = "yuv444p"
        context = stream.codec_context
        context.colorspace = CODES[colour.matrix]
        context.color_range = 2 if colour.range is Range.FULL else 1
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        for index in range(frames):
            frame = coded_frame(image, colour)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def read_first(path: Path) -> tuple[np.ndarray, Colour]:
    source = FileSource(str(path))
    info = source.open()
    frame = source.read()
    source.close()
    assert frame is not None
    return frame.image, info.colour


def error(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(np.float64) - b).mean())


@pytest.mark.parametrize("colour", COLOURS, ids=lambda colour: f"{colour.matrix.value}-{colour.range.value}")
@pytest.mark.parametrize("pixel_format", ["yuv444p", "yuv420p", "yuv420p10le"])
def test_reading_agrees_with_the_standards(colour: Colour, pixel_format: str) -> None:
    image = chart()
    frame = coded_frame(image, colour, pixel_format)
    assert colour_of(frame) == colour
    assert error(to_rgb(frame, VideoReformatter()), image) < 0.8


@pytest.mark.parametrize("colour", COLOURS, ids=lambda colour: f"{colour.matrix.value}-{colour.range.value}")
def test_writing_agrees_with_the_standards(colour: Colour) -> None:
    image = chart()
    frame = from_rgb(image, colour, "yuv444p", VideoReformatter())
    assert colour_of(frame) == colour
    planes = [
        np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, -1)[:, :192]
        for plane in frame.planes
    ]
    for plane, wanted in zip(planes, ycbcr(image, colour), strict=True):
        assert error(plane, wanted) < 0.8


@pytest.mark.parametrize(
    "colour", COLOURS[:4], ids=lambda colour: f"{colour.matrix.value}-{colour.range.value}"
)
@pytest.mark.parametrize(("codec", "suffix"), [("h264", "mp4"), ("h264", "mkv"), ("ffv1", "mkv")])
def test_round_trip_keeps_picture_and_tags(tmp_path: Path, colour: Colour, codec: str, suffix: str) -> None:
    image = chart()
    write_chart(tmp_path / "in.mp4", image, colour)
    first, first_colour = read_first(tmp_path / "in.mp4")
    assert first_colour == colour
    assert error(first, image) < 1.5

    source = FileSource(str(tmp_path / "in.mp4"))
    sink = FileSink(str(tmp_path / f"out.{suffix}"), codec=codec, crf=1 if codec == "h264" else None)
    sink.open(source.open())
    while (frame := source.read()) is not None:
        sink.write(frame)
    sink.close()
    source.close()

    second, second_colour = read_first(tmp_path / f"out.{suffix}")
    assert (second_colour.primaries, second_colour.transfer) == (colour.primaries, colour.transfer)
    if codec == "ffv1":  # RGB: bit exact, without a matrix or range
        assert np.array_equal(second, first)
    else:
        assert second_colour == colour
        assert error(second, first) < 1.5
        assert error(second, image) < 1.5


@pytest.mark.parametrize("size", [(64, 48), (62, 46), (2, 2), (130, 90)])
@pytest.mark.parametrize("colour", COLOURS, ids=lambda colour: f"{colour.matrix.value}-{colour.range.value}")
def test_planes_for_an_encoder_stay_as_they_are(colour: Colour, size: tuple[int, int]) -> None:
    width, height = size
    planes = np.random.default_rng(0).integers(0, 256, (3 * height // 2, width), np.uint8)
    picture = Yuv420p(planes, colour)
    assert picture.shape == (height, width)
    frame = encodable(picture, Colour(), "yuv420p", VideoReformatter())
    assert (frame.format.name, frame.width, frame.height) == ("yuv420p", width, height)
    assert np.array_equal(frame.to_ndarray(), planes)
    assert colour_of(frame) == colour


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (0, 4), (6, 0), (6, 4, 3)])
def test_what_cannot_be_planes_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(FrameError, match=r"planes must be \(3 H / 2, W\) uint8"):
        Yuv420p(np.zeros(shape, np.uint8), Colour())
    with pytest.raises(FrameError, match="float32"):
        Yuv420p(np.zeros((6, 4), np.float32), Colour())


def test_the_matrix_matters() -> None:
    """The thresholds above would not pass a picture read with the wrong matrix or range."""
    image = chart()
    right = coded_frame(image, Colour(Matrix.BT709, Range.LIMITED))
    right.colorspace = CODES[Matrix.BT601]
    assert error(to_rgb(right, VideoReformatter()), image) > 4
    right.colorspace, right.color_range = CODES[Matrix.BT709], 2
    assert error(to_rgb(right, VideoReformatter()), image) > 4


@pytest.mark.parametrize(
    ("height", "matrix"), [(480, Matrix.BT601), (718, Matrix.BT601), (720, Matrix.BT709)]
)
def test_untagged_streams_go_by_their_height(height: int, matrix: Matrix) -> None:
    image = np.tile(chart(192, 8), (height // 8 + 1, 1, 1))[:height]
    frame = coded_frame(image, Colour(matrix, Range.LIMITED))
    frame.colorspace, frame.color_range = 2, 0
    assert colour_of(frame).matrix is matrix
    assert error(to_rgb(frame, VideoReformatter()), image) < 0.8


def test_yuvj_is_full_range_without_a_tag() -> None:
    image = chart()
    frame = coded_frame(image, Colour(Matrix.BT601, Range.FULL), "yuvj420p")
    frame.color_range = 0
    assert colour_of(frame).range is Range.FULL
    assert error(to_rgb(frame, VideoReformatter()), image) < 0.8


@pytest.mark.parametrize("pixel_format", ["rgb24", "gbrp", "bgr0", "rgba", "rgb48le"])
def test_rgb_is_read_bit_for_bit(pixel_format: str) -> None:
    image = chart()
    frame = from_rgb(image, Colour(), pixel_format, VideoReformatter())
    assert np.array_equal(to_rgb(frame, VideoReformatter()), image)


def test_grey_pictures_are_full_range() -> None:
    grey = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    frame = av.VideoFrame.from_ndarray(grey, format="gray")
    assert np.abs(to_rgb(frame, VideoReformatter())[..., 1].astype(int) - grey).max() <= 1


def test_a_matrix_that_cannot_be_converted_is_an_error() -> None:
    frame = av.VideoFrame(16, 16, "yuv444p")
    frame.colorspace = 8  # YCgCo
    with pytest.raises(DecodeError, match=r"must be BT\.601.*got H\.273 code 8"):
        to_rgb(frame, VideoReformatter())


def test_odd_sizes_and_padded_rows() -> None:
    image = chart(102, 60)[:57, :101]
    frame = from_rgb(image, Colour(), "yuv444p", VideoReformatter())
    assert frame.planes[0].line_size > 101  # a stride that is not the width
    out = to_rgb(frame, VideoReformatter())
    assert out.shape == (57, 101, 3) and out.flags.c_contiguous
    assert error(out, image) < 0.8


@pytest.mark.parametrize(
    ("matrix", "turned"),
    [
        ((1, 0, 0, 1), lambda x: x),
        ((0, -1, 1, 0), lambda x: np.rot90(x, 1)),  # FFmpeg's "rotation 90": counterclockwise
        ((-1, 0, 0, -1), lambda x: np.rot90(x, 2)),
        ((0, 1, -1, 0), lambda x: np.rot90(x, -1)),
        ((-1, 0, 0, 1), lambda x: x[:, ::-1]),
        ((1, 0, 0, -1), lambda x: x[::-1]),
        ((0, 1, 1, 0), lambda x: x.transpose(1, 0, 2)),
    ],
)
def test_orientation(matrix: tuple[int, int, int, int], turned) -> None:  # type: ignore[no-untyped-def]
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    a, b, c, d = (65536 * value for value in matrix)
    out = oriented(image, (a, b, c, d))
    assert out.flags.c_contiguous
    assert np.array_equal(out, turned(image))


def test_reading_pictures_leaves_none_of_them_to_the_garbage_collector() -> None:
    """PyAV ties a frame whose side data is looked at into a cycle: a live stream would pile them up."""
    upright = UprightRgb()
    gc.collect()
    gc.disable()
    try:
        before = {id(thing) for thing in gc.get_objects() if isinstance(thing, av.VideoFrame)}
        for value in range(20):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), value, np.uint8), format="rgb24")
            assert (upright.read(frame) == value).all()
            del frame
        left = {id(thing) for thing in gc.get_objects() if isinstance(thing, av.VideoFrame)} - before
        assert len(left) <= 1  # the first, whose matrix was read
    finally:
        gc.enable()
