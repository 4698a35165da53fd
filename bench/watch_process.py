"""``streamsr watch`` as a process of its own, told what to do and asked how it goes."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from streamsr.errors import StreamSRError
from streamsr.interpreter import environment
from streamsr.watch.status import WatchStatus

__all__ = ["Watching", "watching"]

START_S = 120.0  # libraries of every process load
STOP_S = 60.0
POLL_S = 0.2


class Watching:
    """A running ``streamsr watch``; its log is kept in a file."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process, self._log = process, log
        self._address: str | None = None

    def status(self) -> WatchStatus:
        """Raises StreamSRError where it does not run any more."""
        if self._address is None:
            self._address = self._listening()
        with urllib.request.urlopen(f"{self._address}api/status", timeout=START_S) as answer:
            return WatchStatus.model_validate_json(answer.read())

    def until(self, what: Callable[[WatchStatus], bool], seconds: float = START_S) -> WatchStatus:
        """The first status of which ``what`` is true. Raises StreamSRError if none is in ``seconds``."""
        until = time.monotonic() + seconds
        while not what(status := self.status()):
            if time.monotonic() > until:
                states = {camera.name: camera.state for camera in status.cameras}
                raise StreamSRError(f"streamsr watch did not get there in {seconds:g} s: {states}")
            time.sleep(POLL_S)
        return status

    def _listening(self) -> str:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            for line in self._log.read_text().splitlines():
                if line.startswith("{") and line.endswith("}"):
                    told = json.loads(line)
                    if told["event"] == "listening":
                        return str(told["url"])
            if self._process.poll() is not None:
                break
            time.sleep(POLL_S)
        last = (self._log.read_text().strip() or "it said nothing").splitlines()[-1]
        raise StreamSRError(f"streamsr watch does not run: {last}")


@contextlib.contextmanager
def watching(cameras: str, folder: Path, threads: int | None = None) -> Iterator[Watching]:
    """From its start to its graceful end. cameras: their tables, TOML; folder: for its files. threads: of the
    model process, by default what it chooses. Raises StreamSRError where it does not end well."""
    path, log = folder / "cameras.toml", folder / "watch.log"
    settings = 'listen = "127.0.0.1:0"\n' + (f"threads = {threads}\n" if threads else "")
    path.write_text(f"[watch]\n{settings}{cameras}", encoding="utf-8")
    with log.open("wb") as file:
        command = [sys.executable, "-m", "streamsr", "watch", str(path)]
        process = subprocess.Popen(command, stderr=file, env=environment())
    try:
        yield Watching(process, log)
        process.send_signal(signal.SIGTERM)
        if (code := process.wait(STOP_S)) != 0:
            raise StreamSRError(f"streamsr watch ended with status {code}")
    finally:
        process.kill()
        process.wait()
