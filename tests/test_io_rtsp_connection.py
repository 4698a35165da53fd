"""What a connection makes of packets that a real decoder cannot decode."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import pytest
from helpers import FakeClock, make_frame

from streamsr.io.rtsp_connection import Connection, Ingest

DAMAGED = range(20, 70)  # packets; a keyframe every 25
JUNK = b"\0\0\0\1\x41" + bytes(200)  # a slice of no picture that there is


class Taker:
    """Counts what a connection reports. pts: of each picture, in pictures."""

    def __init__(self) -> None:
        self.pts: list[int] = []
        self.lost = self.resets = 0

    def take(self, connection: Connection, frame: av.VideoFrame, rate: Fraction, captured_ns: int) -> None:
        assert frame.pts is not None
        self.pts.append(round(frame.pts * frame.time_base * 25))

    def damaged(self) -> None:
        self.lost += 1

    def reset(self) -> None:
        self.resets += 1

    def over(self, connection: Connection, reason: str) -> None: ...


@pytest.fixture
def damaged_stream(tmp_path: Path) -> Iterator[av.container.InputContainer]:
    path = tmp_path / "damaged.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"tune": "zerolatency", "g": "25"}
        stream.codec_context.gop_size = 25
        for index in range(100):
            for packet in stream.encode(av.VideoFrame.from_ndarray(make_frame(index=index).image)):
                if index in DAMAGED:
                    junk = av.Packet(JUNK)
                    junk.stream, junk.time_base = stream, packet.time_base
                    junk.pts, junk.dts = packet.pts, packet.dts
                    packet = junk
                container.mux(packet)
    with av.open(str(path)) as container:
        yield container


def test_a_decoder_that_no_longer_gives_pictures_begins_anew(
    damaged_stream: av.container.InputContainer,
) -> None:
    clock, taker = FakeClock(), Taker()

    class Ticking(FakeClock):
        def now_ns(self) -> int:  # one packet, 40 ms
            clock.advance_ms(40)
            return clock.now_ns()

    connection = Connection(Ingest("rtsp://camera/live", "tcp", 5, 5, 1, Ticking()), taker, "camera")
    reason = connection._decode(damaged_stream, damaged_stream.streams.video[0])
    assert reason == "the server ended the stream"
    assert taker.lost == len(DAMAGED)
    assert taker.resets == 1  # of 2 s of damage; every second
    assert taker.pts[: DAMAGED.start] == list(range(DAMAGED.start))
    again = taker.pts[DAMAGED.start]
    assert again in (75, 76)  # the next keyframe, or what follows it
    assert taker.pts[DAMAGED.start :] == list(range(again, 100))
    assert connection.codec == "h264"
