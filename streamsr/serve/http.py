"""The HTTP side: WHIP (RFC 9725), WHEP (draft-ietf-wish-whep), figures and controls of a stream, the page."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..web import CORS_METHODS, Access, Handler, Refusal, Right, add_page
from .config import IceServer, ServeConfig
from .offer import read_fragment
from .session import Role
from .streams import Streams

__all__ = ["POLICY", "application"]

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
NAME = r"[A-Za-z0-9][A-Za-z0-9_.~-]{0,63}"
PAGE = ("index.html", "page.css", "page.js", "call.js", "figures.js")
RIGHT: dict[Role, Right] = {"whip": "publish", "whep": "view"}

# beyond what every page may: the camera, and pictures that the page itself plays
POLICY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(self), fullscreen=(self), geolocation=()",
}


class Controls(BaseModel):
    """What PATCH /controls/NAME takes, as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fidelity: Annotated[float, Field(ge=0, le=1)] | None = None
    steps: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] | None = None
    enabled: bool | None = None


def application(config: ServeConfig, streams: Streams, access: Access) -> web.Application:
    """All routes."""
    routes = _Routes(config, streams, access)
    app = web.Application(client_max_size=config.limits.sdp_bytes + 1)
    roles: tuple[Role, ...] = ("whip", "whep")
    for role in roles:
        app.router.add_post(f"/{role}/{{name:{NAME}}}", routes.offered(role))
        app.router.add_options(f"/{role}/{{name:{NAME}}}", routes.options(role, "POST", SDP))
        session = f"/{role}/{{name:{NAME}}}/{{session}}"
        app.router.add_patch(session, routes.trickled(role))
        app.router.add_delete(session, routes.deleted(role))
        app.router.add_options(session, routes.options(role, "PATCH", FRAGMENT))
    app.router.add_get(f"/stats/{{name:{NAME}}}", routes.figures, allow_head=False)
    app.router.add_options(f"/stats/{{name:{NAME}}}", routes.options("whep", None, None))
    app.router.add_patch(f"/controls/{{name:{NAME}}}", routes.control)
    app.router.add_options(f"/controls/{{name:{NAME}}}", routes.options("whip", None, None))
    app.router.add_get("/health", routes.health)
    add_page(app, __package__, *PAGE)
    return app


class _Routes:
    def __init__(self, config: ServeConfig, streams: Streams, access: Access) -> None:
        self._config, self._streams, self._access = config, streams, access
        self._ice_links = tuple(_link(server) for server in config.ice_servers)

    def offered(self, role: Role) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            self._access.check_token(request, RIGHT[role])
            _check_accepts(request, SDP)
            offer = await self._body(request, SDP, self._config.limits.sdp_bytes)
            begin = self._streams.publish if role == "whip" else self._streams.watch
            session, text = await begin(request.match_info["name"], offer)
            response = web.Response(status=201, text=text, content_type=SDP)
            response.headers["Location"] = session.path
            response.headers["ETag"] = session.etag
            response.headers["Accept-Patch"] = FRAGMENT
            self._add_links(response)
            return response

        return answer

    def trickled(self, role: Role) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            self._access.check_token(request, RIGHT[role])
            session = self._streams.session(role, request.match_info["name"], request.match_info["session"])
            text = await self._body(request, FRAGMENT, self._config.limits.body_bytes)
            matches = request.headers.get("If-Match", session.etag)
            fragment = read_fragment(text, self._config.limits)
            if matches not in (session.etag, "*"):
                raise Refusal(412, "If-Match names another entity tag than the session's")
            await session.add_candidates(fragment)
            return web.Response(status=204, headers={"ETag": session.etag})

        return answer

    def deleted(self, role: Role) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            self._access.check_token(request, RIGHT[role])
            session = self._streams.session(role, request.match_info["name"], request.match_info["session"])
            session.end("deleted by the client")
            return web.Response(status=200)

        return answer

    def options(self, role: Role, method: str | None, accepts: str | None) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            response = web.Response(status=204)
            if method is not None and accepts is not None:
                response.headers[f"Accept-{method.capitalize()}"] = accepts
                if self._access.may(request, RIGHT[role]):  # a preflight carries no token
                    self._add_links(response)
            if "Origin" in request.headers:
                response.headers["Access-Control-Allow-Methods"] = CORS_METHODS
                response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, If-Match"
                response.headers["Access-Control-Max-Age"] = "600"
            return response

        return answer

    async def figures(self, request: web.Request) -> web.Response:
        self._access.check_token(request, "view")
        return web.json_response(self._streams.stream(request.match_info["name"]).figures())

    async def control(self, request: web.Request) -> web.Response:
        self._access.check_token(request, "publish")
        text = await self._body(request, "application/json", self._config.limits.body_bytes)
        try:
            wanted = Controls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise Refusal(422, f"{where}: {first['msg']}" if where else first["msg"]) from None
        stream = self._streams.stream(request.match_info["name"])
        stream.control(**wanted.model_dump())
        return web.json_response(stream.figures()["controls"])

    async def health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", **self._streams.counts()})

    async def _body(self, request: web.Request, kind: str, most_bytes: int) -> str:
        """Raises Refusal: 415, 413, 408, 400."""
        if request.content_type != kind or "Content-Encoding" in request.headers:
            raise Refusal(415, f"the body must be {kind}, not compressed")
        if (request.content_length or 0) > most_bytes:
            raise Refusal(413, f"the body may have {most_bytes} bytes")
        try:
            async with asyncio.timeout(self._config.limits.body_s):
                data = await request.read()
        except TimeoutError:
            raise Refusal(408, "the body came too slowly", {"Connection": "close"}) from None
        if len(data) > most_bytes:
            raise Refusal(413, f"the body may have {most_bytes} bytes")
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            raise Refusal(400, "the body must be UTF-8") from None
        if not text.strip():
            raise Refusal(400, "the body is empty")
        return text

    def _add_links(self, response: web.Response) -> None:
        for link in self._ice_links:
            response.headers.add("Link", link)


def _link(server: IceServer) -> str:
    """RFC 9725, section 4.6."""
    link = f'<{server.url}>; rel="ice-server"'
    if server.username is not None and server.credential is not None:
        secret = server.credential.get_secret_value()
        link += (
            f'; username={_quoted(server.username)}; credential={_quoted(secret)}; credential-type="password"'
        )
    return link


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _check_accepts(request: web.Request, kind: str) -> None:
    accepts = request.headers.get("Accept")
    if accepts is None:
        return
    ranges = {part.partition(";")[0].strip().lower() for part in accepts.split(",")}
    if not ranges & {kind, kind.partition("/")[0] + "/*", "*/*"}:
        raise Refusal(406, f"the answer is {kind}")
