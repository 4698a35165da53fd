"""What it costs a face to be restored in the model process of ``streamsr watch`` instead of the caller's own.

    streamsr bench remote [--repeats 60] [--threads 2]

One camera, one face, guide and network each, asked in turn of a ``Restorer`` in this process and of a
``RemoteRestorer`` whose model process runs beside it with as many threads: pictures through shared memory,
two messages each way. ms: medians; ratio: remote over here, median of neighbours; least_more_ms: the
difference of the shortest, which other work on the machine disturbs least.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .command import add_device, answer, parser

__all__ = ["main", "run"]

COLUMNS = ("size", "n", "here_ms", "remote_ms", "ratio", "least_more_ms")
START_S = 120.0


@contextlib.contextmanager
def _model_process(path: Path, device: str, threads: int) -> Iterator[None]:
    from streamsr.interpreter import command, environment
    from streamsr.watch.device_job import DeviceJob

    ours, theirs = socket.socketpair()
    job = DeviceJob(socket=str(path), device=device, threads=threads, fidelities=(0.4,))
    with ours, theirs:
        process = subprocess.Popen(
            command("watch.device", str(theirs.fileno())), pass_fds=[theirs.fileno()], env=environment()
        )
        try:
            ours.sendall(job.model_dump_json().encode() + b"\n")
            yield
        finally:
            process.terminate()
            process.wait()


def run(
    repeats: int = 60, threads: int = 2, device: str = "auto"
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns what all rows share, and the rows. Raises ModelError, DeviceError."""
    from streamsr.errors import DeviceError
    from streamsr.model.crop import Crop
    from streamsr.model.restorer import Restorer
    from streamsr.session import FaceRestorer
    from streamsr.watch.remote_restorer import RemoteRestorer

    def frame(restorer: FaceRestorer, crop: Crop) -> Callable[[], object]:
        """As a session does: each frame builds on the last one."""
        traces = [None]

        def evaluate() -> None:
            readings = restorer.guide([crop])
            traces[:] = restorer.restore([crop], readings, traces, fidelity=0.4)  # type: ignore[assignment]

        return evaluate

    here = Restorer.load(device=device, threads=threads)
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(here):
        path = Path(folder) / "socket"
        with (
            _model_process(path, device, threads),
            contextlib.closing(RemoteRestorer(str(path), name="bench", priority=0)) as remote,
        ):
            if not remote.connect(time.monotonic_ns() + round(START_S * 1e9)):
                raise DeviceError(f"the model process was not ready within {START_S:g} s")
            remote.prepare(0.4)
            rows = []
            for size in here.sizes:
                crop = _crop(size)
                took = _in_turn(frame(here, crop), frame(remote, crop), repeats)
                here_ms, remote_ms = np.median(took, 0)
                rows.append(
                    {
                        "size": size,
                        "n": repeats,
                        "here_ms": float(here_ms),
                        "remote_ms": float(remote_ms),
                        "ratio": float(np.median(took[:, 1] / took[:, 0])),
                        "least_more_ms": float(took[:, 1].min() - took[:, 0].min()),
                    }
                )
        shared = {"device": here.device_type, "threads": threads, "model_sha256": here.sha256}
    return shared, rows


def _in_turn(one: Callable[[], object], other: Callable[[], object], repeats: int) -> np.ndarray:
    """(repeats, 2) ms."""
    took = np.empty((repeats + 5, 2))
    for row in took:
        for column, call in enumerate((one, other)):
            began = time.perf_counter()
            call()
            row[column] = (time.perf_counter() - began) * 1e3
    return took[5:]  # the first ones warm up


def _crop(size: int) -> Any:
    from streamsr.model.crop import Crop

    rng = np.random.default_rng(0)
    x_in, y = (rng.integers(0, 256, (side, side, 3), np.uint8) for side in (size, size // 4))
    return Crop(x_in, y, np.eye(2, 3) / 2, rng.uniform(0, 255, (96, 96)).astype(np.float32))


def main(argv: Sequence[str] | None = None) -> int:
    """See command.answer."""
    words = parser("remote", __doc__)
    words.add_argument("--repeats", type=int, default=60, help="frames of each size")
    words.add_argument("--threads", type=int, default=2, help="of the CPU, for either")
    add_device(words)
    return answer(words, argv, run, COLUMNS)


if __name__ == "__main__":
    sys.exit(main())
