"""The HTTP side of WHIP and WHEP: every status that a client may meet, and the rules for browsers."""

from __future__ import annotations

import asyncio
import re
import socket

import pytest
from helpers import nothing_left, until
from serve_client import FRAGMENT, SDP, offer_of, serving

pytest_plugins = ["rtc_fixtures"]
pytestmark = pytest.mark.usefixtures("call_address")

TOKEN, VIEW_TOKEN = "publish-0123456789abcdef", "view-0123456789abcdef"
AS_SDP = {"Content-Type": SDP}
PAGE = (
    "/",
    "/base.css",
    "/page.css",
    "/page.js",
    "/call.js",
    "/figures.js",
    "/ask.js",
    "/rungs.js",
    "/theme.js",
    "/token.js",
)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_a_session_from_offer_to_delete() -> None:
    with nothing_left():
        async with serving() as site, site.publisher("one") as client:
            assert client.location.startswith("/whip/one/")
            assert re.fullmatch(r'"[\w-]+"', client.etag)
            assert "a=recvonly" in client.answer and "a=candidate:" in client.answer
            assert client.answer.count("x-google-start-bitrate=2500") >= 2
            await asyncio.wait_for(client.connected.wait(), 10)
            assert await site.status("DELETE", client.location) == 200
            await until(lambda: client.peer.connectionState == "closed")
            await site.settled()
            assert await site.status("DELETE", client.location) == 404
            status, _, text = await site.answer("GET", "/stats/one")
            assert status == 404 and "deleted by the client" in text


