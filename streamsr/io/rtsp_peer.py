"""Whether an RTSP server is at the other end of a URL, and in one line what is wrong if not."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import av
import av.error

from .rtsp_url import PORTS

__all__ = ["explain", "knock"]

LOOK_S = 0.05  # a wait looks this often whether it has been called off


def knock(url: str, timeout_s: float, stopped: Callable[[], bool] = lambda: False) -> str | None:
    """Connect, ask for OPTIONS and hang up. Returns None if an RTSP server answered, else the reason.

    FFmpeg tells a silent server, a web server and an unknown host apart poorly, and cannot be called
    off while it waits; this can: within 0.1 s of ``stopped`` becoming true, save for looking up the
    host's name. Of rtsps only the connection is tried.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        return f"host name {host!r} is unknown"
    request = b""
    if parts.scheme == "rtsp":
        target = f"rtsp://{where}{parts.path}" + (f"?{parts.query}" if parts.query else "")
        request = f"OPTIONS {target} RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: streamsr\r\n\r\n".encode()
    deadline = time.monotonic() + timeout_s
    reason: str | None = "no address"
    for family, kind, protocol, _, address in addresses:
        with socket.socket(family, kind, protocol) as peer, selectors.DefaultSelector() as selector:
            peer.setblocking(False)
            selector.register(peer, selectors.EVENT_WRITE)
            reason = _ask(peer, selector, address, request, deadline, stopped)
        if reason is None:
            return None
    return f"{where} {reason}" + (f" within {timeout_s:g} s" if time.monotonic() > deadline else "")


def _ask(
    peer: socket.socket,
    selector: selectors.BaseSelector,
    address: tuple[object, ...],
    request: bytes,
    deadline: float,
    stopped: Callable[[], bool],
) -> str | None:
    code = peer.connect_ex(address)
    if code == errno.EINPROGRESS:
        if not _ready(selector, deadline, stopped):
            return "did not accept a connection"
        code = peer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code == errno.ECONNREFUSED:
        return "refused the connection: is the server running, is the port right?"
    if code:
        return f"cannot be reached: {os.strerror(code)}"
    if not request:
        return None
    selector.modify(peer, selectors.EVENT_READ)
    answer = b""
    try:
        peer.sendall(request)  # into an empty send buffer: does not block
        while len(answer) < 7:
            if not _ready(selector, deadline, stopped):
                return "accepted the connection but did not answer"
            received = peer.recv(256)
            if not received:
                return "closed the connection without an answer: is it an RTSP server?"
            answer += received
    except OSError as error:
        return f"broke the connection off: {error.strerror}"
    if answer.startswith(b"RTSP/1."):
        return None
    line = answer.splitlines()[0][:40].decode("ascii", "replace")
    return f"does not speak RTSP: it answered {line!r}"


def _ready(selector: selectors.BaseSelector, deadline: float, stopped: Callable[[], bool]) -> bool:
    while not stopped():
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        if selector.select(min(left_s, LOOK_S)):
            return True
    return False


def explain(error: Exception, url: str, waited_s: float, timeout_s: float) -> str:
    """One line for a user on what FFmpeg reported for ``url``. Its own text carries the password.

    waited_s: how long the call that failed took; timeout_s: how long it was allowed to.
    """
    parts = urlsplit(url)
    if isinstance(error, av.error.HTTPUnauthorizedError):
        if parts.username is None:
            return "the server wants a user and a password (401): write user:password@ before the host"
        return "wrong user or password (401)"
    if isinstance(error, av.error.HTTPForbiddenError):
        return "this user may not see this stream (403)"
    if isinstance(error, av.error.HTTPNotFoundError):
        return f"no stream at path {parts.path or '/'!r} (404)"
    if isinstance(error, av.error.HTTPClientError):
        return "the server refused the request (4xx): does it offer this transport and this direction?"
    if isinstance(error, av.error.HTTPError):
        return "the server failed (5xx)"
    if isinstance(error, (TimeoutError, av.error.ExitError)) or waited_s > 0.95 * timeout_s:
        return f"the server did not answer for {timeout_s:g} s"
    if isinstance(error, (EOFError, ConnectionError)):
        return "the server closed the connection"
    if isinstance(error, av.error.InvalidDataError):
        return "the server answered with nothing that can be read as an RTSP stream"
    return f"{getattr(error, 'strerror', None) or type(error).__name__}"
