"""One connection to an RTSP server, on a thread of its own, because a call into FFmpeg may hang."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import av
import av.error
from av.codec.context import Flags, ThreadType
from av.codec.hwaccel import HWAccel

from ..clock import NS_PER_S, Clock
from .rtsp_peer import explain, knock
from .tap import PacketTap

__all__ = ["Connection", "Ingest", "Receiver"]

FALLBACK_RATE = Fraction(25)  # where the server names none
MAX_PIXELS = 8192 * 8192  # of a picture; a damaged header may ask for the whole memory
RESET_S = 1.0  # without a picture among damaged packets for so long, the decoder begins anew
GRACE_S = 1.0  # FFmpeg's own timeouts come this much after the receiver's, and end a thread it gave up


@dataclass(frozen=True, slots=True)
class Ingest:
    """What to connect to, and how. url: with credentials. threads: of the decoder. hwaccel: what decodes, if
    not the CPU. tap: sees the packets."""

    url: str
    transport: str
    open_timeout_s: float
    stall_timeout_s: float
    threads: int
    clock: Clock
    hwaccel: HWAccel | None = None
    tap: PacketTap | None = None


class Receiver(Protocol):
    """Whom a connection reports to, on its own thread."""

    def take(
        self, connection: Connection, frame: av.VideoFrame, rate: Fraction, captured_ns: int
    ) -> None: ...

    def damaged(self) -> None:
        """A packet could not be decoded."""

    def reset(self) -> None:
        """The decoder, which no longer gave pictures, was made to wait for the next keyframe."""

    def over(self, connection: Connection, reason: str) -> None: ...


class Connection:
    """Connects, decodes and hands over pictures until it is stopped or fails; then says why.

    A thread that hangs in FFmpeg cannot be stopped. It ends with FFmpeg's own timeout, a second after
    ``stall_timeout_s`` (while connecting: ``open_timeout_s``); until then ``alive`` is true.
    """

    def __init__(self, ingest: Ingest, receiver: Receiver, name: str) -> None:
        self.started_ns = ingest.clock.now_ns()
        self.first_picture_ns: int | None = None  # these three are the receiver's, under its lock
        self.last_picture_ns: int | None = None
        self.reason: str | None = None
        self.ended = False  # the server hung up
        self.codec: str | None = None  # as FFmpeg names it; known before the first picture
        self.tapped = 0  # the tap's number for it
        self._ingest = ingest
        self._receiver = receiver
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"ingest {name}", daemon=True)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def streamed_ns(self) -> int | None:
        """From the first picture to the last; None: there was none."""
        if self.first_picture_ns is None or self.last_picture_ns is None:
            return None
        return self.last_picture_ns - self.first_picture_ns

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _run(self) -> None:
        reason = "the ingest thread failed"  # unless an error we know says otherwise
        try:
            reason = (
                knock(self._ingest.url, self._ingest.stall_timeout_s, self._stop.is_set) or self._stream()
            )
        finally:
            self._receiver.over(self, reason)

    def _stream(self) -> str:
        ingest = self._ingest
        silence_s = ingest.stall_timeout_s + GRACE_S
        began = time.monotonic()
        try:
            container = av.open(
                ingest.url,
                format="rtsp",
                options={
                    "rtsp_transport": ingest.transport,
                    "allowed_media_types": "video",
                    "fflags": "nobuffer",
                    "flags": "low_delay",
                    "timeout": str(round(silence_s * 1e6)),  # us, of the socket
                    "probesize": "500000",  # bytes; much less, and the size of the picture stays unknown
                    "analyzeduration": "500000",  # us
                },
                timeout=(ingest.open_timeout_s + GRACE_S, silence_s),
                hwaccel=ingest.hwaccel,
            )
        except av.error.FFmpegError as error:
            return explain(error, ingest.url, time.monotonic() - began, silence_s)
        except RuntimeError as error:  # PyAV's own, of a device that does not decode this
            return str(error)
        with container:
            if not container.streams.video:
                return "the stream has no video"
            try:
                return self._decode(container, container.streams.video[0])
            except av.error.FFmpegError as error:
                return explain(error, ingest.url, 0, silence_s)

    def _decode(self, container: av.container.InputContainer, stream: av.VideoStream) -> str:
        decoder = stream.codec_context
        if decoder is None:
            return "there is no decoder for the stream's codec"
        self.codec = decoder.name
        decoder.options = {**decoder.options, "max_pixels": str(MAX_PIXELS)}
        decoder.thread_type = ThreadType.SLICE  # over pictures, each thread would delay by one
        decoder.thread_count = self._ingest.threads
        decoder.flags |= int(Flags.low_delay)
        rate = stream.average_rate or stream.guessed_rate or FALLBACK_RATE
        tap = self._ingest.tap
        if tap is not None:
            self.tapped = tap.begin(stream)
        blind_ns: int | None = None  # since when there has been damage and no picture
        for packet in container.demux(stream):
            captured_ns = self._ingest.clock.now_ns()
            if self._stop.is_set():
                return "stopped"
            if tap is not None:
                tap.packet(self.tapped, packet)
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:  # a lost datagram; the next keyframe mends it
                self._receiver.damaged()
                blind_ns = captured_ns if blind_ns is None else blind_ns
                if captured_ns - blind_ns > RESET_S * NS_PER_S:
                    decoder.flush_buffers()
                    self._receiver.reset()
                    blind_ns = captured_ns
                continue
            for frame in frames:
                blind_ns = None
                self._receiver.take(self, frame, rate, captured_ns)
        self.ended = True
        return "the server ended the stream"
