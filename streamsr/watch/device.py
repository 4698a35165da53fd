"""The model process: ``python -m streamsr.watch.device FD``, started by the supervisor; ended by SIGTERM.

FD is its end of a ``link``, where it reads its ``DeviceJob`` and writes a ``DeviceReport`` a second. It
serves every camera that connects to its socket (see ``device_wire``) and has no state worth saving: when it
dies, another one is started. Exit status 0 when it was told to end, 2 when it could not start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..clock import NS_PER_S
from ..collector import spare_what_is_loaded
from ..errors import StreamSRError
from ..interpreter import dies_with_parent
from ..machine import resident_mb, usable_cpus, used_cpu_s
from .device_connection import Connection, ProtocolError
from .device_job import DeviceJob, DeviceReport
from .device_wire import Guide, Hello, Prepare, Restore, Welcome
from .link import Link
from .logs import logging_to

if TYPE_CHECKING:
    from .device_evaluator import Evaluator

__all__ = ["main"]

MAX_CONNECTIONS = 300  # two files each
HELLO_S = 5.0  # a connection that has not said by then who it is, ends
STUCK_S = 60.0  # for an evaluation: the process kills itself, and is started again
REPORT_S = 1.0
BUSY_REPORTS = 5  # over which busy_share is taken

_log = logging.getLogger(__name__)


class Server:
    """On the loop's thread: connections in, messages to the evaluator, a report a second."""

    def __init__(self, job: DeviceJob, link: Link) -> None:
        self._job, self._link = job, link
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._connections: set[Connection] = set()
        self._evaluator: Evaluator | None = None  # until the model is loaded
        self._busy: deque[tuple[int, int]] = deque(maxlen=BUSY_REPORTS + 1)  # (time, busy until then), ns

    async def run(self) -> None:
        """Until ``end``. Raises what it was given, and StreamSRError, OSError where it cannot start."""
        reporting = asyncio.create_task(self._look_after())
        loading = asyncio.create_task(asyncio.to_thread(self._load))
        try:
            either: list[asyncio.Future[Any]] = [loading, self._ended]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not loading.done():
                os._exit(0)  # there is nothing yet to put in order, and no way to interrupt it
            self._evaluator = loading.result()
            await self._serve(self._evaluator)
        except (StreamSRError, OSError) as error:
            self._tell(DeviceReport(state="stopped", error=str(error)))
            raise
        finally:
            reporting.cancel()
        self._tell(DeviceReport(state="stopped"))

    def end(self, error: BaseException | None = None) -> None:
        if self._ended.done():
            return
        if error is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(error)

    def _load(self) -> Evaluator:
        from ..model.restorer import Restorer  # torch loads here
        from .device_evaluator import Evaluator

        job = self._job
        weights = None if job.weights is None else Path(job.weights)
        threads = job.threads or max(1, usable_cpus() // 2)
        restorer = Restorer.load(weights, device=job.device, engine=job.engine, threads=threads)
        spare_what_is_loaded()
        try:
            return Evaluator(
                restorer, job.fidelities, lambda error: self._loop.call_soon_threadsafe(self.end, error)
            )
        except BaseException:  # whatever it was, no thread stays behind
            restorer.close()
            raise

    async def _serve(self, evaluator: Evaluator) -> None:
        path = Path(self._job.socket)
        evaluator.start()
        try:
            with _listening(path) as listener:
                self._loop.add_reader(listener, self._accept, listener)
                await asyncio.wait([self._ended])
                self._loop.remove_reader(listener)
            self._ended.result()
        finally:
            for connection in list(self._connections):
                self._close(connection, evaluator)
            evaluator.close()

    def _accept(self, listener: socket.socket) -> None:
        assert self._evaluator is not None
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):
            sock, _ = listener.accept()
            if len(self._connections) >= MAX_CONNECTIONS:
                sock.close()
                return
            connection = Connection(sock, time.monotonic_ns())
            self._connections.add(connection)
            self._loop.add_reader(sock, self._receive, connection, self._evaluator)

    def _receive(self, connection: Connection, evaluator: Evaluator) -> None:
        restorer = evaluator.restorer
        try:
            message = connection.receive(restorer.sizes)
        except BlockingIOError:
            return
        except ProtocolError as error:
            _log.warning("camera %s: %s", connection.name, error)
            message = None
        if message is None:
            self._close(connection, evaluator)
        elif isinstance(message, Hello):
            evaluator.join(connection)
            connection.send(
                Welcome(
                    device=restorer.device_type,
                    sizes=restorer.sizes,
                    recurrent=restorer.description.recurrent,
                    model_sha256=restorer.sha256,
                )
            )
        elif isinstance(message, Prepare):
            evaluator.prepare(message.fidelity)
        else:
            assert isinstance(message, Guide | Restore)
            evaluator.ask(connection, message)

    def _close(self, connection: Connection, evaluator: Evaluator) -> None:
        self._loop.remove_reader(connection.sock)
        self._connections.discard(connection)
        if connection.name is None:
            connection.close()
        else:
            evaluator.leave(connection)

    async def _look_after(self) -> None:
        while True:
            if self._evaluator is None:
                self._tell(DeviceReport(state="starting", rss_mb=resident_mb(), cpu_s=used_cpu_s()))
            else:
                self._look_at(self._evaluator)
            await asyncio.sleep(REPORT_S)

    def _look_at(self, evaluator: Evaluator) -> None:
        now_ns = time.monotonic_ns()
        self._tell(self._report(evaluator, now_ns))
        if evaluator.under_way_ns(now_ns) > STUCK_S * NS_PER_S:
            _log.critical("an evaluation has not ended for %g s", STUCK_S)
            os.abort()  # nothing else ends a thread that is stuck in a library
        for connection in list(self._connections):
            silent = connection.name is None and now_ns - connection.since_ns > HELLO_S * NS_PER_S
            if connection.broken or silent:
                self._close(connection, evaluator)

    def _report(self, evaluator: Evaluator, now_ns: int) -> DeviceReport:
        self._busy.append((now_ns, evaluator.busy_ns(now_ns)))
        (from_ns, busy_from_ns), (to_ns, busy_to_ns) = self._busy[0], self._busy[-1]
        batches, restored, refused, queue = evaluator.statistics()
        return DeviceReport(
            state="ready",
            device=evaluator.restorer.device_type,
            model_sha256=evaluator.restorer.sha256,
            cameras=tuple(sorted(c.name for c in self._connections if c.name is not None)),
            batches=dict(sorted(batches.items())),
            restored=restored,
            refused=refused,
            queue=queue,
            busy_share=min(1.0, (busy_to_ns - busy_from_ns) / max(1, to_ns - from_ns)),
            rss_mb=resident_mb(),
            cpu_s=used_cpu_s(),
        )

    def _tell(self, report: DeviceReport) -> None:
        self._link.send("status", **report.model_dump(mode="json"))


@contextlib.contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        path.unlink(missing_ok=True)  # of a process that was killed
        listener.bind(str(path))
        try:
            path.chmod(0o600)
            listener.listen(MAX_CONNECTIONS)
            listener.setblocking(False)
            yield listener
        finally:
            path.unlink(missing_ok=True)


async def _main(fd: int) -> None:
    link = await Link.inherited(fd)
    try:
        server = Server(DeviceJob.model_validate(await link.job()), link)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.end)
        listening = asyncio.create_task(_until_the_end(link, server))
        try:
            await server.run()
        finally:
            listening.cancel()
    finally:
        await link.close()


async def _until_the_end(link: Link, server: Server) -> None:
    async for _ in link.commands():  # there are none
        pass
    server.end()


def main(arguments: list[str]) -> int:
    dies_with_parent()
    (fd,) = map(int, arguments)
    with logging_to(sys.stderr, "json"):
        try:
            asyncio.run(_main(fd))
        except (StreamSRError, OSError) as error:
            _log.error("the model process cannot run: %s", error)
            return 2
        except EOFError:  # nobody is there to work for
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
