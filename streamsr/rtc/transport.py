"""What a peer connection has to be spared."""

from __future__ import annotations

from aiortc import RTCIceTransport

__all__ = ["drop_empty_datagrams"]


def drop_empty_datagrams(transport: RTCIceTransport) -> None:
    """Before it connects: one of them, which anybody can send, ends aiortc's DTLS (1.16 reads its first
    byte), and so the call."""
    receive = transport._recv

    async def receive_something() -> bytes:
        while not (data := await receive()):
            pass
        return data

    transport._recv = receive_something
