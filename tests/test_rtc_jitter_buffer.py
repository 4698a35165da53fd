"""PromptJitterBuffer: what it hands out and when, by packets and between real peers on a bad network."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from itertools import pairwise
from time import monotonic

import numpy as np
import pytest
from aiortc.jitterbuffer import JitterBuffer
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtpPacket
from media import moving_picture
from rtc_peers import LossyWire, PacedTrack, call

from streamsr.rtc import tune
from streamsr.rtc.jitter_buffer import VIDEO_PATIENCE, PromptJitterBuffer, frames_in

pytest_plugins = ["rtc_fixtures"]

FRAME = 3600  # of the RTP clock: 40 ms


def packet(sequence: int, timestamp: int, data: bytes, marker: bool = False) -> RtpPacket:
    made = RtpPacket(sequence_number=sequence & 0xFFFF, timestamp=timestamp & 0xFFFFFFFF, marker=int(marker))
    made.payload = made._data = data
    return made


def stream(
    frames: int, packets: int = 3, *, sequence: int = 0, timestamp: int = 0, markers: bool = True
) -> list[RtpPacket]:
    """``frames`` of ``packets`` each; the data of frame 2 is b"2a2b2c"."""
    return [
        packet(
            sequence + frame * packets + part,
            timestamp + frame * FRAME,
            f"{frame}{chr(97 + part)}".encode(),
            markers and part == packets - 1,
        )
        for frame in range(frames)
        for part in range(packets)
    ]


def video() -> PromptJitterBuffer:
    return PromptJitterBuffer(capacity=512, is_video=True)


def handed_out(buffer: PromptJitterBuffer | JitterBuffer, packets: Sequence[RtpPacket]) -> Iterator[bytes]:
    for one in packets:
        _, encoded = buffer.add(one)
        if encoded is not None:
            yield from (frame.data for frame in frames_in(encoded))


def test_a_frame_comes_with_its_last_packet() -> None:
    buffer, aiortcs = video(), JitterBuffer(capacity=512, is_video=True)
    packets = stream(2)
    assert [buffer.add(one)[1] is not None for one in packets] == [False, False, True] * 2
    assert list(handed_out(video(), packets)) == [b"0a0b0c", b"1a1b1c"]
    assert list(handed_out(aiortcs, packets)) == [b"0a0b0c"]  # the second waits for a third


def test_without_markers_the_next_frame_ends_it() -> None:
    assert list(handed_out(video(), stream(3, markers=False))) == [b"0a0b0c", b"1a1b1c"]


def test_reordered_packets_are_put_in_order() -> None:
    packets = stream(60)
    late = {one.sequence_number: random.Random(one.sequence_number).uniform(0, 9) for one in packets}
    shuffled = sorted(packets, key=lambda one: one.sequence_number + late[one.sequence_number])
    shuffled.remove(packets[0])
    assert shuffled != packets[1:]
    assert b"".join(handed_out(video(), [packets[0], *shuffled])) == b"".join(one.payload for one in packets)


def test_a_lost_packet_that_comes_after_all_lets_all_frames_behind_it_out_at_once() -> None:
    packets = stream(5, packets=1)
    buffer = video()
    assert list(handed_out(buffer, [packets[0], *packets[2:]])) == [b"0a"]
    _, encoded = buffer.add(packets[1])
    assert encoded is not None
    encoded.timestamp += 1000  # as a receiver maps it
    frames = [(frame.data, frame.timestamp) for frame in frames_in(encoded)]
    assert frames == [(f"{n}a".encode(), 1000 + n * FRAME) for n in (1, 2, 3, 4)]


def test_a_packet_that_never_comes_is_given_up_and_a_key_frame_asked_for() -> None:
    packets = stream(20)
    asked, data = [], []
    buffer = video()
    for one in packets[:7] + packets[8:]:  # of frame 2 the middle
        pli, encoded = buffer.add(one)
        if pli:
            asked.append(one.timestamp)
        data += [frame.data for frame in frames_in(encoded)] if encoded else []
    assert asked == [2 * FRAME + (VIDEO_PATIENCE // FRAME + 1) * FRAME]
    assert data == [f"{n}a{n}b{n}c".encode() for n in range(20) if n != 2]


def test_a_frame_that_may_have_begun_in_the_gap_is_left_out() -> None:
    packets = stream(20)
    lost = packets[:8] + packets[10:]  # the end of frame 2 and the beginning of frame 3
    assert list(handed_out(video(), lost)) == [f"{n}a{n}b{n}c".encode() for n in range(20) if n not in (2, 3)]


def test_numbers_wrap() -> None:
    packets = stream(4, sequence=0xFFFF - 4, timestamp=0xFFFFFFFF - FRAME)
    assert [one.timestamp for one in packets] != sorted(one.timestamp for one in packets)
    order = [packets[0], *packets[2:4], packets[1], *packets[4:]]
    assert list(handed_out(video(), order)) == [f"{n}a{n}b{n}c".encode() for n in range(4)]


def test_padding_is_no_frame() -> None:
    packets = stream(2, packets=2)
    padding = packet(2, 0, b"")
    behind = packet(3, FRAME // 2, b"", marker=True)  # of its own time
    later = [
        packet(one.sequence_number + 2, one.timestamp, one.payload, bool(one.marker)) for one in packets[2:]
    ]
    assert list(handed_out(video(), [*packets[:2], padding, behind, *later])) == [b"0a0b", b"1a1b"]


def test_a_sender_whose_markers_do_not_end_frames_is_read_by_times() -> None:
    """Every packet is marked: the first frame is torn, a key frame asked for; from then on all are whole."""
    packets = [packet(n, one.timestamp, one.payload, True) for n, one in enumerate(stream(5))]
    buffer, asked = video(), []
    data = []
    for one in packets:
        pli, encoded = buffer.add(one)
        asked.append(pli)
        data += [frame.data for frame in frames_in(encoded)] if encoded else []
    assert data == [b"0a", b"1a1b1c", b"2a2b2c", b"3a3b3c"]
    assert sum(asked) == 2 and asked.index(True) == 1  # both packets that came too late for the first


@pytest.mark.parametrize("sequence", [50, 30_000])
def test_a_stream_that_begins_anew(sequence: int) -> None:
    buffer = video()
    assert len(list(handed_out(buffer, stream(100, sequence=20_000, timestamp=10**6)))) == 100
    again = stream(2, sequence=sequence, timestamp=5000)
    pli, _ = buffer.add(again[0])
    assert pli
    assert list(handed_out(buffer, again[1:])) == [b"0a0b0c", b"1a1b1c"]


def test_what_waits_is_bounded() -> None:
    buffer = PromptJitterBuffer(capacity=16, is_video=True)
    frame = [packet(n, 0, b"x") for n in range(1000)]  # never ends
    assert any([buffer.add(one)[0] for one in frame])
    assert len(buffer._packets) <= 17
    assert list(handed_out(buffer, stream(2, sequence=1000, timestamp=FRAME))) == [b"0a0b0c", b"1a1b1c"]


def test_sound_comes_packet_by_packet_and_waits_for_two_at_most() -> None:
    sound = stream(10, packets=1)
    buffer = PromptJitterBuffer(capacity=16, prefetch=4)
    assert list(handed_out(buffer, sound[:3])) == [b"0a", b"1a", b"2a"]
    assert list(handed_out(buffer, [sound[4], sound[3]])) == [b"3a", b"4a"]
    assert list(handed_out(buffer, sound[6:7])) == []
    assert list(handed_out(buffer, sound[7:])) == [b"6a", b"7a", b"8a", b"9a"]
    assert list(handed_out(buffer, [sound[5]])) == []


# -- between peers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_it_saves_a_frame_of_delay(call_address: None, codec: str) -> None:
    delays = {}
    for prompt in (False, True):
        tune(prompt=prompt)
        delays[prompt] = np.median((await watched(codec, seconds=1.5))[0])
    assert delays[True] < delays[False] - 20


@pytest.mark.parametrize("codec", ["VP8", "H264"])
@pytest.mark.parametrize(("lose", "reorder"), [(0.02, 0.02), (0.05, 0.0), (0.0, 0.1)])
async def test_pictures_keep_coming_on_a_bad_network(
    call_address: None, codec: str, lose: float, reorder: float
) -> None:
    tune()
    delays, times, wire = await watched(codec, seconds=4.0, lose=lose, reorder=reorder)
    assert wire is not None and wire.lost + wire.reordered > 5
    assert all(early < late for early, late in pairwise(times))
    assert len(times) >= 0.85 * 100
    assert np.median(delays) < 60 and max(delays) < 700


async def watched(
    codec: str, seconds: float, lose: float = 0.0, reorder: float = 0.0
) -> tuple[list[float], list[int], LossyWire | None]:
    """From picture to picture through peers: (delays in ms, times, the wire)."""
    pictures = [moving_picture(index, 320, 240) for index in range(50)]
    sent_s: dict[int, float] = {}

    def draw(index: int) -> np.ndarray:
        sent_s[round(index * 3600)] = monotonic()
        return pictures[index % 50]

    delays, times = [], []
    async with call(PacedTrack(draw, rate=25), codec=codec) as (here, _, got):
        first = await got["video"].recv()
        wire = LossyWire(here, lose=lose, reorder=reorder) if lose or reorder else None
        origin = 0 if first.pts == 0 else None
        assert origin == 0
        until_s = monotonic() + seconds
        while monotonic() < until_s:
            try:
                async with asyncio.timeout(2):
                    frame = await got["video"].recv()
            except (TimeoutError, MediaStreamError):
                pytest.fail("no picture for 2 s")
            times.append(frame.pts)
            delays.append(1e3 * (monotonic() - sent_s[frame.pts]))
    return delays, times, wire
