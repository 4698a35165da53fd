"""``session.FaceRestorer`` over a socket and shared memory: see ``device_wire``."""

from __future__ import annotations

import itertools
import logging
import os
import select
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ..clock import NS_PER_MS, NS_PER_S
from ..io.backoff import delays
from ..model.crop import Crop
from ..model.reading import GuideReading, Trace
from ..session import Refused
from .device_wire import (
    FACES,
    MAX_MESSAGE,
    SLOTS,
    VERSION,
    Face,
    FaceToRestore,
    Guide,
    Hello,
    Prepare,
    Read,
    ReadingMessage,
    Refusal,
    Restore,
    Restored,
    SharedPictures,
    Welcome,
    create_memory,
    from_device,
)

__all__ = ["RemoteRestorer"]

SIZES = (256, 512)  # S of all packaged weights, until the model process names its own
FIRST_S, CAP_S = 0.05, 1.0  # between two attempts to connect
POLL_S = 0.05  # where the model process is waited for
MOST_SKIPS = 3  # calls that are refused here, unasked, after several in a row were refused there

_log = logging.getLogger(__name__)

Answer = TypeVar("Answer", Read, Restored)


@dataclass(frozen=True, slots=True)
class _Handle:
    """``Trace.past``: it lies in the model process, under ``key`` of that connection."""

    connection: int
    key: int


