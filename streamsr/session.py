"""One stream through the model: what is asked of it for each face of a frame, and what comes of that."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal, Protocol, TypeVar

from .aligner import AlignedFace, Aligner, Tracked
from .clock import NS_PER_MS, Clock
from .errors import ConfigError
from .face.tracker import Tracker
from .fit import SCALES
from .frame import Frame, StreamInfo
from .ladder import Ladder, Rung
from .memory import FaceMemory
from .model.consistency import gamma
from .model.reading import GuideReading, Trace, step_count
from .pictures import Detail, HostPictures, Pictures
from .report import FaceReport, FrameReport, Outcome
from .session_options import DEFAULT_FIDELITY, check_fidelity, check_steps
from .size_limit import SizeLimit

__all__ = ["DEFAULT_FIDELITY", "FaceRestorer", "Refused", "Restored", "Session"]

ENLARGED_BELOW = 0.9  # of S: camera px of a crop's side
LARGER = 2.0  # what a frame with crops of the next larger S takes, over what it takes now

Image = TypeVar("Image")


class Refused(Exception):
    """This cannot be done by its deadline: the session takes the next rung for the frame."""


class FaceRestorer(Protocol):
    """``model.restorer.Restorer`` as a session sees it, in this process or in another one.

    crops: as the session's pictures cut them. deadline_ns: on the session's clock, None: no hurry; a restorer
    that shares its device may raise Refused.
    """

    @property
    def sizes(self) -> tuple[int, ...]: ...

    @property
    def device_type(self) -> str:
        """ "cpu" or "cuda"."""
        ...

    @property
    def waited_ms(self) -> float:
        """How much of the last call was waiting for other streams; no cost of this one's."""
        ...

    def prepare(self, fidelity: float) -> None: ...

    def guide(self, crops: Sequence[Any], deadline_ns: int | None = None) -> list[GuideReading]: ...

    def restore(
        self,
        crops: Sequence[Any],
        readings: Sequence[GuideReading],
        traces: Sequence[Trace | None] | None = None,
        *,
        steps: int = 1,
        seed: int = 0,
        fidelity: float = 1.0,
        deadline_ns: int | None = None,
    ) -> list[Trace]: ...


