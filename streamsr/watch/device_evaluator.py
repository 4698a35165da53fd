"""The thread of the model process on which faces are evaluated, batch after batch."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from ..clock import NS_PER_MS
from ..model.crop import Crop
from ..model.restorer import Restorer
from .device_connection import Connection, Request
from .device_costs import Costs
from .device_queue import DeviceQueue, Job, Kind
from .device_wire import Guide, ReadingMessage, Restore

__all__ = ["Evaluator"]

_TRIALS = 3  # of each size, before the first camera comes
_TRIAL_FACES = 8  # on a GPU, besides one: there a face more costs little
_TIDY_S = 1.0  # between two looks for pasts that are too old


class Evaluator:
    """One lock guards the queue and the connections' requests; it is never held while the device works.

    on_failure: called on the thread with what ended it; nothing more is evaluated then.
    """

    def __init__(
        self, restorer: Restorer, fidelities: Sequence[float], on_failure: Callable[[BaseException], object]
    ) -> None:
        """Takes seconds: it makes ``fidelities`` ready, and learns what each size costs."""
        self.restorer, self._on_failure = restorer, on_failure
        self._queue = DeviceQueue(Costs())
        self._changed = threading.Condition()
        self._closing = False
        self._connections: list[Connection] = []
        self._batches: Counter[int] = Counter()
        self._restored = self._refused = 0
        self._busy_ns = 0
        self._began_ns: int | None = None  # of the evaluation under way
        self._levels: set[float] = set()  # that are ready
        self._preparing: set[float] = set()
        self._thread = threading.Thread(target=self._run, name="evaluator")
        for fidelity in fidelities:
            restorer.prepare(fidelity)
            self._levels.add(restorer.level(fidelity))
        counts = (1,) if restorer.device_type == "cpu" else (1, _TRIAL_FACES)
        for size in restorer.sizes:
            for faces in counts:
                for trial in range(1 + _TRIALS):
                    self._try_out([_blank(size)] * faces, fidelities[0], learn=trial > 0)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Ends after the evaluation under way, and gives the model back. May be called twice."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()
        self.restorer.close()

    def join(self, connection: Connection) -> None:
        with self._changed:
            self._queue.join(connection.camera)
            self._connections.append(connection)

    def leave(self, connection: Connection) -> None:
        """A camera that has joined is gone, and what it asked for and left here with it."""
        with self._changed:
            self._queue.leave(connection.camera)
            self._connections.remove(connection)
            connection.close()

    def prepare(self, fidelity: float) -> None:
        """In the background."""
        level = self.restorer.level(fidelity)
        with self._changed:
            if level in self._levels | self._preparing:
                return
            self._preparing.add(level)
        threading.Thread(target=self._prepare, args=(level,), name="prepare", daemon=True).start()

    def ask(self, connection: Connection, message: Guide | Restore) -> None:
        now_ns = time.monotonic_ns()
        request = Request(connection, message, now_ns)
        kind = Kind("guide", message.size)
        with self._changed:
            connection.requests[message.slot] = request
            if isinstance(message, Restore):
                level = self.restorer.level(message.fidelity)
                if level not in self._levels:
                    self._refuse(request)
                    return
                kind = Kind("restore", message.size, message.steps, level, message.seed)
            job = Job(connection.camera, kind, len(message.faces), message.deadline_ns, request)
            for late in self._queue.add(job, now_ns):
                self._refuse(late.request)
            self._changed.notify()

    def statistics(self) -> tuple[Counter[int], int, int, int]:
        """Batches by number of faces, faces restored, requests refused, faces that wait."""
        with self._changed:
            return Counter(self._batches), self._restored, self._refused, self._queue.faces

    def busy_ns(self, now_ns: int) -> int:
        """Time in which the device worked, since the start."""
        return self._busy_ns + self.under_way_ns(now_ns)

    def under_way_ns(self, now_ns: int) -> int:
        """How long the evaluation under way has lasted; 0 if there is none."""
        began_ns = self._began_ns
        return 0 if began_ns is None else now_ns - began_ns

    # -- on the thread ----------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while (batch := self._next()) is not None:
                self._evaluate(batch)
                del batch  # it holds its cameras' memory, and the next one may be long in coming
        except BaseException as error:  # whatever it was: a process that cannot evaluate has to end
            self._on_failure(error)

    def _next(self) -> list[tuple[Job, int]] | None:
        with self._changed:
            while not self._closing:
                if batch := self._take(time.monotonic_ns()):
                    return batch
                self._changed.wait(_TIDY_S)  # with no local name for anything of a camera's
            return None

    def _take(self, now_ns: int) -> list[tuple[Job, int]]:
        batch, late = self._queue.take(now_ns)
        for job in late:
            self._refuse(job.request)
        if batch:
            self._began_ns = now_ns
        else:
            for connection in self._connections:
                connection.pasts.forget(now_ns)
        return batch

    def _evaluate(self, batch: list[tuple[Job, int]]) -> None:
        began_ns, kind = time.monotonic_ns(), batch[0][0].kind
        faces: list[tuple[Request, int]] = [(job.request, face) for job, face in batch]
        crops = [request.crop(face) for request, face in faces]
        if kind.task == "guide":
            for (request, face), reading in zip(faces, self.restorer.guide(crops), strict=True):
                try:
                    request.readings[face] = ReadingMessage.of(reading)
                except ValueError:  # no number comes of what it gave: that was no picture of a face
                    request.connection.broken = True
        else:
            self._restore(kind, faces, crops)
        ended_ns = time.monotonic_ns()
        with self._changed:
            took_ns = ended_ns - began_ns
            self._queue.costs.learn(kind.task, kind.size, len(batch), took_ns / kind.steps / NS_PER_MS)
            self._queue.done(ended_ns)
            self._busy_ns, self._began_ns = self._busy_ns + took_ns, None
            if kind.task == "restore":
                self._batches[len(batch)] += 1
                self._restored += len(batch)
            for request in {id(request): request for request, _ in faces}.values():
                request.worked_ns += took_ns
                request.done += sum(one is request for one, _ in faces)
                finished = request.done == len(request.message.faces)
                if request.open and finished and not request.connection.broken:
                    request.answer(ended_ns)

    def _restore(self, kind: Kind, faces: list[tuple[Request, int]], crops: list[Crop]) -> None:
        traces = self.restorer.restore(
            crops,
            [request.told(face).reading.reading() for request, face in faces],
            [request.past(face) for request, face in faces],
            steps=kind.steps,
            seed=kind.seed,
            fidelity=kind.level,
        )
        now_ns = time.monotonic_ns()
        with self._changed:  # no slot is given to another request meanwhile
            for (request, face), trace in zip(faces, traces, strict=True):
                if request.open:
                    request.keep(face, trace, now_ns)

    def _refuse(self, request: Request) -> None:
        self._refused += 1
        request.refuse()

    def _prepare(self, level: float) -> None:
        try:
            self.restorer.prepare_aside(level)
        except BaseException as error:  # as in ``_run``
            self._on_failure(error)
            return
        with self._changed:
            self._levels.add(level)
            self._preparing.discard(level)

    def _try_out(self, crops: list[Crop], fidelity: float, learn: bool) -> None:
        costs, size, faces = self._queue.costs, crops[0].size, len(crops)
        began_ns = time.monotonic_ns()
        readings = self.restorer.guide(crops)
        read_ns = time.monotonic_ns()
        traces = self.restorer.restore(crops, readings, fidelity=fidelity)
        restored_ns = time.monotonic_ns()
        self.restorer.restore(crops, readings, traces, fidelity=fidelity)
        if learn:
            costs.learn("guide", size, faces, (read_ns - began_ns) / NS_PER_MS)
            costs.learn("restore", size, faces, (time.monotonic_ns() - restored_ns) / NS_PER_MS)


def _blank(size: int) -> Crop:
    x_in, y = (np.zeros((side, side, 3), np.uint8) for side in (size, size // 4))
    return Crop(x_in, y, np.eye(2, 3) / 2, np.zeros((96, 96), np.float32))
