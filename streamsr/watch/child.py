"""A child process, from the supervisor's side: started, listened to, watched, ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..interpreter import command, environment
from .link import LINE_BYTES
from .logs import ChildLines

__all__ = ["SILENT_S", "Child"]

SILENT_S = 10.0  # a child that says nothing for so long is killed
START_S = 60.0  # the same, until its owner knows that it has begun, or while it works
WORKS_CPU_S = 0.2  # of CPU time since it last spoke: it is no more than short of it
WATCH_S = 0.5  # silence is looked for this often
LAST_WORDS_S = 1.0  # for what a dead child has still written


class Child:
    """``python -m streamsr.MODULE FD`` in a fresh interpreter; FD is one end of a socket, see ``link``.

    job: a line, its first there. on_message: called with each message that it sends. lines: takes what it
    writes to stderr. The process leads a session of its own: Ctrl-C in a terminal is the supervisor's.
    """

    def __init__(
        self, module: str, job: str, lines: ChildLines, on_message: Callable[[dict[str, Any]], None]
    ) -> None:
        self._module, self._job, self._lines, self._on_message = module, job, lines, on_message
        self.allowed_silence_s = START_S
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._killed_for: str | None = None
        self._heard_at = 0.0
        self.exit_status: int | None = None  # negative: the number of the signal that ended it

    @property
    def process_id(self) -> int | None:
        """None: it does not run."""
        running = self._process is not None and self.exit_status is None
        return self._process.pid if running and self._process is not None else None

    async def run(self) -> str:
        """Until it ends, however that comes about; in words, why. A cancelled call kills it.

        Raises OSError where no process can be started.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = process = await asyncio.create_subprocess_exec(
                    *command(self._module, str(theirs.fileno())),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                    pass_fds=[theirs.fileno()],
                    env=environment(),
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            raise
        try:
            reader, self._writer = await asyncio.open_unix_connection(sock=ours, limit=LINE_BYTES)
            self._writer.write(self._job.encode() + b"\n")
            assert process.stderr is not None
            readers = (
                asyncio.create_task(self._listen(reader)),
                asyncio.create_task(self._lines.read(process.stderr)),
            )
            watching = asyncio.create_task(self._watch())
            try:
                await process.wait()
                await asyncio.wait(readers, timeout=LAST_WORDS_S)
            finally:
                for task in (watching, *readers):
                    task.cancel()
                await asyncio.gather(watching, *readers, return_exceptions=True)
        finally:
            self.kill("given up")
            if self._writer is not None:
                self._writer.close()
            else:
                ours.close()
            self.exit_status = await process.wait()
        return self._ending()

    def send(self, **command: Any) -> None:
        """Nothing happens where it does not run."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(json.dumps(command).encode() + b"\n")

    def terminate(self) -> None:
        """SIGTERM: finish in good order."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    def kill(self, reason: str) -> None:
        """SIGKILL; nothing happens where it does not run."""
        if self._process is not None and self._process.returncode is None:
            self._killed_for = reason
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while line := await reader.readline():
                self._heard_at = asyncio.get_running_loop().time()
                self._on_message(json.loads(line))
        except ConnectionError:  # it died with something unread
            return
        except ValueError as error:  # a line that is too long, or no message
            self.kill(f"it sent what cannot be read: {error}")

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        self._heard_at = woken_at = loop.time()
        heard_at, used_s = 0.0, 0.0
        while True:
            await asyncio.sleep(WATCH_S)
            now = loop.time()
            if now - woken_at > 2 * WATCH_S:  # this process stood still: what the child said waits unread
                self._heard_at += now - woken_at - WATCH_S
            woken_at = now
            if heard_at != self._heard_at:
                heard_at, used_s = self._heard_at, self._used_cpu_s()
            silent_s = now - heard_at
            works = silent_s < START_S and self._used_cpu_s() - used_s > WORKS_CPU_S
            if silent_s > self.allowed_silence_s and not works:
                self.kill(f"it said nothing for {silent_s:.0f} s")
                return

    def _used_cpu_s(self) -> float:
        """0 where it is gone."""
        try:
            fields = Path(f"/proc/{self.process_id}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _ending(self) -> str:
        status = self.exit_status
        assert status is not None
        if self._killed_for is not None and status == -signal.SIGKILL:
            return f"killed: {self._killed_for}"
        if status < 0:
            return f"ended by {_signal_name(-status)}"
        return f"ended with status {status}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
