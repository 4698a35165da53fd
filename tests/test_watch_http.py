"""Metrics, health, readiness, the dashboard's files and its data: who gets what, and sealed how."""

from __future__ import annotations

import asyncio
import json
import re
import socket

import pytest
from helpers import nothing_left
from prometheus_client.parser import text_string_to_metric_families as parsed
from watch_client import Watched, jpeg, watching
from watch_status import camera, model, status

from streamsr.errors import ConfigError
from streamsr.watch.config import WatchListen
from streamsr.watch.http import site
from streamsr.watch.status import SinkStatus, WatchStatus

TOKEN = "watch-0123456789abcdef"
BEARER = f"Bearer {TOKEN}"
PAGE = {
    "/": "text/html",
    "/base.css": "text/css",
    "/page.css": "text/css",
    "/page.js": "text/javascript",
    "/camera.js": "text/javascript",
    "/words.js": "text/javascript",
    "/ask.js": "text/javascript",
    "/rungs.js": "text/javascript",
    "/theme.js": "text/javascript",
    "/token.js": "text/javascript",
    "/icon.svg": "image/svg+xml",
}
SECRET = {"/metrics", "/api/status", "/api/cameras/gate/before.jpg", "/api/cameras/none/after.jpg"}


async def test_metrics_are_scraped() -> None:
    async with watching(status(camera("gate"), camera("yard"))) as dashboard:
        code, headers, body = await dashboard.get("/metrics")
        assert code == 200 and headers["Content-Type"].startswith("text/plain; version=")
        found = {family.name: family for family in parsed(body.decode())}
        counts = {
            sample.labels["camera"]: sample.value for sample in found["streamsr_camera_frames_in"].samples
        }
        assert counts == {"gate": 2000, "yard": 2000}
        _, headers, body = await dashboard.get(
            "/metrics", Accept="application/openmetrics-text; version=1.0.0"
        )
        assert headers["Content-Type"].startswith("application/openmetrics-text") and body.endswith(
            b"# EOF\n"
        )


async def test_counters_go_on_though_nobody_scraped_between_two_deaths() -> None:
    watched = Watched(status(camera("gate", frames_in=100)))
    async with watching(watched) as dashboard:
        for process_id, frames in ((101, 30), (102, 7)):
            asked = watched.asked
            async with asyncio.timeout(5):
                while watched.asked == asked:  # noqa: ASYNC110 - it is observed once a second
                    await asyncio.sleep(0.05)
            watched.now = status(camera("gate", process_id=process_id, frames_in=frames))
        _, _, body = await dashboard.get("/metrics")
    assert b'streamsr_camera_frames_in_total{camera="gate"} 137.0' in body


async def test_health_and_readiness() -> None:
    cases = [
        (200, status(camera("gate"), camera("spare", state="stopped")), []),
        (503, status(camera("gate"), camera("yard", state="backoff", error="connection refused")), ["yard"]),
        (503, status(camera("gate", state="starting")), ["gate"]),
        (503, status(camera("gate"), model=model(state="backoff")), ["model"]),
        (
            503,
            status(*(camera(name, state="frozen") for name in "ab"), model=model(state="starting")),
            ["model", "a", "b"],
        ),
    ]
    for expected, now, missing in cases:
        async with watching(now) as dashboard:
            code, _, body = await dashboard.get("/readyz")
            found = json.loads(body)
            assert (code, found["ready"]) == (expected, not missing)
            assert [one.get("name", one["what"]) for one in found["not_ready"]] == missing
            assert (await dashboard.get("/healthz"))[0] == 200
    assert found["not_ready"][1] == {"what": "camera", "name": "a", "state": "frozen", "error": None}


