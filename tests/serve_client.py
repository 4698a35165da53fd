"""A server on a free port and its clients: aiortc peers that speak WHIP and WHEP, as tests need them."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from helpers import BypassEnhancer, make_frame
from rtc_peers import PacedTrack

from streamsr.serve import ServeConfig, Server

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"


def picture(size: tuple[int, int] = (64, 48)) -> PacedTrack:
    return PacedTrack(lambda index: make_frame(*size, index).image)


@asynccontextmanager
async def serving(enhancer: BypassEnhancer | None = None, **options: Any) -> AsyncIterator[Site]:
    """A real server with a stand-in for the model, and a session of HTTP with it."""
    config = ServeConfig.of(**{"port": 0, **options})
    async with (
        Server(config, enhancer or BypassEnhancer()) as server,
        aiohttp.ClientSession(server.url, timeout=aiohttp.ClientTimeout(20)) as http,
    ):
        yield Site(server, http)


class Site:
    """A server as its clients see it."""

    def __init__(self, server: Server, http: aiohttp.ClientSession) -> None:
        self.server, self.http = server, http

    async def status(self, method: str, path: str, **options: Any) -> int:
        async with self.http.request(method, path, **options) as response:
            await response.read()
            return response.status

    async def answer(self, method: str, path: str, **options: Any) -> tuple[int, Any, str]:
        """Status, headers, text."""
        async with self.http.request(method, path, **options) as response:
            return response.status, response.headers, await response.text()

    async def figures(self, name: str) -> dict[str, Any]:
        async with self.http.get(f"/stats/{name}") as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def counts(self) -> tuple[int, int]:
        """Streams, sessions."""
        async with self.http.get("/health") as response:
            found = await response.json()
        return found["streams"], found["sessions"]

    async def settled(self) -> None:
        """Wait until no session is left: one whose DELETE was lost ends of its silence, after 15 s."""
        async with asyncio.timeout(25):
            while await self.counts() != (0, 0):  # noqa: ASYNC110 - the server says it only when asked
                await asyncio.sleep(0.05)

    async def gone(self, name: str) -> None:
        """Wait until there is no stream ``name``."""
        async with asyncio.timeout(10):
            while await self.status("GET", f"/stats/{name}") != 404:  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    @asynccontextmanager
    async def publisher(self, name: str, *tracks: MediaStreamTrack, **options: Any) -> AsyncIterator[Client]:
        async with Client() as client:
            for track in tracks or (picture(),):
                client.peer.addTransceiver(track, direction="sendonly")
            await client.offer(self.http, f"/whip/{name}", **options)
            yield client

    @asynccontextmanager
    async def viewer(self, name: str, **options: Any) -> AsyncIterator[Client]:
        async with Client() as client:
            client.peer.addTransceiver("video", direction="recvonly")
            client.peer.addTransceiver("audio", direction="recvonly")
            await client.offer(self.http, f"/whep/{name}", **options)
            yield client


class Client:
    """One peer and its session. ``tracks``: what comes in, by kind."""

    def __init__(self) -> None:
        self.peer = RTCPeerConnection(RTCConfiguration([], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
        self.tracks: dict[str, MediaStreamTrack] = {}
        self.location = self.etag = self.sdp = ""
        self.connected = asyncio.Event()
        self.peer.on("track", lambda track: self.tracks.__setitem__(track.kind, track))
        self.peer.on("connectionstatechange", self._on_state)

    def _on_state(self) -> None:
        if self.peer.connectionState == "connected":
            self.connected.set()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.peer.close()

    async def offer(self, http: aiohttp.ClientSession, path: str, **options: Any) -> None:
        await self.peer.setLocalDescription(await self.peer.createOffer())
        self.sdp = self.peer.localDescription.sdp
        headers = {"Content-Type": SDP, **options.pop("headers", {})}
        async with http.post(path, data=self.sdp, headers=headers, **options) as response:
            text = await response.text()
            assert response.status == 201, (response.status, text)
            self.location, self.etag = response.headers["Location"], response.headers["ETag"]
        self.answer = text
        await self.peer.setRemoteDescription(RTCSessionDescription(text, "answer"))

    @property
    def fragment(self) -> str:
        """The credentials of its ICE, as a fragment without candidates begins."""
        lines = [line for line in self.sdp.splitlines() if line.startswith(("a=ice-ufrag", "a=ice-pwd"))]
        return "\r\n".join([*lines[:2], "m=video 9 UDP/TLS/RTP/SAVPF 0", "a=mid:0", ""])


async def offer_of(direction: str = "sendonly", *kinds: str) -> str:
    """An offer with one section for each of ``kinds`` (video); its peer is gone."""
    async with Client() as client:
        for kind in kinds or ("video",):
            client.peer.addTransceiver(kind, direction=direction)
        await client.peer.setLocalDescription(await client.peer.createOffer())
        return client.peer.localDescription.sdp


@dataclass(frozen=True)
class Held:
    """What this process holds. threads: but for those of asyncio's executor, a pool that fills up while
    there is work. memory_mb: resident, without what the allocator keeps for later."""

    tasks: int
    threads: int
    sockets: int
    memory_mb: float

    def check_against(self, before: Held, *, memory_mb: float) -> None:
        assert self.tasks <= before.tasks, (before, self)
        assert self.threads <= before.threads, (before, self)
        assert self.sockets <= before.sockets, (before, self)
        assert self.memory_mb <= before.memory_mb + memory_mb, (before, self)


def held() -> Held:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    links = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    sockets = sum(link.startswith("socket:") for link in links)
    threads = sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate())
    return Held(len(asyncio.all_tasks()), threads, sockets, resident / 1e6)
