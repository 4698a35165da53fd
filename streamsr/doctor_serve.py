"""Whether this machine can serve as a configuration of ``streamsr serve`` says, and the fix if not."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator

import aioice
import aioice.ice
from aiortc.rtcicetransport import connection_kwargs

from .doctor import Check
from .errors import ConfigError
from .serve import ServeConfig, media_loop
from .serve.session import ice_servers

__all__ = ["examine_serve"]

GATHER_S = 8.0  # aioice gives a server five


def examine_serve(config: ServeConfig) -> list[Check]:
    """Rows for the port of HTTP, the certificate, the addresses and ports of media, STUN and TURN."""
    return [*_listening(config), *_certificate(config), *_media(config)]


def _listening(config: ServeConfig) -> Iterator[Check]:
    where = f"{config.host} port {config.port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address[:2], family=family).close()
    except OSError as error:
        reason = error.strerror or str(error)
        yield Check("serve: http", False, f"{where}: {reason}", "choose another host or port", True)
    else:
        yield Check("serve: http", True, f"{where} is free", required=True)


def _certificate(config: ServeConfig) -> Iterator[Check]:
    try:
        tls = config.tls()
    except ConfigError as error:
        yield Check("serve: tls", False, str(error), "give a PEM certificate chain and its key", True)
    else:
        found = "TLS 1.2 or newer" if tls is not None else "none: plain http"
        yield Check("serve: tls", True, found, required=True)


def _media(config: ServeConfig) -> Iterator[Check]:
    """Gathers candidates as a session of the server would."""
    began = time.monotonic()
    try:
        with asyncio.Runner(loop_factory=media_loop(config)) as runner:
            candidates = runner.run(_gathered(config))
    except TimeoutError:
        yield Check("serve: media", False, f"nothing gathered within {GATHER_S:g} s", "check DNS", True)
        return
    ms = 1e3 * (time.monotonic() - began)
    by_kind: dict[str, list[str]] = {"host": [], "srflx": [], "relay": []}
    for one in candidates:
        by_kind[one.type].append(f"{one.host} port {one.port}")
    fix = (
        "ICE leaves out 127.0.0.1: connect a network, or ip address add 10.77.0.1/32 dev lo; "
        "ice_addresses must be this machine's, udp_ports must be free"
    )
    hosts = by_kind["host"]
    yield Check("serve: media", bool(hosts), ", ".join(hosts) or "no address", "" if hosts else fix, True)
    for server in config.ice_servers:
        kind = "relay" if server.url.startswith("turn") else "srflx"
        answers = by_kind[kind]
        gave = "gave " if kind == "relay" else "sees us as "
        found = gave + ", ".join(answers) if answers else f"no answer within {ms:.0f} ms"
        fix = "" if answers else "check its address, UDP through the firewall, and for TURN user and password"
        yield Check(f"serve: {server.url.partition(':')[0]}", bool(answers), found, fix)


async def _gathered(config: ServeConfig) -> list[aioice.Candidate]:
    connection = aioice.Connection(ice_controlling=False, **connection_kwargs(ice_servers(config)))
    try:
        async with asyncio.timeout(GATHER_S):
            await connection.gather_candidates()
        return connection.local_candidates
    finally:
        await connection.close()