async def test_status_and_pictures() -> None:
    sinks = (SinkStatus(url="rtsp://ann:s3cret@h/1", state="failed", error="rtsp://ann:s3cret@h/1: refused"),)
    watched = Watched(status(camera("gate"), camera("yard", sinks=sinks)))
    watched.dark = {"yard"}
    async with watching(watched) as dashboard:
        code, headers, body = await dashboard.get("/api/status")
        assert code == 200 and headers["Cache-Control"] == "no-store"
        assert WatchStatus.model_validate_json(body).cameras[0] == camera("gate")
        assert b"s3cret" not in body and b"rtsp://***@h/1: refused" in body
        code, headers, before = await dashboard.get("/api/cameras/gate/before.jpg")
        assert (code, headers["Content-Type"], before) == (200, "image/jpeg", jpeg(0, "before"))
        code, _, after = await dashboard.get("/api/cameras/gate/after.jpg")
        assert after == jpeg(0, "after")
        path = "/api/cameras/gate/before.jpg"
        assert (await dashboard.get(path, **{"If-None-Match": headers["ETag"]}))[0] == 304
        watched.frame = 1
        assert (await dashboard.get(path, **{"If-None-Match": headers["ETag"]}))[0] == 200
        assert (await dashboard.get("/api/cameras/yard/after.jpg"))[0] == 204
        for wrong in (
            "none/after.jpg",
            "gate/other.jpg",
            "../gate/after.jpg",
            "a%2Fb/after.jpg",
            f"{'a' * 65}/after.jpg",
        ):
            assert (await dashboard.get(f"/api/cameras/{wrong}"))[0] == 404, wrong


async def test_tokens() -> None:
    watched = Watched(status(camera("gate", state="failed", error="no route")))
    async with watching(watched, token=TOKEN) as dashboard:
        for path in SECRET:
            for headers in ({}, {"Authorization": BEARER[:-1]}, {"Authorization": f"Basic {TOKEN}"}):
                code, answered, _ = await dashboard.get(path, **headers)
                assert code == 401 and answered["WWW-Authenticate"].startswith("Bearer"), path
            assert (await dashboard.get(path, Authorization=BEARER))[0] != 401
        code, _, body = await dashboard.get("/readyz")  # for a load balancer: whether, not what
        assert (code, json.loads(body)) == (503, {"ready": False})
        _, _, body = await dashboard.get("/readyz", Authorization=BEARER)
        assert json.loads(body)["not_ready"][0]["error"] == "no route"
        for path in ("/healthz", *PAGE):  # the page asks for the token
            assert (await dashboard.get(path))[0] == 200


@pytest.mark.parametrize("given", [{}, {"token": TOKEN}])
def test_an_open_address_wants_token_and_tls(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"open to others: give .*tls_certificate and tls_key"):
        WatchListen(host="0.0.0.0", **given)  # type: ignore[arg-type]
    assert not WatchListen(host="0.0.0.0", insecure=True).loopback


async def test_a_port_that_is_taken() -> None:
    async with watching(status(camera("gate"))) as dashboard:
        port = int(dashboard.url.rsplit(":", 1)[1].rstrip("/"))
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1 port {port}"):
            async with site(dashboard.watched, WatchListen(port=port)):
                pass


async def test_every_answer_is_sealed_and_foreign_pages_get_none() -> None:
    async with watching(status(camera("gate"))) as dashboard:
        for path in (*PAGE, *SECRET, "/nothing", "/healthz"):
            _, headers, _ = await dashboard.get(path)
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy and "blob:" not in policy
            assert headers["Permissions-Policy"] == "camera=(), microphone=(), geolocation=()"
            assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"
            assert headers["Server"] == "streamsr"
        assert (await dashboard.get("/metrics", Host="evil.example"))[0] == 403
        assert (await dashboard.get("/metrics", Origin="https://evil.example"))[0] == 403
        async with dashboard.http.post("/api/status", data="x") as response:
            assert response.status == 405


async def test_the_page_needs_nothing_from_elsewhere() -> None:
    async with watching(status(camera("gate"))) as dashboard:
        for path, kind in PAGE.items():
            code, headers, body = await dashboard.get(path)
            assert (code, headers["Content-Type"]) == (200, f"{kind}; charset=utf-8")
            text = body.decode()
            assert not re.search(
                r"(src|href)=\"https?:|url\(|@import|eval\(|style=|<script(?! type=\"module\" src)", text
            )
            for name in re.findall(r'(?:src|href|from|import) ?=? ?"(?:\./)?([a-z]+\.[a-z]+)"', text):
                assert f"/{name}" in PAGE


async def test_it_ends_clean() -> None:
    with nothing_left():
        async with watching(status(camera("gate"))) as dashboard:
            await dashboard.get("/metrics")
        await dashboard.site.__aexit__(None, None, None)
        port = int(dashboard.url.rsplit(":", 1)[1].rstrip("/"))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