class RemoteRestorer:
    """For one thread at a time; none of its own. ``name``, ``priority``: of the camera.

    A call takes at most until its deadline, and without one until the model process answers or is gone;
    it raises Refused otherwise. Connections are made in calls, and again when one was lost; the pauses
    between attempts grow. A new connection knows nothing of what faces left in the last one. Where the
    device is full for long, only some calls ask: refusing takes time, too.
    """

    def __init__(self, path: str, *, name: str, priority: int) -> None:
        self._path, self._name, self._priority = path, name, priority
        self._memory_fd = create_memory(name)
        self._pictures = SharedPictures(self._memory_fd)
        self._fidelity: float | None = None
        self._welcome: Welcome | None = None  # the last one
        self._socket: socket.socket | None = None
        self._welcomed = False  # on this connection
        self._connection = 0  # its number
        self._free = set(range(SLOTS))
        self._slot_of: dict[int, int] = {}  # by request
        self._ids, self._keys = itertools.count(), itertools.count()
        self._delays: Iterator[float] = delays(FIRST_S, CAP_S)
        self._next_attempt_ns = 0
        self._refusals = self._skips = 0  # in a row; calls that are not to ask
        self._closed = False
        self.waited_ms = 0.0

    @property
    def sizes(self) -> tuple[int, ...]:
        return SIZES if self._welcome is None else self._welcome.sizes

    @property
    def device_type(self) -> str:
        """ "cpu" until the model process says otherwise."""
        return "cpu" if self._welcome is None else self._welcome.device

    @property
    def sha256(self) -> str | None:
        """Of the weights; None before the first connection."""
        return None if self._welcome is None else self._welcome.model_sha256

    def connect(self, until_ns: int) -> bool:
        """Whether the model process is there; waits for it until then (CLOCK_MONOTONIC)."""
        while True:
            if self._ready(until_ns):
                return True
            left_s = (until_ns - time.monotonic_ns()) / NS_PER_S
            if left_s <= 0:
                return False
            time.sleep(min(left_s, POLL_S))

    def close(self) -> None:
        """May be called twice."""
        if not self._closed:
            self._closed = True
            self._disconnect()
            os.close(self._memory_fd)

    def prepare(self, fidelity: float) -> None:
        """Tell the model process, and every later one, that this level will be needed."""
        self._fidelity = fidelity
        if self._welcomed:
            self._send(Prepare(fidelity=fidelity))

    def guide(self, crops: Sequence[Crop], deadline_ns: int | None = None) -> list[GuideReading]:
        """As ``Restorer.guide``. Raises Refused."""
        self.waited_ms = 0.0
        readings: list[GuideReading] = []
        for part in _parts(len(crops)):
            faces = tuple(Face(**_told(crop)) for crop in crops[part])
            request = Guide(id=0, slot=0, size=crops[0].size, deadline_ns=deadline_ns, faces=faces)
            answer, _ = self._ask(request, crops[part], Read)
            readings += [reading.reading() for reading in answer.readings]
        return readings

    def restore(
        self,
        crops: Sequence[Crop],
        readings: Sequence[GuideReading],
        traces: Sequence[Trace | None] | None = None,
        *,
        steps: int = 1,
        seed: int = 0,
        fidelity: float = 1.0,
        deadline_ns: int | None = None,
    ) -> list[Trace]:
        """As ``Restorer.restore``. Raises Refused."""
        self.waited_ms = 0.0
        if fidelity != self._fidelity:
            self.prepare(fidelity)
        traces = [None] * len(crops) if traces is None else traces
        restored: list[Trace] = []
        for part in _parts(len(crops)):
            handles = [self._handle(trace) for trace in traces[part]]
            rows = zip(crops[part], readings[part], handles, strict=True)
            faces = tuple(
                FaceToRestore(
                    **_told(crop),
                    reading=ReadingMessage.of(reading),
                    key=next(self._keys) if handle is None else handle.key,
                    recent=handle is not None,
                )
                for crop, reading, handle in rows
            )
            request = Restore(
                id=0,
                slot=0,
                size=crops[0].size,
                deadline_ns=deadline_ns,
                faces=faces,
                steps=steps,
                seed=seed,
                fidelity=fidelity,
            )
            _, slot = self._ask(request, crops[part], Restored)
            for k, (crop, face) in enumerate(zip(crops[part], faces, strict=True)):
                residual = self._pictures.residual(slot, k, crop.size).copy()
                restored.append(Trace(crop, residual, self._left_behind(face)))
        return restored

    def _left_behind(self, face: FaceToRestore) -> _Handle | None:
        assert self._welcome is not None
        return _Handle(self._connection, face.key) if self._welcome.recurrent else None

    def _handle(self, trace: Trace | None) -> _Handle | None:
        """What the model process has of this face, if it is still the same."""
        past = None if trace is None else trace.past
        return past if past is not None and past.connection == self._connection else None

    def _ask(self, request: Guide | Restore, crops: Sequence[Crop], kind: type[Answer]) -> tuple[Answer, int]:
        """The answer, and the slot in which its pictures are. ``request``: but for ``id`` and ``slot``."""
        if self._skips and request.deadline_ns is not None:
            self._skips -= 1
            raise Refused("the model process has had no time")
        while True:
            slot, request_id = self._open_slot(request.deadline_ns, request.size)
            for k, crop in enumerate(crops):
                self._pictures.write(slot, k, crop)
            self._send(request.model_copy(update={"id": request_id, "slot": slot}))
            answer = self._wait(request_id, request.deadline_ns)
            if isinstance(answer, kind):
                self.waited_ms += answer.waited_ms
                self._refusals = 0
                return answer, slot
            if request.deadline_ns is not None:
                self._skips = min(self._refusals, MOST_SKIPS)
                self._refusals += 1
                raise Refused("the model process has no time")
            time.sleep(POLL_S)  # it makes this level of fidelity ready

    # -- the connection -----------------------------------------------------------------------------------

    def _open_slot(self, deadline_ns: int | None, size: int) -> tuple[int, int]:
        """A slot that nothing is in, and the id of the request that will be. Raises Refused."""
        while self._receive(0.0) is not None:  # answers that came too late
            pass
        if deadline_ns is not None and time.monotonic_ns() >= deadline_ns:
            raise Refused("it is too late to ask")
        if not self._ready(deadline_ns):
            raise Refused("the model process is not there")
        if size not in self.sizes:  # it was started with other weights than this session
            raise Refused(f"the model process knows sizes {self.sizes}, not {size}")
        if not self._free:
            raise Refused("the model process has not answered yet what it was asked before")
        slot, request_id = self._free.pop(), next(self._ids)
        self._slot_of[request_id] = slot
        return slot, request_id

    def _ready(self, until_ns: int | None) -> bool:
        """Connected and welcomed; an answer to Hello is waited for until then."""
        now_ns = time.monotonic_ns()
        if self._socket is None and now_ns >= self._next_attempt_ns and not self._closed:
            self._next_attempt_ns = now_ns + round(next(self._delays) * NS_PER_S)
            self._attempt()
        while self._socket is not None and not self._welcomed:
            left_s = POLL_S if until_ns is None else (until_ns - time.monotonic_ns()) / NS_PER_S
            if self._receive(max(0.0, left_s)) is None and until_ns is not None:
                break
        return self._welcomed

    def _attempt(self) -> None:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        link.setblocking(False)
        try:
            link.connect(self._path)
            hello = Hello(version=VERSION, name=self._name, priority=self._priority)
            socket.send_fds(link, [hello.model_dump_json().encode()], [self._memory_fd])
        except OSError:  # nobody there, or not yet ready for one more
            link.close()
            return
        self._socket = link
        self._connection += 1

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._welcomed = None, False
        self._free = set(range(SLOTS))
        self._slot_of.clear()
        self._refusals = self._skips = 0

    def _lose(self, reason: str) -> None:
        if self._welcomed:
            _log.warning("lost the model process: %s", reason)
        self._disconnect()

    def _send(self, message: Guide | Restore | Prepare) -> None:
        assert self._socket is not None
        try:
            self._socket.send(message.model_dump_json().encode())
        except OSError as error:
            self._lose(str(error))
            if not isinstance(message, Prepare):
                raise Refused("the model process is gone") from error

    def _wait(self, request_id: int, deadline_ns: int | None) -> Read | Restored | Refusal:
        while self._socket is not None:
            left_s = None if deadline_ns is None else (deadline_ns - time.monotonic_ns()) / NS_PER_S
            if left_s is not None and left_s <= 0:
                raise Refused("the model process did not answer in time")
            answer = self._receive(left_s)
            if isinstance(answer, Read | Restored | Refusal) and answer.id == request_id:
                return answer
        raise Refused("the model process is gone")

    def _receive(self, timeout_s: float | None) -> Welcome | Read | Restored | Refusal | None:
        """The next answer; None if none came within ``timeout_s``, or the connection is lost."""
        if self._socket is None:
            return None
        readable = select.poll()
        readable.register(self._socket, select.POLLIN)
        if not readable.poll(None if timeout_s is None else timeout_s * NS_PER_S / NS_PER_MS):
            return None
        try:
            packet = self._socket.recv(MAX_MESSAGE)
            if not packet:
                self._lose("it has ended the connection")
                return None
            answer = from_device(packet)
        except (OSError, ValueError) as error:
            self._lose(str(error))
            return None
        if isinstance(answer, Welcome):
            self._greeted(answer)
        elif answer.id in self._slot_of:
            self._free.add(self._slot_of.pop(answer.id))
        return answer

    def _greeted(self, welcome: Welcome) -> None:
        if self._welcome is not None and welcome != self._welcome:
            _log.warning("another model: sizes %s, sha256 %s", welcome.sizes, welcome.model_sha256)
        self._welcome, self._welcomed = welcome, True
        self._delays, self._next_attempt_ns = delays(FIRST_S, CAP_S), 0
        if self._fidelity is not None:
            self._send(Prepare(fidelity=self._fidelity))


def _told(crop: Crop) -> dict[str, Any]:
    """A crop without its pictures."""
    height, width = crop.patch.shape
    return {"camera": tuple(crop.camera.ravel().tolist()), "patch": (height, width)}


def _parts(count: int) -> list[slice]:
    """Of so many faces, as many as a request may have, in turn."""
    return [slice(first, first + FACES) for first in range(0, count, FACES)]
