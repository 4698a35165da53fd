"""What may listen to the packets of a source, before they are decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import av

__all__ = ["PacketTap"]


class PacketTap(Protocol):
    """Called on the thread that reads the source, which it must not hold up."""

    def begin(self, stream: av.VideoStream) -> int:
        """The packets of ``stream`` come next. Returns a number by which the calls below know it."""
        ...

    def packet(self, connection: int, packet: av.Packet) -> None:
        """As it came out of the container or off the network."""
        ...

    def picture(self, connection: int, index: int, pts: int | None) -> None:
        """``Frame.index`` of a picture that came out, and its pts as its packet had it."""
        ...
