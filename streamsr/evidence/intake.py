"""The recorder's side of a source's thread: which segment a packet belongs to, and which picture."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import av

from ..clock import NS_PER_S, Clock
from .media import Stencil
from .segment import Packet, Picture

__all__ = ["Arrived", "Decoded", "Intake"]

WAITING_MAX = 64  # packets whose picture has not come: more than any codec reorders
KNOWN_MAX = 1024  # pictures whose segment is remembered


@dataclass(frozen=True, slots=True)
class Arrived:
    """A packet came, for ``segment``."""

    packet: Packet
    segment: int
    stencil: Stencil


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture came out."""

    picture: Picture


class Intake:
    """A ``PacketTap``. A segment begins with a connection and, when it is ``segment_s`` old, a keyframe.

    put: takes what came, and how many bytes of it; False where there is no room: the packet is lost.
    refused: why the source's packets cannot be recorded at all.
    """

    def __init__(self, put: Callable[[Arrived | Decoded, int], bool], segment_s: float, clock: Clock) -> None:
        self._put, self._segment_ns, self._clock = put, round(segment_s * NS_PER_S), clock
        self._lock = threading.Lock()
        self._connection = 0
        self._stencil: Stencil | None = None
        self._segment = 0
        self._began_ns: int | None = None  # None: the next packet begins a segment
        self._renew_ns: int | None = None  # from then on the next keyframe does
        self._waiting: OrderedDict[int, tuple[Packet, int]] = OrderedDict()  # by order; with its segment
        self._unshown: list[tuple[Packet, int]] = []  # whose picture is not waited for any more
        self._order = 0
        self._segment_of: OrderedDict[int, int] = OrderedDict()
        self.lost = self._lost_before = 0
        self.refused: str | None = None

    def begin(self, stream: av.VideoStream) -> int:
        stencil, self.refused = None, None
        if stream.container.format.name == "avi":
            self.refused = "AVI does not say when a picture is shown"
        else:
            try:
                stencil = Stencil(stream)
            except (ValueError, av.FFmpegError) as error:
                self.refused = str(error)
        with self._lock:
            self._connection += 1
            self._stencil, self._began_ns = stencil, None
            return self._connection

    def packet(self, connection: int, packet: av.Packet) -> None:
        if not packet.size:
            return
        with self._lock:
            if connection != self._connection or self._stencil is None:
                return  # of a connection given up
            now_ns = self._clock.now_ns()
            if self._begins(packet.is_keyframe, now_ns):
                self._segment += 1
                self._began_ns, self._renew_ns = now_ns, None
            kept = Packet(
                bytes(packet),
                packet.pts,
                packet.dts,
                packet.duration or 0,
                packet.is_keyframe,
                packet.is_corrupt,
                self._lost_before,
            )
            if not self._put(Arrived(kept, self._segment, self._stencil), len(kept.data)):
                self.lost, self._lost_before = self.lost + 1, self._lost_before + 1
                return
            self._lost_before = 0
            self._order += 1
            self._waiting[self._order] = (kept, self._segment)

    def picture(self, connection: int, index: int, pts: int | None) -> None:
        with self._lock:
            if connection != self._connection or self._stencil is None:
                return
            waiting = self._waiting.items()
            orders = [order for order, (packet, _) in waiting if packet.pts == pts]
            if not orders:  # AVI has decode times only
                orders = [order for order, (packet, _) in waiting if packet.dts == pts][:1]
            claimed = [self._waiting.pop(order) for order in orders]
            while len(self._waiting) > WAITING_MAX:
                self._unshown.append(self._waiting.popitem(last=False)[1])
            segment = claimed[0][1] if claimed else self._segment
            self._segment_of[index] = segment
            if len(self._segment_of) > KNOWN_MAX:
                self._segment_of.popitem(last=False)
            picture = Picture(index, segment, [packet for packet, _ in claimed])
            if not self._put(Decoded(picture), 0):  # over, or full: its packets are in the file all the same
                self._unshown += claimed

    def segment_of(self, index: int) -> int | None:
        """Of a picture that came out not long ago."""
        with self._lock:
            return self._segment_of.get(index)

    def renew(self, pause_s: float) -> None:
        """Begin a new segment with the first keyframe that comes after ``pause_s``."""
        with self._lock:
            self._renew_ns = self._clock.now_ns() + round(pause_s * NS_PER_S)

    def unshown(self, segment: int) -> list[Packet]:
        """Packets of ``segment``, which is over, of which no picture came; once. Older ones are forgotten."""
        with self._lock:
            gone = [order for order, (_, number) in self._waiting.items() if number <= segment]
            found = self._unshown + [self._waiting.pop(order) for order in gone]
            self._unshown = [each for each in found if each[1] > segment]
            return [packet for packet, number in found if number == segment]

    def _begins(self, keyframe: bool, now_ns: int) -> bool:
        if self._began_ns is None:
            return True
        old = now_ns - self._began_ns >= self._segment_ns
        return keyframe and (old or (self._renew_ns is not None and now_ns >= self._renew_ns))