class Session:
    """One stream. ``track``, ``restore`` and ``composite`` belong to one thread each, which may differ.

    On the thread of ``restore``, ``fidelity`` and ``steps`` may be set between two frames, and ``enabled``:
    False lets the upscaled original through, and the reports of those frames name no face. ``yuv420p``, set
    before the first frame: see ``stages.Session``.
    """

    def __init__(
        self,
        restorer: FaceRestorer,
        *,
        scale: int,
        fidelity: float,
        steps: int | Literal["auto"],
        seed: int,
        tracker: Tracker,
        clock: Clock,
        pictures: Pictures | None = None,
    ) -> None:
        """pictures: at ``scale``, of the restorer's kind of crops; by default ``HostPictures``."""
        if scale not in SCALES:
            raise ConfigError(f"scale must be one of {SCALES}, got {scale}")
        check_fidelity(fidelity)
        check_steps(steps)
        self._restorer, self._clock = restorer, clock
        self.scale, self.fidelity, self.steps, self.seed = scale, fidelity, steps, seed
        self.enabled = True
        self.yuv420p: StreamInfo | None = None
        restorer.prepare(fidelity)
        self._pictures: Pictures = HostPictures(scale) if pictures is None else pictures
        self._aligner = Aligner(tracker, self._pictures, scale, restorer.sizes)
        self._scene = 0
        self._memories: dict[int, FaceMemory] = {}
        self._ladder = Ladder()
        self._limit = SizeLimit(restorer.sizes)
        self._index = 0
        self._closed = False

    @property
    def largest_size(self) -> int:
        """S that no crop of the frames to come exceeds; a live stream lowers it on a slow machine."""
        return self._aligner.largest

    @largest_size.setter
    def largest_size(self, size: int) -> None:
        self._aligner.largest = size

    def process(self, image: Image) -> tuple[Image, FrameReport]:
        """(H, W, 3) uint8 RGB -> (scale H, scale W, 3) and its report, at once and without a deadline.

        image: a numpy array, on a GPU also what lies there: the output then does so, too.
        Frames are taken as consecutive pictures of one stream. Raises FrameError.
        """
        now_ns = self._clock.now_ns()
        picture: Any = image
        frame = Frame(
            picture, self._index, Fraction(1, 25), now_ns, self._index, discontinuity=self._index == 0
        )
        self._index += 1
        out, report = self.composite(self.restore(self.track(frame)))
        enhanced: Any = out.image
        return enhanced, report

    def track(self, frame: Frame) -> Tracked:
        """Find the faces and cut them out. Raises FrameError for a picture that is none, or too large."""
        return self._aligner.look(frame)

    def restore(self, tracked: Tracked, deadline_ns: int | None = None) -> Restored:
        """Run the model. deadline_ns: when the frame ought to be done, on the session's clock, if ever.

        On a GPU and without a deadline this only queues the work, and ``composite`` waits for it.
        """
        watch = _Stopwatch(dict(tracked.stage_ms))
        if not self.enabled:
            return Restored(tracked.frame, tracked.picture, (), (), watch.laps, False)
        jobs, reset = self._admit(tracked)
        wanted = [job for job in jobs if job.wanted]
        left_ms = self._left_ms(deadline_ns)
        self._ask_guide(wanted, deadline_ns)
        watch.lap("guide")
        self._restore(wanted, deadline_ns)
        watch.lap("net")
        if left_ms is not None:
            self._mind_size(wanted, left_ms)
        details = tuple(job.detail() for job in jobs if job.residual is not None)
        reports = tuple(job.report() for job in jobs)
        return Restored(tracked.frame, tracked.picture, details, reports, watch.laps, reset)

    def composite(self, restored: Restored) -> tuple[Frame, FrameReport]:
        """The output frame: enlarged, with the restored detail pasted in, and what became of it."""
        watch = _Stopwatch(dict(restored.stage_ms))
        out, proof = self._pictures.composite(restored.picture, restored.details, self.yuv420p)
        watch.lap("composite")
        if restored.details:
            self._ladder.learn_rest(watch.laps["composite"])
        report = FrameReport(restored.faces, proof, watch.laps, restored.reset)
        return restored.frame.with_image(out), report

    def close(self) -> None:
        """Give the tracker back. May be called twice."""
        if not self._closed:
            self._aligner.close()
        self._closed = True

    def _admit(self, tracked: Tracked) -> tuple[list[_Job], bool]:
        """One job a face, with what is remembered of it; and whether anything was forgotten."""
        reset = False
        if tracked.scene != self._scene:
            reset = bool(self._memories)
            self._memories.clear()
            self._scene = tracked.scene
        index = tracked.frame.index
        self._forget({aligned.face.track_id for aligned in tracked.faces}, index)
        jobs = []
        for aligned in tracked.faces:
            memory = self._memories.get(aligned.face.track_id)
            if memory is None or memory.key != (aligned.epoch, aligned.size):
                reset |= memory is not None
                memory = FaceMemory((aligned.epoch, aligned.size))
                self._memories[aligned.face.track_id] = memory
            memory.seen_index = index
            jobs.append(_Job(aligned, memory))
        return jobs, reset

    def _ask_guide(self, jobs: list[_Job], deadline_ns: int | None) -> None:
        left_ms, faces = self._left_ms(deadline_ns), _counts(jobs)
        spare = left_ms is None or self._ladder.affords_guide(faces, left_ms)
        due_ns = _earlier(deadline_ns, self._ladder.one_ms(faces) + self._ladder.rest_ms)
        for group in _by_size([job for job in jobs if job.memory.asks(spare)]):
            began = time.perf_counter()
            try:
                readings = self._restorer.guide([job.cut for job in group], due_ns)
            except Refused:
                continue
            for job, reading in zip(group, readings, strict=True):
                job.memory.observe(reading, enlarged=job.native_px < ENLARGED_BELOW * job.size)
            self._ladder.learn_guide(group[0].size, len(group), self._worked_ms(began))
        for job in jobs:
            if job.memory.strength == 0:
                job.outcome = Outcome.BYPASSED

    def _restore(self, jobs: list[_Job], deadline_ns: int | None) -> None:
        unread = [job for job in jobs if not job.memory.known]  # the guide was refused: nothing begins
        for job in unread:
            self._reuse(job, allowed=False)
        if unread:  # else what made it too late to ask might be believed for ever
            self._ladder.doubt(_counts(unread))
        jobs = [job for job in jobs if job.outcome is None]
        steps = [self._wanted_steps(job) for job in jobs]
        rung = Rung.STEPS
        if jobs:
            rung = self._ladder.choose(_counts(jobs), max(steps), self._left_ms(deadline_ns))
        if rung in (Rung.CACHE, Rung.ORIGINAL):
            for job in jobs:
                self._reuse(job, allowed=rung is Rung.CACHE)
            return
        due_ns = _earlier(deadline_ns, self._ladder.rest_ms)
        for job, wanted in zip(jobs, steps, strict=True):
            job.nfe = wanted if rung is Rung.STEPS else 1
        for group in _by_size(jobs):
            for nfe in sorted({job.nfe for job in group}):
                alike = [job for job in group if job.nfe == nfe]
                if self._run(alike, nfe, due_ns) or (nfe > 1 and self._run(alike, 1, due_ns)):
                    continue
                for job in alike:
                    job.nfe = 0
                    self._reuse(job, allowed=True)

    def _run(self, jobs: list[_Job], nfe: int, due_ns: int | None) -> bool:
        """Whether the restorer has done it."""
        began = time.perf_counter()
        try:
            traces = self._restorer.restore(
                [job.cut for job in jobs],
                [job.memory.reading for job in jobs],
                [job.memory.recent() for job in jobs],
                steps=nfe,
                seed=self.seed,
                fidelity=self.fidelity,
                deadline_ns=due_ns,
            )
        except Refused:
            return False
        traces = [self._steadied(job.memory, trace) for job, trace in zip(jobs, traces, strict=True)]
        self._ladder.learn(jobs[0].size, len(jobs) * nfe, self._worked_ms(began))
        for job, trace in zip(jobs, traces, strict=True):
            job.memory.keep(trace)
            job.residual, job.share = trace.residual, job.memory.fade(1.0)
            job.outcome, job.nfe = Outcome.RESTORED, nfe
        return True

    def _reuse(self, job: _Job, *, allowed: bool) -> None:
        """A lower rung: the cached detail if there is any; where it may not be used, it still fades out."""
        job.share = job.memory.fade(job.memory.recall() if allowed else 0.0)
        job.outcome = Outcome.CACHED if job.share > 0 else Outcome.SKIPPED
        if job.share > 0:
            assert job.memory.trace is not None, "a share of nothing"
            job.residual = self._pictures.carry(job.memory.trace, job.cut)

    def _mind_size(self, jobs: list[_Job], left_ms: float) -> None:
        """left_ms: that there were for these faces of a live frame."""
        limit = self._limit
        # what a small crop cannot show is bypassed in it, and may be wanted again in a larger one
        jobs = [job for job in jobs if limit.lowered or job.outcome is not Outcome.BYPASSED]
        # of a face that the camera shows as large, a smaller crop could only pass for sharp
        smaller = limit.next_smaller or 0
        gains = any(job.native_px < ENLARGED_BELOW * smaller for job in jobs if job.size == limit.largest)
        if not (limit.lowered or gains):
            return
        needed_ms = LARGER * (self._ladder.one_ms(_counts(jobs)) + self._ladder.rest_ms)
        fell = any(job.nfe == 0 and job.outcome is not Outcome.BYPASSED for job in jobs)
        limit.saw(fell=fell, spare=needed_ms <= left_ms)
        self.largest_size = limit.largest

    def _steadied(self, memory: FaceMemory, trace: Trace) -> Trace:
        """Against the last frame, unless the network has done so by a past of its own."""
        before = memory.recent()
        if before is None or trace.past is not None:
            return trace
        return replace(trace, residual=self._pictures.steady(before, trace))

    def _worked_ms(self, began: float) -> float:
        return (time.perf_counter() - began) * 1e3 - self._restorer.waited_ms

    def _left_ms(self, deadline_ns: int | None) -> float | None:
        return None if deadline_ns is None else (deadline_ns - self._clock.now_ns()) / NS_PER_MS

    def _wanted_steps(self, job: _Job) -> int:
        if self.steps != "auto":
            return self.steps
        return 1 if self._restorer.device_type == "cpu" else step_count(job.memory.reading.t0)

    def _forget(self, present: set[int], index: int) -> None:
        """Drop the memory of faces that have been gone for long."""
        for track_id in [
            k for k, memory in self._memories.items() if k not in present and index - memory.seen_index > 250
        ]:
            del self._memories[track_id]


