"""Between decoded pictures and full-range RGB: the matrix, the range, the tags, the orientation.

A stream's tags decide. What it does not say is decided as players do: BT.601 below 720 lines,
BT.709 from there; limited range, except for the full-range ``yuvj`` formats. Transfer and primaries
are carried along, never converted: an HDR stream stays in its own transfer curve, at 8 bits.

Not looked at: the sample aspect ratio (pictures are taken as stored) and interlacing (fields are
taken as one progressive picture).
"""

from __future__ import annotations

from typing import Any, cast

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from ..errors import DecodeError
from ..frame import Colour, Matrix, Range, Yuv420p, check_image
from ..ycbcr import planes_420

__all__ = ["UprightRgb", "colour_of", "encodable", "from_rgb", "oriented", "tag", "to_rgb"]

UNSPECIFIED = 2  # of ITU-T H.273 matrix, primaries and transfer
HD_LINES = 720  # from here an untagged stream is BT.709

# H.273 matrix code point -> the nearest matrix we name
MATRICES = {
    1: Matrix.BT709,
    4: Matrix.BT601,  # FCC
    5: Matrix.BT601,  # BT.470 BG
    6: Matrix.BT601,  # SMPTE 170M
    7: Matrix.BT709,  # SMPTE 240M
    9: Matrix.BT2020,
    10: Matrix.BT2020,  # constant luminance: read as the other one, as players do
}
CODE_POINTS = {Matrix.BT601: 6, Matrix.BT709: 1, Matrix.BT2020: 9}
# H.273 code point -> the coefficients swscale is to read with: FCC and 240M have their own
COEFFICIENTS = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
    10: Colorspace.BT2020,
}
RANGES = {Range.LIMITED: ColorRange.MPEG, Range.FULL: ColorRange.JPEG}

# swscale's default path is 1.5 / 255 too dark and repeats chroma; these flags make it unbiased.
READ = int(Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT)
WRITE = int(
    Interpolation.BICUBIC
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
)


def colour_of(frame: av.VideoFrame) -> Colour:
    """How ``frame`` codes colour. Raises DecodeError for a matrix that cannot be converted.

    For an RGB picture: what a YCbCr encoder is to use for it (limited range, matrix by its height).
    """
    primaries, transfer = int(frame.color_primaries), int(frame.color_trc)
    if frame.format.is_rgb or int(frame.colorspace) in (0, UNSPECIFIED):
        matrix = Matrix.BT601 if frame.height < HD_LINES else Matrix.BT709
    elif int(frame.colorspace) in MATRICES:
        matrix = MATRICES[int(frame.colorspace)]
    else:
        raise DecodeError(
            f"colour matrix must be BT.601, BT.709 or BT.2020, got H.273 code {int(frame.colorspace)}", ""
        )
    full = not frame.format.is_rgb and _is_full(frame)
    return Colour(matrix, Range.FULL if full else Range.LIMITED, primaries, transfer)


def to_rgb(frame: av.VideoFrame, reformatter: VideoReformatter) -> np.ndarray:
    """(H, W, 3) uint8 RGB, full range, C-contiguous; any pixel format, any depth; alpha is dropped.

    Pass the same ``reformatter`` for all frames of a stream: it keeps swscale's tables.
    """
    colour = colour_of(frame)
    full = frame.format.is_rgb or _is_full(frame)
    rgb = reformatter.reformat(
        frame,
        format="rgb24",
        src_colorspace=COEFFICIENTS.get(int(frame.colorspace), COEFFICIENTS[CODE_POINTS[colour.matrix]]),
        dst_colorspace=Colorspace.DEFAULT,
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=READ,
        threads=1,
    )
    return np.ascontiguousarray(rgb.to_ndarray())


