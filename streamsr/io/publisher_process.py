"""The parent's side of a publishing process: the memory it shares with it, and the process itself."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import subprocess
import tempfile
from typing import IO

import numpy as np

from ..frame import Yuv420p
from ..interpreter import command, environment
from .rtsp_publisher import Job

__all__ = ["KILLED_S", "SLOTS", "Memory", "Publisher"]

SLOTS = 2  # one at the publisher, one with the newest picture
KILLED_S = 0.5  # a killed process is gone by then


class Memory:
    """Pictures that two processes see: shared, without a name, gone with the last that holds it."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        size = width * height * 3 * SLOTS
        directory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 - see close
        self.fd = self._file.fileno()
        try:
            os.posix_fallocate(self.fd, 0, size)  # now, rather than SIGBUS when /dev/shm is full
            memory = mmap.mmap(self.fd, size)
        except OSError:
            self._file.close()
            raise
        self._slots = np.frombuffer(memory, np.uint8).reshape(SLOTS, height * width * 3)

    def write(self, slot: int, image: np.ndarray | Yuv420p) -> None:
        """Of this memory's size."""
        values = image.planes if isinstance(image, Yuv420p) else image
        np.copyto(self._slots[slot, : values.size].reshape(values.shape), values)

    def close(self) -> None:
        """No more publishers will start with it; it can still be written to. May be called twice."""
        self._file.close()


class Publisher:
    """The child process. ``ready``: it waits for a picture."""

    def __init__(self, job: Job) -> None:
        self.ready = False
        self._timeout_s = job.timeout_s
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed by ``end``
        self._process = subprocess.Popen(
            command("io.rtsp_publisher"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            pass_fds=[job.memory_fd],
            env=environment(),
            start_new_session=True,  # Ctrl-C is for the parent, which then says goodbye in good order
            text=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin: IO[str] = self._process.stdin
        self.messages: IO[str] = self._process.stdout

    @property
    def process_id(self) -> int:
        return self._process.pid

    def start(self, job: Job) -> None:
        self._write(job.line())

    def send(self, command: dict[str, int | bool | str]) -> None:
        """At most one line is on its way, so the pipe never blocks."""
        self.ready = False
        self._write(json.dumps(command) + "\n")

    def kill(self) -> None:
        self._process.kill()

    def end(self, reason: str | None) -> str:
        """Wait for the process, whose output has ended, and say why it did."""
        try:
            self._process.wait(KILLED_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
        self.messages.close()
        with self._complaints as complaints:
            complaints.seek(0)
            lines = complaints.read().decode(errors="replace").split("\n")
        status = self._process.returncode
        if reason is not None:
            return reason
        if status == -signal.SIGALRM:
            return f"the server did not answer, or took nothing, for {self._timeout_s:g} s"
        last = next((line for line in reversed(lines) if line.strip()), "no message")
        return f"the publishing process ended with status {status}: {last.strip()}"

    def _write(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # its end is noticed where its messages are read
            self._stdin.write(line)
            self._stdin.flush()
