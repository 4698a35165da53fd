"""One client's peer connection, from its offer to its end."""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Literal

from aiortc import (
    RTCBundlePolicy,
    RTCConfiguration,
    RTCIceServer,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.exceptions import InvalidAccessError, InvalidStateError, OperationError

from ..rtc import drop_empty_datagrams
from ..web import Refusal
from .config import Limits, ServeConfig
from .offer import Fragment, Offer

__all__ = ["Role", "Session", "ice_servers"]

Role = Literal["whip", "whep"]
CLOSE_S = 5.0  # a peer that takes longer to close is left to the garbage collector

_log = logging.getLogger(__name__)


class Session:
    """role: "whip" sends to us, "whep" receives. ``peer`` is open until ``run`` returns."""

    def __init__(self, role: Role, stream: str, config: ServeConfig) -> None:
        self.role, self.stream = role, stream
        self.id = secrets.token_urlsafe(16)
        self.etag = f'"{secrets.token_urlsafe(8)}"'
        self.peer = RTCPeerConnection(
            RTCConfiguration(
                iceServers=ice_servers(config),
                bundlePolicy=RTCBundlePolicy.MAX_BUNDLE,
            )
        )
        self.peer.on("connectionstatechange", self._on_state)
        self.reason: str | None = None
        self._limits: Limits = config.limits
        self._ended = asyncio.Event()
        self._connected = False
        self._ice: tuple[str, str] | None = None  # the client's ufrag and password
        self._candidates = 0

    @property
    def path(self) -> str:
        return f"/{self.role}/{self.stream}/{self.id}"

    async def answer(self, offer: Offer) -> str:
        """Negotiate, gather all candidates, and return the answer.

        Raises Refusal: 400 for an offer that does not hold together, 422 without a common codec.
        """
        self._ice = offer.username, offer.password
        try:
            await self.peer.setRemoteDescription(RTCSessionDescription(offer.text, "offer"))
            transport = self.peer.getTransceivers()[0].receiver.transport.transport
            drop_empty_datagrams(transport)
            await self.peer.setLocalDescription(await self.peer.createAnswer())
        except OperationError:
            raise Refusal(422, "no codec in common: offer VP8 or H264, and Opus for sound") from None
        except (InvalidAccessError, InvalidStateError, ValueError) as error:
            if self.reason is not None:
                raise Refusal(503, f"the session ended: {self.reason}") from None
            raise Refusal(400, "the offer cannot be applied") from error
        if not transport.iceGatherer.getLocalCandidates():
            raise Refusal(503, "the server has no address for media: see streamsr doctor")
        return self.peer.localDescription.sdp

    async def add_candidates(self, fragment: Fragment) -> None:
        """Raises Refusal: 422 for an ICE restart, which aiortc cannot do; 400 for a bad candidate."""
        if (fragment.username, fragment.password) != self._ice:
            raise Refusal(422, "ICE restarts are not supported: delete the session and begin anew")
        self._candidates += len(fragment.candidates)
        if self._candidates > self._limits.candidates:
            raise Refusal(422, f"a session has at most {self._limits.candidates} ICE candidates")
        try:
            for candidate in fragment.candidates:
                await self.peer.addIceCandidate(candidate)
            if fragment.complete:
                await self.peer.addIceCandidate(None)
        except ValueError:
            raise Refusal(400, "a candidate has an unknown type or address") from None

    def end(self, reason: str) -> None:
        """Make ``run`` return. The first reason stands."""
        if self.reason is None:
            self.reason = reason
        self._ended.set()

    async def run(self) -> None:
        """Live until something ends the session; then close the peer."""
        loop, limits = asyncio.get_running_loop(), self._limits
        timers = [
            loop.call_later(limits.connect_s, self._expect_connection),
            loop.call_later(limits.session_s, self.end, f"longer than {limits.session_s:g} s"),
        ]
        try:
            await self._ended.wait()
        finally:
            for timer in timers:
                timer.cancel()
            self.end("the server stops")
            await self.close()

    async def close(self) -> None:
        """May be called twice."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.peer.close()
        except TimeoutError:
            _log.warning("%s of %s: its peer did not close within %g s", self.role, self.stream, CLOSE_S)

    def _expect_connection(self) -> None:
        if not self._connected:
            self.end(f"not connected within {self._limits.connect_s:g} s")

    def _on_state(self) -> None:
        state = self.peer.connectionState
        if state == "connected":
            self._connected = True
        elif state == "failed":
            self.end("the connection was lost")
        elif state == "closed":
            self.end("the client closed the connection")


def ice_servers(config: ServeConfig) -> list[RTCIceServer]:
    return [
        RTCIceServer(
            server.url,
            server.username,
            server.credential.get_secret_value() if server.credential is not None else None,
        )
        for server in config.ice_servers
    ]
