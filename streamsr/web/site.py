"""A web application behind its rules, from ``async with`` to its end; and the files of its page."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from importlib import resources

from aiohttp import web

from .access import Access
from .listen import BACKLOG, Listen
from .refusal import Refusal

__all__ = ["Handler", "Site", "add_page"]

SHUTDOWN_S = 3.0  # for answers that are on their way
HEADER_BYTES = 8190  # of a line; at most 128 lines
COMMON = ("base.css", "icon.svg", "ask.js", "rungs.js", "theme.js", "token.js")  # files of every page
KINDS = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """``async with Site(app, access, listen) as site``: it answers at ``site.url`` until the block ends.

    Every answer has the headers of ``access``; names and origins are checked before any handler, tokens
    by the handlers. connections: most at one time. header_s: for a request's headers to arrive. Entering
    raises ConfigError for an address or a certificate that cannot be used.
    """

    def __init__(
        self,
        app: web.Application,
        access: Access,
        listen: Listen,
        *,
        connections: int = 256,
        header_s: float = 15.0,
    ) -> None:
        self._access, self._listen = access, listen
        self._connections, self._header_s = connections, header_s
        self._stack = AsyncExitStack()
        self._runner: web.AppRunner | None = None
        self._app = app
        app.middlewares.append(self._guard)
        app.on_response_prepare.append(access.seal)
        self.url = ""

    async def __aenter__(self) -> Site:
        tls, listening = self._listen.tls(), self._listen.bound()
        async with AsyncExitStack() as stack:
            stack.callback(listening.close)
            runner = web.AppRunner(
                self._app,
                access_log=None,  # paths name sessions
                keepalive_timeout=self._header_s,  # aiohttp's only limit for headers that do not come
                lingering_time=0,
                auto_decompress=False,
                max_line_size=HEADER_BYTES,
                max_field_size=HEADER_BYTES,
                shutdown_timeout=SHUTDOWN_S,
            )
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.SockSite(runner, listening, ssl_context=tls, backlog=BACKLOG).start()
            self._runner = runner
            self._stack = stack.pop_all()
        host, port = listening.getsockname()[:2]
        name = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if tls else 'http'}://{name}:{port}/"
        return self

    async def __aexit__(self, *error: object) -> bool | None:
        return await self._stack.__aexit__(*error)  # type: ignore[arg-type]

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if self._crowded():
                raise Refusal(503, "too many connections", {"Retry-After": "5", "Connection": "close"})
            self._access.check_host(request)
            self._access.check_origin(request)
            return await handler(request)
        except Refusal as refusal:
            return _problem(refusal.status, refusal.detail, refusal.headers)
        except web.HTTPException as error:  # of the router: 404, 405; of a body too large: 413
            kept = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
            return _problem(error.status, error.reason, kept)

    def _crowded(self) -> bool:
        server = self._runner.server if self._runner is not None else None
        return server is not None and len(server.connections) > self._connections


def add_page(app: web.Application, package: str, *names: str) -> None:
    """Serve the files ``names`` of the package's folder "page", index.html at /, and those of every page."""
    files = {name: package for name in names} | dict.fromkeys(COMMON, __package__)
    for name, owner in files.items():
        path = "/" if name == "index.html" else f"/{name}"
        app.router.add_get(path, _file(owner, name))


def _file(package: str, name: str) -> Handler:
    body = resources.files(package).joinpath("page", name).read_bytes()
    kind = KINDS[name.rpartition(".")[2]]

    async def answer(request: web.Request) -> web.Response:
        return web.Response(
            body=body, content_type=kind, charset="utf-8", headers={"Cache-Control": "no-cache"}
        )

    return answer


def _problem(status: int, detail: str, headers: Mapping[str, str]) -> web.Response:
    """RFC 9457."""
    body = json.dumps({"status": status, "detail": detail}) + "\n"
    return web.Response(status=status, text=body, content_type="application/problem+json", headers=headers)
