"""A jitter buffer that hands out a frame with its last packet.

aiortc's own waits for the first packet of the next frame, which costs a frame of delay; holds four packets
of sound, which cost 80 ms; and waits for a lost packet until 512 later ones have come. Here the marker bit
(RFC 3550: the last packet of a picture) ends a frame, where every sequence number up to it has arrived.
Where there is none, the first packet of the next frame does. Sound is handed out packet by packet.

Nothing overtakes a missing packet until it is given up: sound after two later packets, video once the
pictures behind it are a quarter of a second ahead; then a key frame is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aiortc.jitterbuffer import JitterFrame
from aiortc.rtp import RtpPacket

__all__ = ["FrameBurst", "PromptJitterBuffer", "frames_in"]

MAX_MISORDER = 100  # a packet further off than that, before or behind all that fits, begins another stream
AUDIO_PATIENCE = 2  # later packets
VIDEO_PATIENCE = 90_000 // 4  # in units of the RTP clock of video


class FrameBurst(JitterFrame):
    """Several frames that one packet completed. Data and timestamp are those of the first."""

    def __init__(self, frames: Sequence[JitterFrame]) -> None:
        super().__init__(frames[0].data, frames[0].timestamp)
        self._rest = [(frame.data, frame.timestamp - frames[0].timestamp) for frame in frames[1:]]

    def frames(self) -> Iterator[JitterFrame]:
        """All of them, with times relative to ``timestamp``, which the receiver may have mapped since."""
        yield JitterFrame(self.data, self.timestamp)
        for data, later in self._rest:
            yield JitterFrame(data, self.timestamp + _signed(later, 32))


def frames_in(encoded: JitterFrame) -> Iterator[JitterFrame]:
    """What a decoder is to take from ``encoded``, one after another."""
    return encoded.frames() if isinstance(encoded, FrameBurst) else iter((encoded,))


class PromptJitterBuffer:
    """Takes the place of ``aiortc.jitterbuffer.JitterBuffer`` in a receiver.

    capacity: most packets that wait; video that waits longer is given up. prefetch: not used.
    """

    def __init__(self, capacity: int, prefetch: int = 0, is_video: bool = False) -> None:
        self._capacity, self._is_video = capacity, is_video
        self._packets: dict[int, RtpPacket] = {}
        self._next: int | None = None  # sequence number that is to be handed out next
        self._newest = 0  # timestamp
        self._done: int | None = None  # timestamp of the last frame that was handed out
        self._given_up: int | None = None  # timestamp of the last frame that was not
        self._markers = is_video  # whether they end frames, as far as we have seen

    def add(self, packet: RtpPacket) -> tuple[bool, JitterFrame | None]:
        """Returns whether a key frame ought to be asked for, and what ``packet`` completed."""
        sequence, lost = packet.sequence_number, False
        if self._next is None:
            self._next, self._newest = sequence, packet.timestamp
        ahead = _signed(sequence - self._next, 16)
        if not -MAX_MISORDER <= ahead <= self._capacity + MAX_MISORDER:
            self._packets.clear()
            self._next, self._newest, lost = sequence, packet.timestamp, self._is_video
            self._done = self._given_up = None
        elif ahead < 0:
            return False, None
        self._packets[sequence] = packet
        if _signed(packet.timestamp - self._newest, 32) > 0:
            self._newest = packet.timestamp
        frames: list[JitterFrame] = []
        while True:
            lost |= self._leave_trailing()
            frame = self._first_frame()
            if frame is not None:
                frames += [frame] if frame.data else []  # padding alone
            elif self._hopeless():
                lost |= self._give_up()
            else:
                break
        if not frames:
            return lost, None
        return lost, frames[0] if len(frames) == 1 else FrameBurst(frames)

    def _first_frame(self) -> JitterFrame | None:
        """Take the first frame out, if all of its packets are here."""
        packets: list[RtpPacket] = []
        for packet in self._run():
            if packets and packet.timestamp != packets[0].timestamp:
                return self._taken(packets)
            packets.append(packet)
            if not self._is_video or (self._markers and packet.marker):
                return self._taken(packets)
        return None

    def _taken(self, packets: Sequence[RtpPacket]) -> JitterFrame:
        for packet in packets:
            self._leave(packet.sequence_number)
        data = b"".join(packet._data for packet in packets)  # type: ignore[attr-defined]
        self._done = packets[0].timestamp
        return JitterFrame(data, packets[0].timestamp)

    def _leave_trailing(self) -> bool:
        """Leave out what still belongs to a frame that is gone: padding. Were it data, the markers of this
        sender would not end frames: that frame was torn, and from now on times decide. True then."""
        torn = False
        for packet in list(self._run()):
            if not self._is_video or packet.timestamp not in (self._done, self._given_up):
                break
            if packet.timestamp == self._done and packet._data:  # type: ignore[attr-defined]
                torn, self._markers = True, False
            self._leave(packet.sequence_number)
        return torn

    def _hopeless(self) -> bool:
        behind_gap = self._behind_gap()
        if behind_gap is None or len(self._packets) > self._capacity:
            return len(self._packets) > self._capacity
        if not self._is_video:
            return len(self._packets) >= AUDIO_PATIENCE
        return _signed(self._newest - self._packets[behind_gap].timestamp, 32) > VIDEO_PATIENCE

    def _give_up(self) -> bool:
        """Go on behind the gap: with sound at the next packet, with video at the next whole frame."""
        behind_gap = self._behind_gap()
        for packet in list(self._run()):  # of the frame that the gap is in
            self._leave(packet.sequence_number)
            self._given_up = packet.timestamp
        if behind_gap is not None:
            self._next = behind_gap
            self._given_up = self._packets[behind_gap].timestamp  # it may have begun in the gap
        return self._is_video

    def _run(self) -> Iterator[RtpPacket]:
        """The packets from the next one on, up to the first gap."""
        sequence = self._next
        while sequence is not None and sequence in self._packets:
            yield self._packets[sequence]
            sequence = (sequence + 1) & 0xFFFF

    def _leave(self, sequence: int) -> None:
        del self._packets[sequence]
        self._next = (sequence + 1) & 0xFFFF

    def _behind_gap(self) -> int | None:
        """Sequence number of the first packet behind the first gap, if there is one."""
        first = self._next
        assert first is not None
        run = sum(1 for _ in self._run())
        if run == len(self._packets):
            return None
        ahead = [(sequence - first) & 0xFFFF for sequence in self._packets]
        return (first + min(count for count in ahead if count >= run)) & 0xFFFF


def _signed(difference: int, bits: int) -> int:
    """Of two numbers that wrap at 2^bits."""
    half = 1 << (bits - 1)
    return (difference + half) % (1 << bits) - half