async def test_what_is_not_an_offer_is_refused() -> None:
    good = await offer_of()
    both = await offer_of("sendonly", "video", "audio")
    cases = [
        (415, {"Content-Type": "application/json"}, good),
        (415, {**AS_SDP, "Content-Encoding": "gzip"}, good),
        (406, {**AS_SDP, "Accept": "text/html"}, good),
        (413, AS_SDP, "a" * 70_000),
        (400, AS_SDP, ""),
        (400, AS_SDP, b"\xff\xfe"),
        (400, AS_SDP, "m=video nonsense\r\n"),
        (400, AS_SDP, "\r\n" * 2000),
        (400, AS_SDP, good.replace("a=fingerprint:sha-256", "a=nothing:sha-256")),
        (400, AS_SDP, re.sub("a=ice-pwd:.*", "a=ice-pwd:short", good)),
        (400, AS_SDP, re.sub("a=candidate:(.*) typ host", r"a=candidate:\1 typ none", good)),
        (422, AS_SDP, "v=0\r\n"),
        (422, AS_SDP, good.replace("a=sendonly", "a=recvonly")),
        (422, AS_SDP, good + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"),
        (422, AS_SDP, good.replace("VP8/90000", "VP7/90000").replace("H264/90000", "H261/90000")),
        (422, AS_SDP, good + "".join(f"a=candidate:1 1 udp 1 10.0.0.1 {n} typ host\r\n" for n in range(65))),
        (422, AS_SDP, await offer_of("sendonly", "audio")),
        (422, AS_SDP, await offer_of("sendonly", "video", "video")),
        *((422, AS_SDP, re.sub("(a=group:BUNDLE) .*", rf"\1 {mids}", good)) for mids in ("9 0", "0 0", "")),
        *(
            (422, AS_SDP, re.sub("(a=group:BUNDLE) .*", rf"\1 {mids}", both))
            for mids in ("9 0 1", "1", "0 1 1")
        ),
        (422, AS_SDP, re.sub("(a=group:BUNDLE .*)", "a=group:BUNDLE 9 0 1\r\n\\1", both)),
    ]
    async with serving() as site:
        for expected, headers, body in cases:
            status, _, text = await site.answer("POST", "/whip/one", headers=headers, data=body)
            assert status == expected, (expected, status, text, body[:60])
        assert await site.counts() == (0, 0)


async def test_methods_names_and_unknown_sessions() -> None:
    async with serving() as site:
        for method in ("GET", "PUT"):
            status, headers, _ = await site.answer(method, "/whip/one")
            assert status == 405 and headers["Allow"] == "OPTIONS,POST"
        status, headers, _ = await site.answer("POST", "/whep/one/session")
        assert status == 405 and headers["Allow"] == "DELETE,OPTIONS,PATCH"
        for path in ("/whip/", "/whip/a%20b", "/whip/.hidden", f"/whip/{'a' * 65}", "/nothing"):
            assert await site.status("POST", path, headers=AS_SDP, data="v=0") == 404
        for method in ("PATCH", "DELETE"):
            assert await site.status(method, "/whip/one/nothing", headers={"Content-Type": FRAGMENT}) == 404


async def test_a_viewer_before_its_stream_may_try_again() -> None:
    offer = await offer_of("recvonly")
    async with serving() as site:
        status, headers, _ = await site.answer("POST", "/whep/one", headers=AS_SDP, data=offer)
        assert (status, headers["Retry-After"]) == (409, "1")


async def test_a_name_that_is_taken_and_limits() -> None:
    offer, watch = await offer_of(), await offer_of("recvonly")
    async with serving(limits={"streams": 1, "sessions": 2}) as site, site.publisher("one") as client:
        await asyncio.wait_for(client.connected.wait(), 10)
        status, headers, _ = await site.answer("POST", "/whip/one", headers=AS_SDP, data=offer)
        assert status == 409 and "Retry-After" in headers
        status, headers, text = await site.answer("POST", "/whip/two", headers=AS_SDP, data=offer)
        assert status == 503 and "Retry-After" in headers and "stream" in text
        async with site.viewer("one"):
            status, headers, text = await site.answer("POST", "/whep/one", headers=AS_SDP, data=watch)
            assert status == 503 and "Retry-After" in headers and "session" in text


async def test_too_many_offers_at_once() -> None:
    offer = await offer_of("recvonly")
    async with serving() as site:
        posts = [site.answer("POST", "/whep/one", headers=AS_SDP, data=offer) for _ in range(40)]
        answers = await asyncio.gather(*posts)
        refused = [headers for status, headers, _ in answers if status == 429]
        assert 10 <= len(refused) <= 20
        assert all(headers["Retry-After"] == "1" for headers in refused)


async def test_trickled_candidates() -> None:
    candidate = "a=candidate:1 1 udp 2130706431 10.77.0.1 40000 typ host\r\n"
    async with serving() as site, site.publisher("one") as client:
        as_fragment = {"Content-Type": FRAGMENT, "If-Match": client.etag}

        async def patch(body: str, headers: dict[str, str] = as_fragment) -> int:
            return await site.status("PATCH", client.location, headers=headers, data=body)

        assert await patch(client.fragment + candidate) == 204
        assert await patch(client.fragment + "a=end-of-candidates\r\n") == 204
        assert await patch(client.fragment, {**as_fragment, "If-Match": '"other"'}) == 412
        assert await patch(client.fragment, AS_SDP) == 415
        assert await patch("a=mid:0\r\n") == 400
        assert await patch(client.fragment + "a=candidate:nonsense\r\n") == 400
        assert await patch(client.fragment + 65 * candidate) == 422
        restart = re.sub("a=ice-ufrag:.*", "a=ice-ufrag:anew", client.fragment)
        assert await patch(restart, {**as_fragment, "If-Match": "*"}) == 422
        assert await site.counts() == (1, 1)


async def test_tokens() -> None:
    offer, watch = await offer_of(), await offer_of("recvonly")
    async with serving(token=TOKEN, view_token=VIEW_TOKEN) as site:
        for headers in ({}, bearer(TOKEN[:-1] + "x"), {"Authorization": f"Basic {TOKEN}"}):
            for method, path in (
                ("POST", "/whip/one"),
                ("POST", "/whep/one"),
                ("GET", "/stats/one"),
                ("PATCH", "/controls/one"),
                ("DELETE", "/whip/one/x"),
            ):
                status, answer, text = await site.answer(
                    method, path, headers={**AS_SDP, **headers}, data=offer
                )
                assert status == 401 and answer["WWW-Authenticate"].startswith("Bearer realm=")
                assert TOKEN not in text
        viewer = {**AS_SDP, **bearer(VIEW_TOKEN)}
        assert await site.status("POST", "/whip/one", headers=viewer, data=offer) == 403
        assert await site.status("POST", "/whep/one", headers=viewer, data=watch) == 409
        assert await site.status("GET", "/", headers={}) == 200  # the page asks for it
        async with site.publisher("one", headers=bearer(TOKEN)) as client:
            assert await site.status("GET", "/stats/one", headers=bearer(VIEW_TOKEN)) == 200
            assert await site.status("DELETE", client.location, headers=bearer(VIEW_TOKEN)) == 403
            assert await site.status("DELETE", client.location, headers=bearer(TOKEN)) == 200


async def test_ice_servers_are_told_to_those_who_may_call() -> None:
    turn = {"url": "turn:turn.example:3478?transport=tcp", "username": "ann", "credential": 'pass"word'}
    servers = [{"url": "stun:127.0.0.1:9"}, turn]
    async with serving(token=TOKEN, ice_servers=servers) as site:
        status, headers, _ = await site.answer("OPTIONS", "/whip/one", headers=bearer(TOKEN))
        assert status == 204 and headers["Accept-Post"] == SDP
        assert headers.getall("Link") == [
            '<stun:127.0.0.1:9>; rel="ice-server"',
            '<turn:turn.example:3478?transport=tcp>; rel="ice-server"; username="ann"; '
            'credential="pass\\"word"; credential-type="password"',
        ]
        status, headers, _ = await site.answer("OPTIONS", "/whip/one")
        assert status == 204 and "Link" not in headers


async def test_foreign_names_and_origins() -> None:
    async with serving(hosts=["Calls.example"], origins=["https://app.example"]) as site:
        own = site.server.url.rstrip("/")
        for host, expected in (
            ("evil.example", 403),
            ("calls.example:8080", 200),
            ("localhost", 200),
            ("127.0.0.1", 200),
            ("[::1]:80", 200),
            ("localhost:port", 400),
        ):
            assert await site.status("GET", "/", headers={"Host": host}) == expected, host
        for origin, expected in (
            ("https://evil.example", 403),
            ("null", 403),
            (own, 404),
            ("https://app.example", 404),
        ):
            assert await site.status("GET", "/stats/one", headers={"Origin": origin}) == expected, origin
        _, headers, _ = await site.answer("OPTIONS", "/whip/one", headers={"Origin": "https://app.example"})
        assert headers["Access-Control-Allow-Origin"] == "https://app.example"
        assert "Authorization" in headers["Access-Control-Allow-Headers"]
        assert "Location" in headers["Access-Control-Expose-Headers"]
        _, headers, _ = await site.answer("OPTIONS", "/whip/one", headers={"Origin": own})
        assert "Access-Control-Allow-Origin" not in headers


async def test_every_answer_is_sealed() -> None:
    async with serving() as site:
        for method, path in (("GET", "/"), ("GET", "/page.js"), ("GET", "/nothing"), ("PUT", "/whip/one")):
            _, headers, _ = await site.answer(method, path)
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["X-Frame-Options"] == "DENY"
            assert headers["Server"] == "streamsr"


async def test_the_page_needs_nothing_from_elsewhere() -> None:
    async with serving() as site:
        found = set()
        for path in PAGE:
            status, headers, text = await site.answer("GET", path)
            assert status == 200 and headers["Cache-Control"] == "no-cache"
            assert not re.search(
                r"(src|href)=\"https?:|url\(|@import|eval\(|<script(?! type=\"module\" src)", text
            )
            found |= set(re.findall(r'(?:src|href|from) ?=? ?"(?:\./)?([a-z]+\.[a-z]+)"', text))
        for name in found:
            assert await site.status("GET", f"/{name}") == 200


async def test_controls() -> None:
    json = {"Content-Type": "application/json"}
    async with serving() as site:
        assert await site.status("PATCH", "/controls/one", headers=json, data="{}") == 404
        async with site.publisher("one"):
            wanted = '{"fidelity": 0.75, "steps": 2, "enabled": false}'
            status, _, text = await site.answer("PATCH", "/controls/one", headers=json, data=wanted)
            assert (status, text) == (200, '{"fidelity": 0.75, "steps": 2, "enabled": false}')
            for wrong in ('{"fidelity": 2}', '{"steps": 0}', '{"colour": 1}', "[]", "{"):
                status, _, _ = await site.answer("PATCH", "/controls/one", headers=json, data=wrong)
                assert status == 422, wrong


async def raw(site, data: bytes, limit_s: float) -> bytes:  # type: ignore[no-untyped-def]
    """Send ``data`` as it is; what comes back until the server closes."""
    port = int(site.server.url.rsplit(":", 1)[1].rstrip("/"))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        return await asyncio.wait_for(reader.read(), limit_s)
    finally:
        writer.close()


async def test_a_client_that_dawdles_is_shown_out() -> None:
    async with serving(limits={"header_s": 0.4, "body_s": 0.4}) as site:
        assert await raw(site, b"GET / HTTP/1.1\r\nHost: loc", 5) == b""
        slow_body = (
            b"POST /whip/one HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sdp\r\n"
            b"Content-Length: 50\r\n\r\nv=0"
        )
        assert b" 408 " in await raw(site, slow_body, 5)


async def test_too_many_connections() -> None:
    async with serving(limits={"connections": 5, "header_s": 30}) as site:
        port = int(site.server.url.rsplit(":", 1)[1].rstrip("/"))
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(6)]
        await asyncio.sleep(0.1)
        assert await site.status("GET", "/") == 503
        for one in idle:
            one.close()
        await asyncio.sleep(0.1)
        assert await site.status("GET", "/") == 200
