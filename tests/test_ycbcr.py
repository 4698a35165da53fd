"""Pictures in 4:2:0 against the equations of H.273 in float64, and against swscale's."""

import av
import numpy as np
import pytest
import skimage.data
from av.video.reformatter import VideoReformatter

from streamsr.face.background import upscale
from streamsr.frame import Colour, Matrix, Range
from streamsr.io.colour import WRITE, to_rgb
from streamsr.ycbcr import coefficients, planes_420

COLOURS = [Colour(matrix, span) for matrix in Matrix for span in Range]


def exact(image: np.ndarray, colour: Colour) -> list[np.ndarray]:
    """Y, Cb and Cr in float64, not rounded."""
    table = np.array(coefficients(colour.matrix, colour.range))
    height, width = image.shape[:2]
    means = image.reshape(height // 2, 2, width // 2, 2, 3).mean((1, 3))
    return [
        pixels @ row[:3] + row[3]
        for pixels, row in zip((image.astype(float), means, means), table, strict=True)
    ]


def split(planes: np.ndarray) -> list[np.ndarray]:
    height, width = planes.shape[0] // 3 * 2, planes.shape[1]
    return [planes[:height], *planes[height:].reshape(2, height // 2, width // 2)]


@pytest.mark.parametrize("colour", COLOURS, ids=str)
@pytest.mark.parametrize("size", [(2, 2), (34, 62), (720, 1280)])
def test_planes_are_what_the_equations_say(colour: Colour, size: tuple[int, int]) -> None:
    image = np.random.default_rng(size[0]).integers(0, 256, (*size, 3), np.uint8)
    for plane, wanted in zip(split(planes_420(image, colour)), exact(image, colour), strict=True):
        error = plane - np.clip(wanted, 0, 255)
        assert (
            np.abs(error).max() < 1.3
        )  # half for the mean's own rounding, half for this one's, and the factors'
        assert abs(error.mean()) < 0.25 or plane.size < 100


@pytest.mark.parametrize("colour", COLOURS, ids=str)
def test_greys_have_no_colour_and_the_right_value(colour: Colour) -> None:
    for value in range(256):
        y, cb, cr = split(planes_420(np.full((4, 6, 3), value, np.uint8), colour))
        assert (cb == 128).all() and (cr == 128).all()
        assert (
            np.ptp(y) == 0
            and abs(y[0, 0] - exact(np.full((2, 2, 3), value, np.uint8), colour)[0][0, 0]) <= 0.65
        )


def test_a_picture_comes_back_as_well_as_through_swscale() -> None:
    image, colour = upscale(np.ascontiguousarray(skimage.data.astronaut()[:256, 64:320]), 2), Colour()

    def back(frame: av.VideoFrame) -> float:
        frame.colorspace = 6
        error = to_rgb(frame, VideoReformatter()).astype(float) - image
        return float(10 * np.log10(255**2 / (error**2).mean()))

    picture = av.VideoFrame.from_ndarray(image, format="rgb24")
    theirs = back(
        VideoReformatter().reformat(picture, format="yuv420p", dst_colorspace=5, interpolation=WRITE)
    )
    ours = back(av.VideoFrame.from_ndarray(planes_420(image, colour), format="yuv420p"))
    assert ours > 40 and ours > theirs - 0.5
