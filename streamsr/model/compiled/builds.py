"""Asking for compiled networks without waiting for them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import signal
import subprocess
import tempfile
import threading
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue

import torch

from ...interpreter import command, environment
from ...machine import cpu_flags
from .. import network, ports
from ..engine import Precision
from ..weights import Weights
from .cache import EngineCache, Kept
from .part import Compiler, Part, Run
from .process import Job

__all__ = ["Builds", "key_of"]

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
ENDED_S = 5.0  # a killed process is gone by then

_log = logging.getLogger(__name__)


def key_of(
    compiler: Compiler, weights: Weights, part: Part, precision: Precision, device: torch.device
) -> dict[str, str | int | float | bool]:
    """All that a compiled network depends on."""
    sources = b"".join(Path(str(module.__file__)).read_bytes() for module in (network, ports))
    if device.type == "cuda":
        gpu = torch.cuda.get_device_properties(device)
        where = {"device": f"{gpu.name}, {gpu.major}.{gpu.minor}", "driver": _driver()}
    else:
        where = {"device": " ".join(sorted(cpu_flags()))}
    return {
        "engine": compiler.name,
        "weights": weights.sha256,
        "recurrent": weights.description.recurrent,
        "network": hashlib.sha256(sources).hexdigest(),
        "precision": precision,
        **part._asdict(),
        **where,
        **compiler.versions(),
    }


def _driver() -> str:
    with contextlib.suppress(OSError):
        return NVIDIA_DRIVER.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    return f"for CUDA {torch.version.cuda}"


class Builds:
    """Of one engine, on a thread of its own, one after another: from the cache, or built in a process that
    gives way to others. name: of the compiler. What cannot be built or does not run is said, once for each
    reason, in the log and in ``warnings``. Asked by one thread."""

    def __init__(
        self,
        compiler: Compiler,
        weights: Weights,
        device: torch.device,
        precision: Precision,
        cache: EngineCache | None = None,
    ) -> None:
        compiler.versions()  # raises where something is missing
        self.name = compiler.name
        self.warnings: list[str] = []
        self._compiler, self._weights, self._device = compiler, weights, device
        self._precision: Precision = precision
        self._cache = EngineCache() if cache is None else cache
        self._runs: dict[Part, Run | None] = {}  # None: asked for, or refused
        self._queue: SimpleQueue[Part | None] = SimpleQueue()  # a part comes once
        self._lock = threading.Lock()  # guards the process
        self._process: subprocess.Popen[str] | None = None
        self._reasons: set[str] = set()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="streamsr-builds", daemon=True)

    def ask(self, part: Part) -> Run | None:
        """The network, once it is there; asked for the first time, it is begun."""
        if part not in self._runs:
            if not self._runs:
                self._thread.start()
            self._runs[part] = None
            self._queue.put(part)
        return self._runs[part]

    def refuse(self, part: Part, error: BaseException) -> None:
        """Not that one any more."""
        self._runs[part] = None
        self._warn(part, error)

    def close(self) -> None:
        """End a build that runs. May be called twice."""
        with self._lock:
            self._closed = True
            process = self._process
        if process is not None:
            _end(process)
        self._queue.put(None)
        if self._runs:
            self._thread.join(ENDED_S)

    def _serve(self) -> None:
        while not self._closed and (part := self._queue.get()) is not None:
            try:
                self._runs[part] = self._loaded(part)
            except Exception as error:  # the boundary of the thread: whatever a compiler raises
                if not self._closed:
                    self._warn(part, error)

    def _loaded(self, part: Part) -> Run:
        key = key_of(self._compiler, self._weights, part, self._precision, self._device)
        kept = self._cache.find(key)
        if kept is not None:
            try:
                return self._run_of(kept, part, "kept from before")
            except Exception as error:  # whatever the library raises: it is to be built again
                self._cache.remove(kept, error)
        self._build(part, key)
        kept = self._cache.find(key)
        if kept is None:
            raise OSError("what was built is not in the cache")
        return self._run_of(kept, part, f"built in {kept.build_s:.0f} s")

    def _run_of(self, kept: Kept, part: Part, whence: str) -> Run:
        run = self._compiler.load(kept.path, self._device)
        said = f" ({kept.said})" if kept.said else ""
        _log.info("engine %s takes over %s, %s%s", self.name, part, whence, said)
        return run

    def _build(self, part: Part, key: dict[str, str | int | float | bool]) -> None:
        job = Job(
            engine=self.name,
            weights=str(self._weights.path.absolute()),
            device=str(self._device),
            precision=self._precision,
            part=part,
            key=key,
            cache=str(self._cache.folder.absolute()),
            limit_bytes=self._cache.limit_bytes,
        )
        with self._cache.begun() as work, tempfile.TemporaryFile() as says:
            process = subprocess.Popen(
                command("model.compiled.process"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=says,
                # compilers leave their own caches there
                env={**environment(), "TMPDIR": str(work), "TORCHINDUCTOR_CACHE_DIR": str(work)},
                process_group=0,  # so that what it starts ends with it; a session would not give way
                text=True,
            )
            with self._lock:
                self._process = process
                if self._closed:
                    _end(process)
            answer, _ = process.communicate(json.dumps(asdict(job)) + "\n")
            with self._lock:
                self._process = None
            if not answer:
                says.seek(0)
                lines = says.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
                raise RuntimeError(f"the build ended with status {process.returncode}: {lines[-1]}")
        if failed := json.loads(answer)["failed"]:
            raise RuntimeError(failed)

    def _warn(self, part: Part, error: BaseException) -> None:
        """Once for each reason."""
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if reason in self._reasons:
            return
        self._reasons.add(reason)
        line = f"engine {self.name} gave way to eager for {part}: {reason}"
        _log.warning("%s", line)
        self.warnings.append(line)


def _end(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
