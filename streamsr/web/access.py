"""Who may call: tokens, names under which the server is reached, origins; and the headers that keep a
browser from doing anything else with what it gets."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from typing import Literal

from aiohttp import web
from pydantic import SecretStr
from yarl import URL

from .listen import Listen
from .refusal import Refusal

__all__ = ["CORS_METHODS", "Access", "Right"]

Right = Literal["publish", "view"]

CORS_METHODS = "DELETE, GET, OPTIONS, PATCH, POST"
_POLICY = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "Server": "streamsr",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Access:
    """The rules of one configuration. policy: headers of answers in place of the usual, stricter ones."""

    def __init__(self, config: Listen, policy: Mapping[str, str] | None = None) -> None:
        self._policy = {**_POLICY, **(policy or {})}
        self._hosts = {host.lower() for host in config.hosts} | {"localhost"}
        self._origins = {origin.rstrip("/").lower() for origin in config.origins}
        self._rights: list[tuple[bytes, frozenset[Right]]] = []
        for secret, rights in ((config.token, {"publish", "view"}), (config.view_token, {"view"})):
            if secret is not None:
                self._rights.append((_bytes(secret), frozenset(rights)))  # type: ignore[arg-type]

    def check_host(self, request: web.Request) -> None:
        """A page of another name, made to point here, must not be served (DNS rebinding). Raises Refusal."""
        try:
            host = (URL.build(scheme="http", authority=request.headers.get("Host", "")).host or "").lower()
        except ValueError:
            raise Refusal(400, "the Host header is malformed") from None
        if host not in self._hosts and not _is_address(host):
            raise Refusal(403, "the server is not known under this name: add it to hosts")

    def check_origin(self, request: web.Request) -> None:
        """Raises Refusal for the script of a foreign page."""
        origin = request.headers.get("Origin")
        if origin is not None and not self._is_own(origin, request) and not self.is_foreign(origin):
            raise Refusal(403, "pages of this origin may not call: add it to origins")

    def is_foreign(self, origin: str) -> bool:
        """A page from elsewhere that may call."""
        return origin.lower() in self._origins

    def check_token(self, request: web.Request, right: Right) -> None:
        """Raises Refusal: 401 without a valid token, 403 with one that does not suffice."""
        if not self._rights:
            return
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given:
            raise Refusal(401, "a bearer token is needed", {"WWW-Authenticate": 'Bearer realm="streamsr"'})
        token = given.strip().encode("utf-8", "surrogateescape")
        allowed: set[Right] = set()
        for secret, rights in self._rights:  # all of them, so that time tells nothing
            if hmac.compare_digest(secret, token):
                allowed |= rights
        if not allowed:
            challenge = 'Bearer realm="streamsr", error="invalid_token"'
            raise Refusal(401, "the bearer token is wrong", {"WWW-Authenticate": challenge})
        if right not in allowed:
            challenge = 'Bearer realm="streamsr", error="insufficient_scope"'
            raise Refusal(403, "this token may only watch", {"WWW-Authenticate": challenge})

    def may(self, request: web.Request, right: Right) -> bool:
        try:
            self.check_token(request, right)
        except Refusal:
            return False
        return True

    async def seal(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add the headers that every answer has."""
        headers = response.headers
        headers.update(self._policy)
        headers.setdefault("Cache-Control", "no-store")
        origin = request.headers.get("Origin")
        if origin is not None and self.is_foreign(origin):
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = "ETag, Link, Location, Retry-After"
            headers["Vary"] = "Origin"

    def _is_own(self, origin: str, request: web.Request) -> bool:
        """The page came from here; a proxy that ends TLS may have changed the scheme, but not the name."""
        return origin.partition("://")[2].lower() == request.headers.get("Host", "").lower()


def _bytes(secret: SecretStr) -> bytes:
    return secret.get_secret_value().encode()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