@dataclass(frozen=True, slots=True)
class Restored:
    """A frame and its restored faces, on their way to the compositing thread. picture: see ``Pictures``."""

    frame: Frame
    picture: Any
    details: tuple[Detail, ...]
    faces: tuple[FaceReport, ...]
    stage_ms: dict[str, float]
    reset: bool


class _Job:
    """What becomes of one face in one frame."""

    def __init__(self, aligned: AlignedFace, memory: FaceMemory) -> None:
        self.face, self.crop, self.size = aligned.face, aligned.crop, aligned.size
        self.native_px, self.outcome = aligned.native_px, aligned.outcome
        self.memory = memory
        self.residual: Any = None
        self.nfe = 0
        self.share = 1.0  # of the residual that is shown: see FaceMemory.fade

    @property
    def wanted(self) -> bool:
        return self.crop is not None

    @property
    def cut(self) -> Any:
        assert self.crop is not None, "only wanted faces are cut"
        return self.crop

    @property
    def weight(self) -> float:
        return self.face.blend * self.memory.strength * self.share

    def detail(self) -> Detail:
        assert self.residual is not None
        reading = self.memory.reading
        trust = gamma(reading.sigma_y, reading.quantiser, reading.noise)
        return Detail(self.face, self.size, self.residual, self.weight, trust)

    def report(self) -> FaceReport:
        assert self.outcome is not None
        reading = self.memory.reading if self.wanted and self.memory.known else None
        return FaceReport(
            track_id=self.face.track_id,
            outcome=self.outcome,
            roi_px=self.face.roi_px,
            native_px=self.native_px,
            size_px=self.size,
            confidence=self.face.confidence,
            blend=self.weight if self.residual is not None else 0.0,
            t0=reading.t0 if reading else None,
            sigma_y=reading.sigma_y if reading else None,
            missing_share=reading.missing_share if reading else None,
            nfe=self.nfe,
        )


class _Stopwatch:
    def __init__(self, laps: dict[str, float]) -> None:
        self.laps = laps
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = (now - self._last) * 1e3
        self._last = now


def _earlier(deadline_ns: int | None, ms: float) -> int | None:
    return None if deadline_ns is None else deadline_ns - round(ms * NS_PER_MS)


def _counts(jobs: Sequence[_Job]) -> dict[int, int]:
    """Faces by S."""
    return dict(Counter(job.size for job in jobs))


def _by_size(jobs: Iterable[_Job]) -> list[list[_Job]]:
    groups: dict[int, list[_Job]] = {}
    for job in jobs:
        groups.setdefault(job.size, []).append(job)
    return list(groups.values())
