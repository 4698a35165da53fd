"""One camera's process: ``python -m streamsr.watch.camera FD``.

FD is its line to the supervisor, see ``link``. In: a ``CameraJob``, then {"snapshots_s": 5.0} whenever
somebody looks. Out: "status" once a second and "snapshots". SIGTERM: finish the outputs and end. Exit status
0: stopped as it was told, or at the end of a file; 1: it cannot go on, and the last status says why.

Neither torch nor openvino is loaded here: the network is in the model process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING

from ..clock import MONOTONIC
from ..errors import SourceError, StreamSRError, redact
from ..interpreter import dies_with_parent
from ..loop import run
from ..machine import give_way_as_group
from .camera_job import CameraJob
from .camera_status import StatusOfCamera
from .link import Link
from .logs import event, logging_to

if TYPE_CHECKING:
    from .camera_parts import CameraParts
    from .status import CameraState, CameraStatus

__all__ = ["main"]

STATUS_S = 1.0
STUCK_S = 15.0  # pictures come, and none has gone out for so long

_log = logging.getLogger("streamsr.watch.camera")


class StuckError(StreamSRError):
    """A stage of this process does not come back."""


class Camera:
    """The stream of ``job``, and what it tells the supervisor."""

    def __init__(self, job: CameraJob, link: Link) -> None:
        self._job, self._link = job, link
        self._status = StatusOfCamera(job.camera, MONOTONIC)
        self._stopping = False
        self._parts: CameraParts | None = None  # once they are loaded
        self._out_at, self._out = asyncio.get_running_loop().time(), 0

    async def run(self) -> None:
        """Until it is told to stop or the file ends. Raises what ended the stream."""
        telling = asyncio.create_task(self._tell())
        obeying = asyncio.create_task(self._obey())
        streaming = asyncio.create_task(self._stream())
        error: str | None = None
        try:
            await asyncio.wait({telling, streaming}, return_when=asyncio.FIRST_COMPLETED)
            await (telling if telling.done() else streaming)  # telling ends with an error only
        except Exception as failure:
            error = redact(str(failure)) or type(failure).__name__
            raise
        finally:
            for task in (telling, obeying, streaming):
                task.cancel()
            self._send_status(ended="failed" if error else "stopped", error=error)

    def stop(self) -> None:
        """Let what has been read go through, finish the outputs, end. May be called twice."""
        self._stopping = True
        if self._parts is not None:
            self._parts.pipeline.stop()
            self._parts.source.interrupt()  # also while it is opened, of which the pipeline does not know yet

    async def _stream(self) -> None:
        self._parts = parts = await asyncio.to_thread(self._load)
        if self._stopping:
            self.stop()
        try:
            async with parts.pipeline as pipeline:
                await pipeline.run()
        except SourceError:
            if not self._stopping:  # else it was called off
                raise
        finally:
            await asyncio.to_thread(parts.close)

    def _load(self) -> CameraParts:
        """Not on the loop, which says meanwhile that this process lives."""
        from .camera_parts import CameraParts

        return CameraParts(self._job, MONOTONIC)

    async def _tell(self) -> None:
        """Raises StuckError."""
        while True:
            self._check_progress(self._send_status())
            if self._parts is not None:
                pair = await asyncio.to_thread(self._parts.snapshots.take)
                if pair is not None:
                    self._link.send("snapshots", **pair)
            await asyncio.sleep(STATUS_S)

    async def _obey(self) -> None:
        async for command in self._link.commands():
            if self._parts is not None:
                self._parts.snapshots.want(command["snapshots_s"])
        self.stop()  # the supervisor is gone

    def _send_status(self, ended: CameraState | None = None, error: str | None = None) -> CameraStatus:
        parts = self._parts
        status = self._status.now(
            parts.source if parts is not None else None,
            parts.pipeline.report() if parts is not None else None,
            parts.sinks() if parts is not None else (),
            ended=ended,
            error=error,
        )
        self._link.send("status", status=status.model_dump(mode="json"))
        return status

    def _check_progress(self, status: CameraStatus) -> None:
        now = asyncio.get_running_loop().time()
        if status.state != "streaming" or status.frames_out != self._out:
            self._out_at, self._out = now, status.frames_out
        elif now - self._out_at > STUCK_S:
            raise StuckError(f"pictures come, and none has gone out for {STUCK_S:g} s")


async def _serve(fd: int) -> int:
    link = await Link.inherited(fd)
    job = CameraJob.model_validate(await link.job())
    camera = Camera(job, link)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, camera.stop)
    try:
        await camera.run()
    except StreamSRError as error:
        event(_log, logging.ERROR, "camera_failed", str(error), camera=job.camera.name)
        return 1
    finally:
        await link.close()
    return 0


def main() -> int:
    dies_with_parent()
    give_way_as_group()  # to the model process, which all cameras wait for
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor's to handle
    with logging_to(sys.stderr, "json"):
        return run(_serve(int(sys.argv[1])))


if __name__ == "__main__":
    os._exit(main())  # at once: threads may be stuck in libraries, whose own endings may crash
