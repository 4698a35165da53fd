"""``streamsr watch`` as its users run it, in a process of its own; read through its HTTP side and its log."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from processes import descendants, runs

START_S = 120.0  # on a busy machine the model process needs more than half of it

Status = dict[str, Any]


class WatchProcess:
    """``with WatchProcess(tmp_path / "cameras.toml", text) as watch``; ``text`` without its [watch] table.

    At the end of the block it is killed if it still runs, and nothing of it may be left.
    """

    def __init__(self, path: Path, text: str, settings: str = "threads = 1", *options: str) -> None:
        self.path, self._settings, self._options = path, settings, options
        self.lines: list[str] = []  # of its stderr
        self.configure(text)

    def configure(self, text: str) -> None:
        self.path.write_text(f'[watch]\nlisten = "127.0.0.1:0"\n{self._settings}\n{text}')

    def __enter__(self) -> WatchProcess:
        self.temporary = Path(tempfile.mkdtemp(prefix="watch-"))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamsr", "watch", str(self.path), *self._options],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(self.temporary)},
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._family: set[int] = set()
        return self

    def __exit__(self, *error: object) -> None:
        self._family |= descendants(self.process.pid)
        self.process.kill()
        self.process.wait()
        deadline = time.monotonic() + 30
        while (left := {pid for pid in self._family if runs(pid)}) and time.monotonic() < deadline:
            time.sleep(0.05)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        self._reader.join()
        shutil.rmtree(self.temporary)
        assert not left, f"orphans: {left}"

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in map(json.loads, list(self.lines)) if line["event"] == name]

    def event(self, name: str, timeout_s: float = 30) -> dict[str, Any]:
        """The newest of this name; waited for."""
        deadline = time.monotonic() + timeout_s
        while not (found := self.events(name)):
            assert time.monotonic() < deadline and self.process.poll() is None, (name, self.lines)
            time.sleep(0.05)
        return found[-1]

    def get(self, path: str) -> bytes:
        """What the HTTP side answers."""
        with urllib.request.urlopen(self.event("listening")["url"] + path, timeout=10) as answer:
            return bytes(answer.read())

    def status(self) -> Status:
        self._family |= descendants(self.process.pid)
        found: Status = json.loads(self.get("api/status"))
        found["by_name"] = {camera["name"]: camera for camera in found["cameras"]}
        return found

    def until(self, condition: Callable[[Status], Any], timeout_s: float = START_S) -> Status:
        """The first status that fulfils it."""
        deadline = time.monotonic() + timeout_s
        while not condition(status := self.status()):
            assert time.monotonic() < deadline, (status, self.lines[-20:])
            assert self.process.poll() is None, self.lines
            time.sleep(0.1)
        return status

    def streaming(self, *names: str, timeout_s: float = START_S) -> Status:
        """All of these cameras send pictures, and the model process is there."""
        return self.until(
            lambda now: (
                now["model"]["state"] == "ready"
                and all(
                    now["by_name"].get(name, {}).get("state") == "streaming"
                    and now["by_name"][name]["frames_out"]
                    for name in names
                )
            ),
            timeout_s,
        )

    def send(self, signum: int) -> None:
        self.process.send_signal(signum)

    def stop(self) -> int:
        """SIGTERM; the exit status. Nothing temporary is left."""
        self._family |= descendants(self.process.pid)
        self.send(signal.SIGTERM)
        status = self.process.wait(60)
        assert list(self.temporary.iterdir()) == []
        return status

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))


def camera(name: str, url: object, **keys: object) -> str:
    """A [[camera]] table. Values as in TOML but for strings and paths, which are quoted."""
    lines = ["[[camera]]", f"name = {json.dumps(name)}", f"url = {json.dumps(str(url))}"]
    lines += [f"{key} = {_toml(value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value)
