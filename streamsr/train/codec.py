"""Degradation by real encoders: views are laid out in one frame, coded, decoded and cut out again.

Colour goes the way it goes in the product: FFmpeg's default conversion alone darkens by 1/255.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter

from ..frame import Colour
from ..io.colour import from_rgb, tag, to_rgb

__all__ = ["code_frames", "code_views", "pack_shelves"]

MIN_WIDTH_PX = 320  # rate control overshoots on tiny frames


def code_frames(frames: Sequence[np.ndarray], codec: str, quality: int) -> list[np.ndarray]:
    """Encode and decode equal (H, W, 3) uint8 RGB frames, H and W even, in order.

    codec "h264": x264 veryfast, zerolatency, CRF ``quality``. codec "vp8": real-time, cpu-used -8 (what is
    above 0 depends on the machine's speed), every picture at quantiser ``quality``, 4 to 63.
    """
    height, width = frames[0].shape[:2]
    name = {"h264": "libx264", "vp8": "libvpx"}[codec]
    encoder = cast(VideoCodecContext, av.CodecContext.create(name, "w"))
    encoder.width, encoder.height = width, height
    encoder.pix_fmt = "yuv420p"
    encoder.time_base = Fraction(1, 25)
    encoder.framerate = Fraction(25)
    encoder.thread_count = 1
    colour, writing, reading = Colour(), VideoReformatter(), VideoReformatter()
    tag(encoder, colour, "yuv420p")
    if codec == "h264":
        encoder.options = {"preset": "veryfast", "tune": "zerolatency", "crf": str(quality)}
    else:
        encoder.bit_rate = 20_000_000
        exact = {"qmin": str(quality), "qmax": str(quality)}  # its "crf" is no more than a wish
        encoder.options = {"deadline": "realtime", "cpu-used": "-8", "lag-in-frames": "0", **exact}
    decoder = cast(VideoCodecContext, av.CodecContext.create("h264" if codec == "h264" else "vp8", "r"))
    decoder.thread_count = 1
    decoded: list[np.ndarray] = []
    for index, image in enumerate([*frames, None]):
        if image is None:
            packets = encoder.encode(None)
        else:
            picture = from_rgb(image, colour, "yuv420p", writing)
            picture.pts = index
            packets = encoder.encode(picture)
        for packet in packets:
            decoded += [to_rgb(f, reading) for f in decoder.decode(packet)]
    decoded += [to_rgb(f, reading) for f in decoder.decode(None)]
    return decoded


def pack_shelves(sides: Sequence[int], width: int) -> tuple[list[tuple[int, int]], int]:
    """Place squares on shelves of ``width``, on multiples of 16 px: there begin the blocks of a codec.

    Returns (x, y) of each, and the height used.
    """
    places: list[tuple[int, int]] = [(0, 0)] * len(sides)
    x = y = shelf = 0
    for index in sorted(range(len(sides)), key=lambda i: -sides[i]):
        side = sides[index] + -sides[index] % 16
        if x and x + side > width:
            x, y, shelf = 0, y + shelf, 0
        places[index] = (x, y)
        x, shelf = x + side, max(shelf, side)
    return places, y + shelf


def code_views(clips: Sequence[Sequence[np.ndarray]], codec: str, quality: int) -> list[list[np.ndarray]]:
    """Code square views together. clips[i][k]: view i at time k, (side_i, side_i, 3) uint8 RGB."""
    sides = [clip[0].shape[0] for clip in clips]
    width = max(MIN_WIDTH_PX, max(sides) + -max(sides) % 16)
    places, height = pack_shelves(sides, width)
    frames = []
    for k in range(len(clips[0])):
        canvas = np.full((max(height, 180), width, 3), 96, np.uint8)
        for (x, y), side, clip in zip(places, sides, clips, strict=True):
            canvas[y : y + side, x : x + side] = clip[k]
        frames.append(canvas)
    coded = code_frames(frames, codec, quality)
    return [
        [frame[y : y + side, x : x + side] for frame in coded]
        for (x, y), side in zip(places, sides, strict=True)
    ]
