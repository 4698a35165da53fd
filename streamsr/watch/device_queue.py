"""Whose faces the device takes next, and what it refuses: priority first, then the earliest deadline.

What is asked for is admitted if it can be done by its deadline after all that stands before it, as far as
costs are known, and refused at once otherwise. Where cameras of one priority want more than there is, those
whose turn is later give way (after Moore and Hodgson: in order of deadlines, whenever one would be missed,
one before it is dropped): some cameras stay whole instead of all getting half. Turns change every TERM_S.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

from ..clock import NS_PER_MS, NS_PER_S
from .device_costs import Costs

__all__ = ["HEADROOM", "MOST_MS", "TERM_S", "Camera", "DeviceQueue", "Job", "Kind"]

TERM_S = 20.0  # for so long a camera that is whole stays so while others are not
MOST_MS = 20.0  # that one evaluation takes, if one face's does not take longer; so long the highest wait
MOST_FACES = 16  # in one evaluation
HEADROOM = 1.15  # times the wait it is believed to have must fit what is admitted: little is late after all
_WHOLE = 0.5  # a camera that was crowded out of more than this part of its requests is owed a turn
_NEVER = 2**63


@dataclass(frozen=True, slots=True)
class Kind:
    """Faces of one kind can be evaluated together. size: S. level: of fidelity."""

    task: Literal["guide", "restore"]
    size: int
    steps: int = 1
    level: float = 1.0
    seed: int = 0


@dataclass(eq=False, slots=True)
class Camera:
    """priority: 0 is the highest. turn: among those of one priority the smallest is served first."""

    priority: int
    turn: int = 0
    asked: int = 0  # in this term
    crowded_out: int = 0  # of those: refused, though it could have been done alone


@dataclass(eq=False, slots=True)
class Job:
    """What a camera asks for the faces of a frame. deadline_ns: None where there is no hurry.

    begun: faces that were given out by ``DeviceQueue.take``. request: the caller's own.
    """

    camera: Camera
    kind: Kind
    faces: int
    deadline_ns: int | None
    request: Any = None
    begun: int = field(default=0, init=False)

    @property
    def left(self) -> int:
        return self.faces - self.begun

    @property
    def due_ns(self) -> int:
        return _NEVER if self.deadline_ns is None else self.deadline_ns


class DeviceQueue:
    """Not for several threads at once: its owner locks it. now_ns: of one monotonic clock, in every call."""

    def __init__(self, costs: Costs) -> None:
        self.costs = costs
        self._jobs: list[Job] = []
        self._cameras: list[Camera] = []
        self._turns = 0
        self._term_ends_ns: int | None = None
        self._free_ns = 0  # when the evaluation under way is believed to end
        self._most: dict[Kind, int] = {}  # faces of an evaluation, as costs are now

    @property
    def faces(self) -> int:
        """That wait."""
        return sum(job.left for job in self._jobs)

    def join(self, camera: Camera) -> None:
        camera.turn = self._turns
        self._turns += 1
        self._cameras.append(camera)

    def leave(self, camera: Camera) -> None:
        """What it asked for is dropped without a word."""
        self._cameras.remove(camera)
        self._jobs = [job for job in self._jobs if job.camera is not camera]

    def add(self, job: Job, now_ns: int) -> list[Job]:
        """What cannot be done by its deadline any more: ``job`` itself, or others that stand behind it."""
        job.camera.asked += 1
        self._jobs.append(job)
        return self._refuse_late(now_ns, HEADROOM)

    def take(self, now_ns: int) -> tuple[list[tuple[Job, int]], list[Job]]:
        """The next evaluation, as (job, index of its face), and what is refused as in ``add``.

        The caller evaluates it at once, and then tells ``costs`` what it took, and calls ``done``.
        """
        self._free_ns = now_ns
        refused = self._refuse_late(now_ns, 1.0)
        batch = self._next_batch(now_ns)
        if batch:
            kind = batch[0][0].kind
            self._free_ns = now_ns + self._cost_ns(kind, len(batch))
        self._jobs = [job for job in self._jobs if job.left]
        return batch, refused

    def done(self, now_ns: int) -> None:
        """The evaluation that ``take`` gave has ended."""
        self._free_ns = now_ns
        self._most.clear()

    # -- order ------------------------------------------------------------------------------------------

    def _refuse_late(self, now_ns: int, headroom: float) -> list[Job]:
        self._change_turns(now_ns)
        start_ns = max(now_ns, self._free_ns)
        self._jobs.sort(key=lambda job: (job.camera.priority, job.due_ns))  # else as they came
        refused: list[Job] = []
        ahead: dict[Kind, int] = defaultdict(int)
        for _, of_one_priority in groupby(list(self._jobs), lambda job: job.camera.priority):
            kept: list[Job] = []
            for job in of_one_priority:
                kept.append(job)
                ahead[job.kind] += job.left
                while job in kept and start_ns + headroom * self._all_ns(ahead) > job.due_ns:
                    last = self._gives_way(kept, job)
                    kept.remove(last)
                    ahead[last.kind] -= last.left
                    refused.append(last)
        self._jobs = [job for job in self._jobs if job not in refused]
        for job in refused:
            alone_ns = headroom * self._cost_ns(job.kind, job.left)
            if start_ns + alone_ns <= job.due_ns:
                job.camera.crowded_out += 1
            elif now_ns < job.due_ns < now_ns + alone_ns:
                self.costs.doubt(job.kind.task, job.kind.size)  # nothing but its cost stands against it
        return refused

    @staticmethod
    def _gives_way(kept: list[Job], late: Job) -> Job:
        """The last job of the latest turn that has not begun; ``late`` itself if all others have."""
        can = [job for job in reversed(kept) if not job.begun or job is late]
        return max(can, key=lambda job: job.camera.turn)

    def _next_batch(self, now_ns: int) -> list[tuple[Job, int]]:
        """The first job's faces, and as many of others alike as delay nobody before them too much."""
        if not self._jobs:
            return []
        kind = self._jobs[0].kind
        most = self._most_faces(kind)
        batch: list[tuple[Job, int]] = []
        slack_ns = _NEVER
        ahead: dict[Kind, int] = defaultdict(int)
        for job in self._jobs:
            ahead[job.kind] += job.left
            if job.kind != kind:
                slack_ns = min(slack_ns, job.due_ns - now_ns - self._all_ns(ahead))
                continue
            while job.left and len(batch) < most:
                more_ns = self._cost_ns(kind, len(batch) + 1) - self._cost_ns(kind, len(batch))
                if batch and slack_ns < more_ns:
                    return batch
                slack_ns -= more_ns if job is not self._jobs[0] else 0
                batch.append((job, job.begun))
                job.begun += 1
        return batch

    def _most_faces(self, kind: Kind) -> int:
        if kind not in self._most:
            sizes = range(MOST_FACES, 1, -1)
            fitting = (n for n in sizes if self._cost_ns(kind, n) <= MOST_MS * NS_PER_MS)
            self._most[kind] = next(fitting, 1)
        return self._most[kind]

    def _all_ns(self, faces_of: dict[Kind, int]) -> int:
        """Of evaluations one after another, each as large as may be."""
        total = 0
        for kind, faces in faces_of.items():
            most = self._most_faces(kind)
            whole, rest = divmod(faces, most)
            total += whole * self._cost_ns(kind, most) + self._cost_ns(kind, rest)
        return total

    def _cost_ns(self, kind: Kind, faces: int) -> int:
        return round(kind.steps * self.costs.of(kind.task, kind.size, faces) * NS_PER_MS)

    # -- turns ------------------------------------------------------------------------------------------

    def _change_turns(self, now_ns: int) -> None:
        """Where a camera was crowded out for a term, the first of its priority becomes the last."""
        if self._term_ends_ns is None:
            self._term_ends_ns = now_ns + round(TERM_S * NS_PER_S)
        if now_ns < self._term_ends_ns:
            return
        self._term_ends_ns = None
        by_priority: dict[int, list[Camera]] = defaultdict(list)
        for camera in self._cameras:
            by_priority[camera.priority].append(camera)
        for cameras in by_priority.values():
            if any(camera.crowded_out > _WHOLE * camera.asked for camera in cameras):
                self._send_back(cameras)
        for camera in self._cameras:
            camera.asked = camera.crowded_out = 0

    def _send_back(self, cameras: Iterable[Camera]) -> None:
        """Who asked for nothing, keeps its turn: it took nothing from the others."""
        asking = [camera for camera in cameras if camera.asked]
        first = min(asking, key=lambda camera: camera.turn)
        first.turn = self._turns
        self._turns += 1
