"""Malformed HTTP, SDP, candidates, UDP, RTP and RTCP: none of it ends the server or another's call.

About 11 500 inputs, the same in every run. Some are well-formed by chance, so answers of 2xx are allowed;
a fault of the server (500) is not.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pylibsrtp
import pytest
from rtc_peers import SoundTrack
from serve_client import FRAGMENT, SDP, Client, Site, offer_of, picture, serving
from test_serve_calls import hum

pytest_plugins = ["rtc_fixtures"]
pytestmark = pytest.mark.usefixtures("call_address")

TOKENS = [
    b"\0",
    b"\r\n",
    b" ",
    b":",
    b"-1",
    b"65536",
    b"99999999999999999999",
    b"\xff",
    b"a=",
    b"m=",
    b"%s",
    b"\xc3",
]


def mutated(data: bytes, chance: random.Random) -> bytes:
    """``data`` with one to eight small injuries."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        at = chance.randrange(len(out) + 1)
        match chance.randrange(6):
            case 0:
                out[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                out[at:at] = chance.choice(TOKENS)
            case 2:
                del out[at : at + chance.randint(1, 40)]
            case 3:
                out[at:at] = out[at : at + chance.randint(1, 80)]
            case 4:
                out = out[: max(1, at)]
            case 5:
                lines = bytes(out).split(b"\r\n")
                chance.shuffle(lines)
                out = bytearray(b"\r\n".join(lines))
    return bytes(out)


@asynccontextmanager
async def besides_a_call() -> AsyncIterator[Site]:
    """A server on which others are in a call; afterwards that call must still go on, undisturbed."""
    async with (
        serving(limits={"sessions": 60, "streams": 20, "connect_s": 2, "header_s": 2}) as site,
        site.publisher("bystander", picture(), SoundTrack(hum)) as publisher,
        site.viewer("bystander") as viewer,
    ):
        await asyncio.wait_for(viewer.tracks["video"].recv(), 10)
        yield site
        for _ in range(25):
            await asyncio.wait_for(viewer.tracks["video"].recv(), 5)
        figures = await site.figures("bystander")
        assert figures["state"] == "connected" and figures["report"]["status"] == "running"
        assert publisher.peer.connectionState == viewer.peer.connectionState == "connected"


async def test_sdp_and_fragments() -> None:
    chance = random.Random(1)
    offers = [
        (await offer_of(direction, "video", "audio")).encode() for direction in ("sendonly", "recvonly")
    ]
    async with besides_a_call() as site:

        async def post(number: int) -> int:
            path = ("/whip/fuzz", "/whep/bystander")[number % 2]
            body = mutated(offers[number % 2], chance)
            return await site.status("POST", path, headers={"Content-Type": SDP}, data=body)

        statuses = [status for n in range(0, 3000, 20) for status in await _gathered(post, n, 20)]
        assert set(statuses) <= {201, 400, 409, 413, 422, 429, 503} and statuses.count(400) > 500
        # those that were offers count against the rate of offers; and idle connections last header_s: none
        # may end just as the next request takes it
        await asyncio.sleep(3)
        async with site.publisher("victim") as victim:
            fragment = victim.fragment + "a=candidate:1 1 udp 2130706431 10.77.0.1 4321 typ host\r\n"

            async def patch(number: int) -> int:
                headers = {"Content-Type": FRAGMENT, "If-Match": victim.etag}
                body = mutated(fragment.encode(), chance)
                return await site.status("PATCH", victim.location, headers=headers, data=body)

            statuses = [status for n in range(0, 2000, 20) for status in await _gathered(patch, n, 20)]
            assert set(statuses) <= {204, 400, 404, 422} and statuses.count(400) > 500


async def _gathered(call, first: int, count: int) -> list[int]:  # type: ignore[no-untyped-def]
    return await asyncio.gather(*(call(number) for number in range(first, first + count)))


async def test_http() -> None:
    chance = random.Random(2)
    whole = (
        b"POST /whip/fuzz HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sdp\r\n"
        b"Authorization: Bearer abc\r\nIf-Match: *\r\nOrigin: http://localhost\r\n"
        b"Content-Length: 5\r\n\r\nv=0\r\n"
    )
    chunked = (
        b"PATCH /controls/fuzz HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    )
    async with besides_a_call() as site:
        port = int(re.findall(r":(\d+)/", site.server.url)[0])

        async def send(number: int) -> int:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(mutated((whole, chunked)[number % 2], chance))
            try:
                line = await asyncio.wait_for(reader.readline(), 0.05)
            except (TimeoutError, ConnectionError):
                line = b""
            writer.transport.abort()
            return int(line.split()[1]) if line else 0

        statuses = [status for n in range(0, 1500, 50) for status in await _gathered(send, n, 50)]
        assert 500 not in statuses and statuses.count(400) > 200


async def test_datagrams_of_a_stranger() -> None:
    chance = random.Random(3)
    stun = bytes.fromhex("000100002112a442") + bytes(12) + bytes.fromhex("000600036162630000000000")
    hello = bytes.fromhex("16fefd0000000000000000002f010000230000000000000023fefd") + bytes(34)
    rtp = struct.pack("!BBHII", 0x80, 96, 7, 3600, 99) + bytes(200)
    async with besides_a_call() as site:
        targets = _media_addresses(site)
        assert targets
        with socket.socket(type=socket.SOCK_DGRAM) as stranger:
            for number in range(2500):
                data = mutated((stun, hello, rtp)[number % 3], chance)[:1400]
                stranger.sendto(data, targets[number % len(targets)])
                if number % 50 == 0:
                    await asyncio.sleep(0.005)


def _media_addresses(site: Site) -> list[tuple[str, int]]:
    stream = site.server.streams.stream("bystander")
    peers = [session.peer for session in (stream.publisher, *stream.viewers)]
    answers = "".join(peer.localDescription.sdp for peer in peers)
    found = re.findall(r"a=candidate:\S+ 1 udp \d+ (\S+) (\d+)", answers)
    return sorted({(address, int(port)) for address, port in found})


async def test_rtp_and_rtcp_of_an_authenticated_peer() -> None:
    """Well encrypted, with nonsense inside: what depacketisers, jitter buffers and decoders get."""
    async with besides_a_call() as site:
        sent = seed = 0
        while sent < 2500:  # some nonsense ends the attacker's own session
            async with site.publisher(f"fuzz{seed}", picture(), SoundTrack(hum)) as client:
                sent += await _attack(client, random.Random(seed))
            seed += 1
        assert seed < 20


async def _attack(client: Client, chance: random.Random) -> int:
    """How many packets went out."""
    await asyncio.wait_for(client.connected.wait(), 10)
    await asyncio.sleep(0.2)  # some sound and picture
    senders = client.peer.getSenders()
    for sender in senders:
        sender.replaceTrack(None)
    types = [int(found) for found in re.findall(r"a=rtpmap:(\d+) (?:VP8|H264|opus|rtx)/", client.answer)]
    ssrcs = [sender._ssrc for sender in senders] + [7]
    transport, sent, sequence = senders[0].transport, 0, 1000
    for number in range(700):
        if number % 2:
            data = _rtcp(chance, chance.choice(ssrcs))
        else:
            sequence += chance.choice((1, 1, 1, 2, 60))  # libsrtp takes no large steps back
            data = _rtp(chance, ssrcs[2] if number < 100 else chance.choice(ssrcs), sequence, types)
        try:
            await transport._send_rtp(data)
            sent += 1
        except (ConnectionError, pylibsrtp.Error):
            continue  # its session is over, or libsrtp will not protect this
        if number % 20 == 0:
            await asyncio.sleep(0.002)
    await asyncio.sleep(0.2)
    return sent


def _rtp(chance: random.Random, ssrc: int, sequence: int, types: list[int]) -> bytes:
    """A sound header, then anything."""
    first = chance.choice((0x80, 0x80, 0x80, 0x90, 0xA0, 0x81))
    kind = chance.choice((0, 128)) | chance.choice(types)
    header = struct.pack("!BBHII", first, kind, sequence & 0xFFFF, chance.randrange(2**32), ssrc)
    return header + chance.randbytes(chance.choice((0, 1, 2, 3, 8, 60, 900)))


def _rtcp(chance: random.Random, ssrc: int) -> bytes:
    """A header of a known kind, mostly of the right length, then anything."""
    body = chance.randbytes(4 * chance.choice((0, 1, 2, 5, 19, 99)))
    words = chance.choice((len(body) // 4 + 1, len(body) // 4 + 1, 0, 1, 65_535))
    kind = chance.choice((200, 201, 202, 203, 204, 205, 206, 207))
    return struct.pack("!BBHI", 0x80 | chance.randrange(32), kind, words, ssrc) + body
