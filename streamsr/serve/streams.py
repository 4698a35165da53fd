"""All streams of a server and all sessions on them, within the limits."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from typing import Any

from ..clock import MONOTONIC, NS_PER_S, Clock
from ..loop import settle
from ..rtc import with_start_bitrate
from ..stages import Enhancer
from ..web import Refusal
from .config import ServeConfig
from .offer import Offer, read_offer
from .session import Role, Session
from .stream import Stream

__all__ = ["Streams"]

OFFERS_PER_S = 10.0  # each costs a certificate, sockets and a thread or two
OFFERS_AT_ONCE = 20.0
KEPT_ENDINGS = 16
UPLOAD_KBPS = 2500  # a browser's at the beginning; it goes where the network lets it

_log = logging.getLogger(__name__)


class Streams:
    """``async with``: whatever began in it has ended after it. A session that fails ends alone."""

    def __init__(self, config: ServeConfig, enhancer: Enhancer, clock: Clock = MONOTONIC) -> None:
        self._config, self._enhancer, self._clock = config, enhancer, clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._streams: dict[str, Stream] = {}
        self._sessions: dict[str, Session] = {}
        self._endings: deque[tuple[str, str]] = deque(maxlen=KEPT_ENDINGS)
        self._offers, self._offers_ns = OFFERS_AT_ONCE, clock.now_ns()
        self._closed = False

    async def __aenter__(self) -> Streams:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def publish(self, name: str, text: str) -> tuple[Session, str]:
        """A new stream, and the answer for its publisher. Raises Refusal."""
        offer = read_offer(text, "sendonly", self._config.limits)
        self._admit()
        held = self._streams.get(name)
        if held is not None:
            if held.silent_s < self._config.limits.takeover_s:
                raise Refusal(409, f"{name} is being published by someone else", {"Retry-After": "3"})
            held.publisher.end("replaced by a new publisher")
        elif len(self._streams) >= self._config.limits.streams:
            raise Refusal(503, "the server has no room for another stream", {"Retry-After": "30"})
        stream = Stream(name, self._config, self._enhancer, self._clock)
        self._streams[name] = stream
        session = stream.publisher
        self._start(self._run_stream(stream), session)
        return session, await self._negotiated(session, offer, start_bitrate=True)

    async def watch(self, name: str, text: str) -> tuple[Session, str]:
        """A new viewer of ``name``, and the answer for it. Raises Refusal: 409 while nobody publishes."""
        offer = read_offer(text, "recvonly", self._config.limits)
        self._admit()
        stream = self._streams.get(name)
        if stream is None or not stream.ready:
            raise Refusal(409, f"nobody publishes {name} now", {"Retry-After": "1"})
        session = Session("whep", name, self._config)
        stream.show(session, offer.kinds)
        self._start(self._run_viewer(stream, session), session)
        return session, await self._negotiated(session, offer)

    def session(self, role: Role, name: str, session_id: str) -> Session:
        """Raises Refusal: 404."""
        found = self._sessions.get(session_id)
        if found is None or (found.role, found.stream) != (role, name):
            raise Refusal(404, "no such session")
        return found

    def stream(self, name: str) -> Stream:
        """Raises Refusal: 404, saying why the last one of this name ended."""
        if name in self._streams:
            return self._streams[name]
        ending = next((reason for one, reason in reversed(self._endings) if one == name), None)
        raise Refusal(404, f"{name} has ended: {ending}" if ending else f"nobody publishes {name}")

    def counts(self) -> dict[str, int]:
        return {"streams": len(self._streams), "sessions": len(self._sessions)}

    async def close(self) -> None:
        """End every session, and take no more. May be called twice."""
        self._closed = True
        for session in tuple(self._sessions.values()):
            session.end("the server stops")
        for task in tuple(self._tasks):
            await settle(task)

    def _admit(self) -> None:
        if self._closed:
            raise Refusal(503, "the server stops", {"Retry-After": "10"})
        now_ns = self._clock.now_ns()
        earned = (now_ns - self._offers_ns) / NS_PER_S * OFFERS_PER_S
        self._offers, self._offers_ns = min(self._offers + earned, OFFERS_AT_ONCE), now_ns
        if self._offers < 1:
            raise Refusal(429, "too many offers at once", {"Retry-After": "1"})
        self._offers -= 1
        if len(self._sessions) >= self._config.limits.sessions:
            raise Refusal(503, "the server has no room for another session", {"Retry-After": "30"})

    def _start(self, run: Coroutine[Any, Any, None], session: Session) -> None:
        self._sessions[session.id] = session
        task = asyncio.create_task(run, name=f"{session.role} {session.stream}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        _log.info("%s of %s began", session.role, session.stream)

    async def _negotiated(self, session: Session, offer: Offer, start_bitrate: bool = False) -> str:
        try:
            answer = await session.answer(offer)
            return with_start_bitrate(answer, UPLOAD_KBPS) if start_bitrate else answer
        except BaseException as error:
            session.end(error.detail if isinstance(error, Refusal) else "the offer could not be answered")
            raise

    async def _run_stream(self, stream: Stream) -> None:
        try:
            await stream.run()
        except Exception:  # a fault in one stream must not end the others
            _log.exception("the stream %s failed", stream.name)
        finally:
            if self._streams.get(stream.name) is stream:
                del self._streams[stream.name]
            self._ended(stream.publisher)

    async def _run_viewer(self, stream: Stream, session: Session) -> None:
        try:
            await session.run()
        except Exception:  # nor one in a viewer the stream or its other viewers
            _log.exception("a viewer of %s failed", stream.name)
        finally:
            stream.viewers.discard(session)
            self._ended(session)

    def _ended(self, session: Session) -> None:
        self._sessions.pop(session.id, None)
        if session.role == "whip":
            self._endings.append((session.stream, session.reason or "it failed"))
        _log.info("%s of %s ended: %s", session.role, session.stream, session.reason)
