"""Starts the three processes of a call, carries their signalling, collects what they measured."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from streamsr.errors import StreamSRError

from .call_figures import Taken
from .call_peers import Setup, receive, send, serve

__all__ = ["take_call"]

ANSWER_S = 120.0  # the longest wait for anything: the model compiles in it
END_S = 20.0
CAMERA_STARTS_S = 3.0  # after its offer


class _Process:
    """One of the three, and the pipe to it."""

    def __init__(self, work: Callable[[Connection, Setup], None], setup: Setup) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._name = work.__name__
        self._process = context.Process(target=work, args=(theirs, setup), daemon=True)
        self._process.start()
        theirs.close()

    @property
    def process_id(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def tell(self, kind: str, value: Any = None) -> None:
        self._pipe.send((kind, value))

    def hear(self, kind: str) -> Any:
        """Raises StreamSRError for an error, silence or death at the other end."""
        try:
            if not self._pipe.poll(ANSWER_S):
                raise StreamSRError(f"the process to {self._name} said nothing for {ANSWER_S:g} s")
            told, value = self._pipe.recv()
        except EOFError:
            raise StreamSRError(f"the process to {self._name} died") from None
        if told == "error":
            raise StreamSRError(str(value))
        assert told == kind, f"expected {kind}, got {told}"
        return value

    def end(self) -> None:
        self._process.join(END_S if self._process.exitcode is None and not self._pipe.closed else 0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pipe.close()


def take_call(seconds: float, meanwhile: Callable[[float, int], None] | None = None, **setup: Any) -> Taken:
    """A call of ``seconds``; ``setup``: the fields of Setup. Raises StreamSRError.

    meanwhile: called once a second with the time in s (monotonic) and the server's process id.
    """
    told = Setup(**setup)
    processes: list[_Process] = []
    done = False
    try:
        for work in (serve, send, receive):
            processes.append(_Process(work, told))
        server, camera, viewer = processes
        server.hear("ready")
        _signal(camera, server)
        _signal(server, viewer)
        time.sleep(CAMERA_STARTS_S)
        end_s = time.monotonic() + seconds
        while (now_s := time.monotonic()) < end_s:
            if meanwhile is not None:
                meanwhile(now_s, server.process_id)
            time.sleep(max(0.0, min(now_s + 1, end_s) - time.monotonic()))
        for process in (viewer, server, camera):  # whoever receives first: nobody sees a peer vanish
            process.tell("stop")
        from_server, from_camera, from_viewer = (process.hear("result") for process in processes)
        done = True
    finally:
        for process in processes:
            if not done:
                process._process.kill()
            process.end()
    return Taken(from_server, from_camera, from_viewer, told.kept)


def _signal(offering: _Process, answering: _Process) -> None:
    answering.tell("offer", offering.hear("offer"))
    offering.tell("answer", answering.hear("answer"))
