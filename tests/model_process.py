"""A real model process for tests, with the link its supervisor would hold."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from helpers import wait_until

from streamsr.interpreter import command, environment
from streamsr.model.crop import Crop
from streamsr.watch.device_job import DeviceJob, DeviceReport


class ModelProcess:
    """reports: the newest is last. idle_files: open without a camera. ``close`` ends it, however it fares."""

    def __init__(self, path: Path, weights: Path | None = None, **job: Any) -> None:
        self.path = path
        self.reports: list[DeviceReport] = []
        self.idle_files = 0
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                command("watch.device", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                env=environment(),
                stderr=subprocess.PIPE,
                start_new_session=True,
                text=True,
            )
        self._link = ours
        given = {"device": "cpu", "threads": 1, "fidelities": (1.0,), **job}
        told = DeviceJob(socket=str(path), weights=None if weights is None else str(weights), **given)
        ours.sendall(told.model_dump_json().encode() + b"\n")
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=run) for run in (self._read, self._read_errors)]
        for thread in self._threads:
            thread.start()

    @property
    def last(self) -> DeviceReport:
        return self.reports[-1]

    def ready(self, timeout_s: float = 60) -> ModelProcess:
        wait_until(
            lambda: self.process.poll() is not None or any(r.state == "ready" for r in self.reports),
            timeout_s,
        )
        assert self.process.poll() is None, self.errors
        self.idle_files = self.open_files()
        return self

    def next_report(self) -> DeviceReport:
        """One that was not made yet."""
        seen = len(self.reports)
        wait_until(lambda: len(self.reports) > seen, 5)
        return self.last

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self, timeout_s: float = 10) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def let_go(self) -> None:
        """As if the supervisor were gone."""
        self._link.shutdown(socket.SHUT_RDWR)

    def open_files(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def is_idle(self, cameras: int = 0) -> bool:
        """Nothing is left of any camera but those ``cameras``."""
        return self.open_files() == self.idle_files + 2 * cameras and self.memory_files() == cameras

    def memory_files(self) -> int:
        """Mappings of cameras' memory."""
        maps = Path(f"/proc/{self.process.pid}/maps").read_text()
        return maps.count("/memfd:streamsr-")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._link.close()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> ModelProcess:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _read(self) -> None:
        with self._link.makefile("r") as lines:
            try:
                for line in lines:
                    message = json.loads(line)
                    assert message.pop("kind") == "status"
                    self.reports.append(DeviceReport.model_validate(message))
            except OSError:
                return

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stream:
            self.errors += list(stream)


def soon(seconds: float) -> int:
    """A deadline: CLOCK_MONOTONIC, ns."""
    return time.monotonic_ns() + round(seconds * 1e9)


def tiny_weights(folder: Path) -> Path:
    """Small, random and quick, with all that weights may have: a cache and levels of fidelity."""
    import torch

    from streamsr.model.guide import Guide
    from streamsr.model.network import PRESETS, Network
    from streamsr.model.weights import Description, save_weights

    torch.manual_seed(5)
    network, perceptual, guide = Network(PRESETS["tiny"]), Network(PRESETS["tiny"]), Guide()
    with torch.no_grad():
        for parameter in (*network.parameters(), *guide.parameters()):
            if not parameter.any():
                parameter.normal_(0, 0.03)
        perceptual.load_state_dict(network.state_dict())
        for parameter in perceptual.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    path = folder / "tiny.safetensors"
    save_weights(path, network, guide, Description("tiny", "c+e", True), perceptual)
    return path


def random_crop(size: int, seed: int = 0) -> Crop:
    rng = np.random.default_rng(seed)
    x_in, y = (rng.integers(0, 256, (side, side, 3), np.uint8) for side in (size, size // 4))
    return Crop(x_in, y, np.eye(2, 3) / 2, rng.uniform(0, 255, (96, 88)).astype(np.float32))