def from_rgb(
    image: np.ndarray, colour: Colour, pixel_format: str, reformatter: VideoReformatter
) -> av.VideoFrame:
    """A frame for an encoder, converted with ``colour`` and tagged with it.

    image: (H, W, 3) uint8 RGB, full range. pixel_format: FFmpeg's name, YCbCr or RGB. No pts is set.
    """
    check_image(image)
    image = np.ascontiguousarray(image)
    target = av.VideoFormat(pixel_format, image.shape[1], image.shape[0])
    if pixel_format == "yuv420p" and image.shape[0] % 2 == 0 and image.shape[1] % 2 == 0:
        return _of_planes(planes_420(image, colour), colour)
    if target.is_rgb:
        picture = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame = reformatter.reformat(picture, format=pixel_format, interpolation=WRITE, threads=1)
    else:
        picture = av.VideoFrame.from_numpy_buffer(image, format="rgb24")  # no copy: it is converted at once
        frame = reformatter.reformat(
            picture,
            format=pixel_format,
            dst_colorspace=COEFFICIENTS[CODE_POINTS[colour.matrix]],
            src_color_range=ColorRange.JPEG,
            dst_color_range=RANGES[colour.range],
            interpolation=WRITE,
            threads=1,
        )
    frame.color_primaries = colour.primaries
    frame.color_trc = colour.transfer
    return frame


def encodable(
    image: np.ndarray | Yuv420p, colour: Colour, pixel_format: str, reformatter: VideoReformatter
) -> av.VideoFrame:
    """``from_rgb``; but a Yuv420p, which only suits an encoder of that pixel format, is copied as it is."""
    if not isinstance(image, Yuv420p):
        return from_rgb(image, colour, pixel_format, reformatter)
    return _of_planes(image.planes, image.colour)


def _of_planes(planes: np.ndarray, colour: Colour) -> av.VideoFrame:
    """A tagged copy of ``planes`` as of ``Yuv420p``."""
    frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
    tag(frame, colour, "yuv420p")
    return frame


def tag(context: Any, colour: Colour, pixel_format: str) -> None:
    """Write ``colour`` into a frame, or an encoder's context before it opens; RGB has no matrix."""
    rgb = av.VideoFormat(pixel_format).is_rgb
    context.colorspace = 0 if rgb else CODE_POINTS[colour.matrix]
    context.color_range = int(ColorRange.JPEG if rgb else RANGES[colour.range])
    context.color_primaries = colour.primaries
    context.color_trc = colour.transfer


class UprightRgb:
    """Reads the frames of one stream as RGB, turned and mirrored as their display matrix says.

    PyAV ties a frame whose side data is looked at into a cycle with its own picture, which then waits
    for the garbage collector: so that is done only when the rotation is another.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._rotation: int | None = None
        self._matrix: tuple[int, int, int, int] | None = None

    def read(self, frame: av.VideoFrame) -> np.ndarray:
        """(H, W, 3) uint8. Raises DecodeError."""
        if frame.rotation != self._rotation:
            self._rotation, self._matrix = frame.rotation, _display_matrix(frame)
        return oriented(to_rgb(frame, self._reformatter), self._matrix)


def _display_matrix(frame: av.VideoFrame) -> tuple[int, int, int, int] | None:
    """(a, b, c, d): a pixel at (x, y) is to be shown at (a x + c y, b x + d y); None if as stored."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    values = np.frombuffer(cast(Any, data), dtype=np.int32, count=9)  # rows (a b u), (c d v), (x y w)
    return int(values[0]), int(values[1]), int(values[3]), int(values[4])


def oriented(image: np.ndarray, matrix: tuple[int, int, int, int] | None) -> np.ndarray:
    """``image`` turned and mirrored as its display matrix says, C-contiguous.

    Quarter turns and mirrors are applied; any other angle is shown as the nearest of them.
    """
    if matrix is None:
        return image
    a, b, c, d = matrix
    if abs(a) + abs(d) >= abs(b) + abs(c):
        right, down = a, d
    else:
        image, right, down = image.transpose(1, 0, 2), c, b
    if right < 0:
        image = image[:, ::-1]
    if down < 0:
        image = image[::-1]
    return np.ascontiguousarray(image)


def _is_full(frame: av.VideoFrame) -> bool:
    """Whether a picture that is not RGB uses all of 0..255."""
    if frame.format.name.startswith("yuvj"):
        return True
    if frame.format.name.startswith(("gray", "ya", "mono", "pal")) and not int(frame.color_range):
        return True  # untagged grey comes from still-picture formats
    return int(frame.color_range) == int(ColorRange.JPEG)
