"""The HTTP side: metrics, health, readiness, the dashboard and what it shows."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from typing import Literal, Protocol

from aiohttp import web

from ..web import Access, Listen, Refusal, Site, add_page
from .logs import redacted
from .metrics import Metrics
from .status import WatchStatus

__all__ = ["Watched", "site"]

NAME = "[A-Za-z0-9_-]{1,64}"
PAGE = ("index.html", "page.css", "page.js", "camera.js", "words.js")
OBSERVE_S = 1.0
CONNECTIONS = 128
BODY_BYTES = 1024  # no request has one

Which = Literal["before", "after"]


class Watched(Protocol):
    """What there is to see."""

    def status(self) -> WatchStatus: ...

    def snapshot(self, name: str, which: Which) -> bytes | None:
        """The newest picture of a camera as JPEG, small; None before the first. KeyError: no such camera."""
        ...


def site(watched: Watched, listen: Listen) -> Site:
    """All routes behind the rules of ``listen``: ``async with site(...) as found`` serves them."""
    access = Access(listen)
    return Site(_application(watched, access), access, listen, connections=CONNECTIONS)


def _application(watched: Watched, access: Access) -> web.Application:
    routes = _Routes(watched, access)
    app = web.Application(client_max_size=BODY_BYTES)
    app.cleanup_ctx.append(routes.observing)
    app.router.add_get("/metrics", routes.metrics)
    app.router.add_get("/healthz", routes.healthz)
    app.router.add_get("/readyz", routes.readyz)
    app.router.add_get("/api/status", routes.status)
    app.router.add_get(f"/api/cameras/{{name:{NAME}}}/{{which:before|after}}.jpg", routes.picture)
    add_page(app, "streamsr.watch", *PAGE)
    return app


class _Routes:
    def __init__(self, watched: Watched, access: Access) -> None:
        self._watched, self._access = watched, access
        self._metrics = Metrics(watched.status)

    async def observing(self, app: web.Application) -> AsyncIterator[None]:
        """Between two scrapes a process may die and its successor too."""

        async def observe() -> None:
            while True:
                self._metrics.observe()
                await asyncio.sleep(OBSERVE_S)

        task = asyncio.create_task(observe())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def metrics(self, request: web.Request) -> web.Response:
        self._access.check_token(request, "view")
        body, content_type = self._metrics.exposition(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def healthz(self, request: web.Request) -> web.Response:
        """This process answers: 200. Whether its cameras do, /readyz says."""
        return web.json_response({"status": "ok"})

    async def readyz(self, request: web.Request) -> web.Response:
        """200 when the model process and every camera that is switched on are up. What is not is told to
        those who may see it."""
        missing = not_ready(self._watched.status())
        body: dict[str, object] = {"ready": not missing}
        if self._access.may(request, "view"):
            body["not_ready"] = redacted(missing)
        return web.json_response(body, status=503 if missing else 200)

    async def status(self, request: web.Request) -> web.Response:
        self._access.check_token(request, "view")
        document = redacted(self._watched.status().model_dump())
        return web.Response(text=json.dumps(document), content_type="application/json")

    async def picture(self, request: web.Request) -> web.Response:
        self._access.check_token(request, "view")
        which: Which = "before" if request.match_info["which"] == "before" else "after"
        try:
            picture = self._watched.snapshot(request.match_info["name"], which)
        except KeyError:
            raise Refusal(404, "there is no camera of this name") from None
        if picture is None:
            return web.Response(status=204)
        etag = f'"{zlib.crc32(picture):08x}"'
        if request.headers.get("If-None-Match") == etag:
            return web.Response(status=304, headers={"ETag": etag})
        return web.Response(body=picture, content_type="image/jpeg", headers={"ETag": etag})


def not_ready(status: WatchStatus) -> list[dict[str, str | None]]:
    """What ought to be up and is not. A camera that is switched off ought not."""
    missing: list[dict[str, str | None]] = []
    if status.model.state != "ready":
        missing.append({"what": "model", "state": status.model.state, "error": status.model.error})
    for camera in status.cameras:
        if camera.state not in ("streaming", "stopped"):
            missing.append(
                {"what": "camera", "name": camera.name, "state": camera.state, "error": camera.error}
            )
    return missing
