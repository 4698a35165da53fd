"""One camera's connection in the model process: its pictures, its requests, and its faces' pasts."""

from __future__ import annotations

import os
import socket
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from pydantic import BaseModel

from ..clock import NS_PER_MS, NS_PER_S
from ..model.crop import Crop
from ..model.reading import Trace
from .device_queue import Camera
from .device_wire import (
    MAX_MESSAGE,
    SLOTS,
    VERSION,
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
    from_camera,
)

__all__ = ["Connection", "ProtocolError", "Request"]

MOST_PASTS = 8  # faces of one camera; the one that was restored longest ago is forgotten
PAST_S = 10.0  # after which it is forgotten anyway
_NO_RESIDUAL = np.empty((0, 0, 3), np.float32)


class ProtocolError(Exception):
    """What came is no message, or none that may come now: the connection ends."""


class Connection:
    """``receive`` belongs to the loop's thread, ``send`` to any, ``pasts`` to the evaluating one."""

    def __init__(self, sock: socket.socket, since_ns: int) -> None:
        sock.setblocking(False)
        self.sock, self.since_ns = sock, since_ns
        self.name: str | None = None  # until its Hello
        self.camera = Camera(priority=0)
        self.broken = False  # nothing can be sent any more
        self.requests: dict[int, Request] = {}  # not answered yet, by slot
        self.pasts = _Pasts()
        self._pictures: SharedPictures | None = None

    @property
    def pictures(self) -> SharedPictures:
        assert self._pictures is not None, "came with Hello"
        return self._pictures

    def receive(self, sizes: tuple[int, ...]) -> Hello | Prepare | Guide | Restore | None:
        """A message; None at the end. Raises ProtocolError, BlockingIOError."""
        try:
            packet, files, flags, _ = socket.recv_fds(self.sock, MAX_MESSAGE, 1)
        except BlockingIOError:
            raise
        except OSError:
            return None
        try:
            if not packet:
                return None
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ProtocolError(f"a message is of at most {MAX_MESSAGE} bytes and one file")
            message = from_camera(packet)
            if isinstance(message, Hello) != (self.name is None) or isinstance(message, Hello) != bool(files):
                raise ProtocolError("Hello comes once, first, and with the memory's file")
            if isinstance(message, Hello):
                self._greet(message, files[0])
            elif not isinstance(message, Prepare):
                self._check(message, sizes)
            return message
        except ValueError as error:
            raise ProtocolError(" ".join(str(error).split())[:200]) from None
        finally:
            for fd in files:
                os.close(fd)

    def send(self, message: BaseModel) -> None:
        """Never waits: a camera that does not take its few answers is as good as gone."""
        try:
            self.sock.send(message.model_dump_json().encode())
        except OSError:
            self.broken = True

    def close(self) -> None:
        """May be called twice."""
        self.broken = True
        self.requests.clear()
        self.sock.close()

    def _greet(self, hello: Hello, memory_fd: int) -> None:
        if hello.version != VERSION:
            raise ProtocolError(f"version must be {VERSION}, got {hello.version}")
        self._pictures = SharedPictures(memory_fd)
        self.name, self.camera.priority = hello.name, hello.priority

    def _check(self, message: Guide | Restore, sizes: tuple[int, ...]) -> None:
        if message.size not in sizes:
            raise ProtocolError(f"size must be one of {sizes}, got {message.size}")
        if message.slot in self.requests or len(self.requests) == SLOTS:
            raise ProtocolError(f"slot {message.slot} is in use")


@dataclass(eq=False, slots=True)
class Request:
    """What a camera asked for, until it is answered. worked_ns: of evaluations that its faces were in."""

    connection: Connection
    message: Guide | Restore
    arrived_ns: int
    done: int = 0  # faces
    worked_ns: int = 0
    readings: dict[int, ReadingMessage] = field(default_factory=dict)

    @property
    def open(self) -> bool:
        """Neither answered nor refused, nor its camera gone."""
        return self.connection.requests.get(self.message.slot) is self

    def crop(self, face: int) -> Crop:
        message = self.message
        return self.connection.pictures.read(message.slot, face, message.size, message.faces[face])

    def told(self, face: int) -> FaceToRestore:
        found = self.message.faces[face]
        assert isinstance(found, FaceToRestore)
        return found

    def past(self, face: int) -> Trace | None:
        """Of this face's last frame here, be it one that its camera did not wait for."""
        told = self.told(face)
        return self.connection.pasts.find(told.key, self.message.size) if told.recent else None

    def keep(self, face: int, trace: Trace, now_ns: int) -> None:
        """Write what was restored where the camera finds it, and remember what the next frame needs."""
        message = self.message
        self.connection.pictures.residual(message.slot, face, message.size)[:] = trace.residual
        if trace.past is not None:
            self.connection.pasts.keep(self.told(face).key, trace, now_ns)

    def answer(self, now_ns: int) -> None:
        waited_ms = (now_ns - self.arrived_ns - self.worked_ns) / NS_PER_MS
        message = self.message
        if isinstance(message, Guide):
            readings = tuple(self.readings[k] for k in range(len(message.faces)))
            self._send(Read(id=message.id, waited_ms=waited_ms, readings=readings))
        else:
            self._send(Restored(id=message.id, waited_ms=waited_ms))

    def refuse(self) -> None:
        self._send(Refusal(id=self.message.id))

    def _send(self, answer: Any) -> None:
        del self.connection.requests[self.message.slot]
        self.connection.send(answer)


class _Pasts:
    def __init__(self) -> None:
        self._traces: OrderedDict[int, tuple[Trace, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._traces)

    def find(self, key: int, size: int) -> Trace | None:
        trace, _ = self._traces.get(key, (None, 0))
        return trace if trace is not None and trace.crop.size == size else None

    def keep(self, key: int, trace: Trace, now_ns: int) -> None:
        self._traces[key] = (replace(trace, residual=_NO_RESIDUAL), now_ns)
        self._traces.move_to_end(key)
        while len(self._traces) > MOST_PASTS:
            self._traces.popitem(last=False)

    def forget(self, now_ns: int) -> None:
        """What is too old to be asked for again."""
        while self._traces:
            key, (_, kept_ns) = next(iter(self._traces.items()))
            if now_ns - kept_ns < PAST_S * NS_PER_S:
                return
            del self._traces[key]
