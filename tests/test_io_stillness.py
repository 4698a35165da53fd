"""A picture that stands still against a scene in which nothing happens, both through real encoders."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import av
import numpy as np
import pytest

from streamsr.clock import NS_PER_S
from streamsr.io.stillness import StillWatch

SIZE = (330, 180)  # a line of the decoder's is longer than the picture is wide
GOOD = {"preset": "ultrafast", "tune": "zerolatency", "crf": "23"}
CHEAP = {"preset": "veryfast", "tune": "zerolatency", "crf": "30"}


def scene() -> np.ndarray:
    rows, columns = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    waves = [np.sin(rows / a) * np.cos(columns / b) for a, b in ((7, 11), (13, 5), (4, 17))]
    return 128 + 90 * np.stack(waves, axis=-1)


def pictures(noise: float, seconds: float, codec: str, options: dict[str, str]) -> Iterator[av.VideoFrame]:
    """Decoded, 25 a second, a keyframe every second."""
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height = SIZE
    encoder.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    encoder.options, encoder.gop_size = options, 25
    decoder = av.CodecContext.create("mjpeg" if codec == "mjpeg" else "h264", "r")
    random, still = np.random.default_rng(0), scene()
    for index in range(round(25 * seconds)):
        image = np.clip(still + random.normal(0, noise, still.shape), 0, 255).astype(np.uint8)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=encoder.pix_fmt)
        frame.pts = index
        for packet in encoder.encode(frame):
            yield from decoder.decode(packet)


def found_still(noise: float, seconds: float, codec: str = "libx264", options: dict[str, str] = GOOD) -> bool:
    watch = StillWatch(10)
    for index, picture in enumerate(pictures(noise, seconds, codec, options)):
        watch.see(picture, round(index * NS_PER_S / 25))
    return watch.still


def test_the_same_picture_is_still_after_the_timeout() -> None:
    assert not found_still(0, 9.5)
    assert found_still(0, 12)
    assert found_still(0, 12, "mjpeg", {"qmin": "3", "qmax": "3"})


@pytest.mark.parametrize(
    ("noise", "codec", "options"),
    [
        (0.7, "libx264", GOOD),
        (2.0, "libx264", GOOD),
        (2.0, "libx264", CHEAP),
        (0.7, "mjpeg", {"qmin": "3", "qmax": "3"}),
    ],
)
def test_a_scene_with_the_noise_of_a_sensor_is_not(noise: float, codec: str, options: dict[str, str]) -> None:
    assert not found_still(noise, 14, codec, options)


def test_any_change_ends_it_and_an_outage_does_not_count() -> None:
    watch = StillWatch(3)
    [first, *_] = pictures(0, 0.2, "libx264", GOOD)
    for second in (0, 0.5, 60):
        watch.see(first, round(second * NS_PER_S))
    assert not watch.still
    watch.see(first, 61 * NS_PER_S)
    assert watch.still
    watch.see(av.VideoFrame(320, 176, "yuv420p"), 62 * NS_PER_S)  # another size
    assert not watch.still
