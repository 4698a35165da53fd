"""What a run did and what it cost: the report behind ``--report``, metrics and live figures.

``RunReport`` is the finished, frozen document; ``RunTally`` gathers it while frames pass.
Everything kept is bounded, however long a stream lives.
"""

from __future__ import annotations

import os
import platform
from collections import Counter, defaultdict
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from .clock import NS_PER_MS, NS_PER_S
from .frame import Frame
from .report import FrameReport, Outcome
from .stats import LatencyWindow
from .version import __version__

__all__ = ["Percentiles", "QueueReport", "RunReport", "RunStatus", "RunTally", "versions"]

RunStatus = Literal["waiting", "running", "done", "stopped", "cancelled", "failed"]

MAX_WARNINGS = 100
LIBRARIES = (
    "torch",
    "openvino",
    "av",
    "mediapipe",
    "numpy",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Percentiles(_Model):
    """Of the last 4096 samples."""

    p50: float
    p95: float
    p99: float


class QueueReport(_Model):
    """A channel between two stages. depth: frames that wait now; max_depth: most that ever did."""

    depth: int
    max_depth: int
    capacity: int
    dropped: int


class RunReport(_Model):
    """All figures of a run; units are in the names, a figure without a sample is None.

    status: "done": the source ended; "stopped": ended early by request, the output is finished;
        "cancelled", "failed": the output was aborted.
    frames_in: read from the source. frames_out: taken by the sink. frames_dropped: pushed out of a
        channel by newer ones (live only); in = out + dropped + still on the way.
    frames_missed: gaps in the source's own numbering, lost before this process could read them.
    frames_total: how many the source says it has; None for live streams.
    fps: frames out per second. Live: from the first frame out to the last. Files: over the whole run,
        the first read and the finishing of the output included.
    age_ms: from capture to the moment the sink had taken the frame.
    stage_ms: "decode" for a file, "read" for a live source (the wait for the camera is in it), "track"
        (all of the tracker's thread; of it "align"), "restore" (all of the model's thread; of it "guide"
        and "net"), "composite", "encode".
    faces: face-frames, that is tracked faces summed over the frames out; all counts below are of those.
        faces_max: most in one frame.
    restored_share: RESTORED / all face-frames: the part that went through at least one step of the network.
    restored_share_due: RESTORED / (all face-frames - BYPASSED - TOO_SMALL): of the faces that ought to be
        restored. UNSURE, CACHED and SKIPPED stand in the denominator. None where none ought to be.
    bypassed: already sharp, returned as they were. too_small: never repainted.
    rungs: face-frames by outcome, all of them; "cached" and "skipped" are rungs of the budget ladder.
    restored_px: RESTORED face-frames by S, the side of the crop that the network saw.
    nfe: face-frames by number of network evaluations. t0_mean: over those that have one.
    certificate_rms, certificate_max: output reduced again against the camera's pixels, in units of
        1/255: mean over frames of the rms, and the largest maximum; _before: before the projection.
    resolution_changes: of the source, mid-stream; the output keeps the size of output_px.
    engine: that evaluated the network at last; two, while a compiled one takes over.
    budget_ms: age that the enhancer is told to keep a live frame below; None for files.
    """

    source: str
    sink: str
    live: bool
    status: RunStatus
    error: str | None = None
    warnings: tuple[str, ...] = ()

    scale: int
    fidelity: float | None = None
    steps: int | str | None = None
    seed: int | None = None
    input_px: tuple[int, int] | None = None
    output_px: tuple[int, int] | None = None
    nominal_fps: float | None = None
    budget_ms: float | None = None

    frames_total: int | None = None
    frames_in: int = 0
    frames_out: int = 0
    frames_dropped: int = 0
    frames_missed: int = 0
    queues: dict[str, QueueReport] = {}
    elapsed_s: float = 0.0
    fps: float = 0.0
    age_ms: Percentiles | None = None
    stage_ms: dict[str, Percentiles] = {}

    faces: int = 0
    faces_max: int = 0
    restored_share_due: float | None = None
    restored_share: float | None = None
    bypassed: int = 0
    too_small: int = 0
    rungs: dict[str, int] = {}
    restored_px: dict[int, int] = {}
    nfe: dict[int, int] = {}
    t0_mean: float | None = None
    certificate_rms: float | None = None
    certificate_max: float | None = None
    certificate_rms_before: float | None = None
    certificate_max_before: float | None = None
    cache_resets: int = 0
    resolution_changes: int = 0

    device: str | None = None
    engine: str | None = None
    model_sha256: str | None = None
    versions: dict[str, str] = {}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON; the file appears whole or not at all. Raises OSError."""
        target = Path(path)
        text = self.model_dump_json(indent=2) + "\n"
        if target.exists() and not target.is_file():  # /dev/null, a pipe: written to, never replaced
            target.write_text(text, encoding="utf-8")
            return
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            part.write_text(text, encoding="utf-8")
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)


@cache
def versions() -> dict[str, str]:
    """Versions of streamsr, python and the libraries that figures depend on; imports none of them."""
    found = {"streamsr": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # only one of the two OpenCV builds is there, and torch may be a bare folder
    return found


class _Mean:
    def __init__(self) -> None:
        self.sum, self.count = 0.0, 0

    def add(self, value: float) -> None:
        self.sum += value
        self.count += 1

    def value(self) -> float | None:
        return self.sum / self.count if self.count else None


class RunTally:
    """Counts and samples of one run, written on the loop's thread.

    ``figures()`` are the fields of ``RunReport`` that it knows.
    """

    def __init__(self) -> None:
        self.frames_in = self.frames_out = self.frames_missed = self.resolution_changes = 0
        self.first_out_ns = self.last_out_ns = 0
        self.warnings: list[str] = []
        self._age = LatencyWindow()
        self._stages: defaultdict[str, LatencyWindow] = defaultdict(LatencyWindow)
        self._outcomes: Counter[Outcome] = Counter()
        self._nfe: Counter[int] = Counter()
        self._sizes: Counter[int] = Counter()
        self._faces_max = self._cache_resets = 0
        self._t0, self._rms, self._rms_before = _Mean(), _Mean(), _Mean()
        self._max: float | None = None
        self._max_before: float | None = None

    def stage(self, name: str, ms: float) -> None:
        self._stages[name].add(ms)

    def warn(self, text: str) -> None:
        if len(self.warnings) < MAX_WARNINGS and text not in self.warnings:
            self.warnings.append(text)

    def read(self, frame: Frame, last: Frame | None) -> None:
        """The source gave ``frame``, and ``last`` before it."""
        self.frames_in += 1
        self.frames_missed += max(0, frame.index - (last.index if last is not None else -1) - 1)
        if last is not None:
            self.resolution_changes += frame.image.shape != last.image.shape

    def enhanced(self, report: FrameReport) -> None:
        """A frame has left the enhancer."""
        for name, part_ms in report.stage_ms.items():
            if name not in ("track", "composite"):  # measured by the caller, on their threads
                self.stage(name, part_ms)

    def written(self, frame: Frame, report: FrameReport, taken_ns: int) -> None:
        """The sink took ``frame`` at ``taken_ns``."""
        self.first_out_ns = self.first_out_ns if self.frames_out else taken_ns
        self.last_out_ns = taken_ns
        self.frames_out += 1
        self._age.add((taken_ns - frame.captured_ns) / NS_PER_MS)
        self._faces_max = max(self._faces_max, len(report.faces))
        for face in report.faces:
            self._outcomes[face.outcome] += 1
            self._nfe[face.nfe] += 1
            self._sizes[face.size_px] += face.outcome is Outcome.RESTORED
            if face.t0 is not None:
                self._t0.add(face.t0)
        if (found := report.certificate) is not None:
            self._rms.add(found.rms)
            self._rms_before.add(found.rms_before)
            self._max = max(found.max, self._max or 0.0)
            self._max_before = max(found.max_before, self._max_before or 0.0)
        self._cache_resets += report.cache_reset

    def fps(self, live: bool, started_ns: int, now_ns: int) -> float:
        """See ``RunReport``. ``now_ns``: the end of the run, or now."""
        frames, ns = self.frames_out, now_ns - started_ns
        if live:
            frames, ns = frames - 1, self.last_out_ns - self.first_out_ns
        return frames * NS_PER_S / ns if frames > 0 and ns > 0 else 0.0

    def figures(self) -> dict[str, object]:
        faces, restored = self._outcomes.total(), self._outcomes[Outcome.RESTORED]
        bypassed, too_small = self._outcomes[Outcome.BYPASSED], self._outcomes[Outcome.TOO_SMALL]
        wanted = faces - bypassed - too_small
        stages = {name: percentiles(window) for name, window in self._stages.items()}
        return {
            "frames_in": self.frames_in,
            "frames_out": self.frames_out,
            "frames_missed": self.frames_missed,
            "age_ms": percentiles(self._age),
            "stage_ms": {name: value for name, value in stages.items() if value is not None},
            "faces": faces,
            "faces_max": self._faces_max,
            "restored_share_due": restored / wanted if wanted else None,
            "restored_share": restored / faces if faces else None,
            "bypassed": bypassed,
            "too_small": too_small,
            "rungs": {outcome.value: self._outcomes[outcome] for outcome in Outcome},
            "restored_px": {size: count for size, count in sorted(self._sizes.items()) if count},
            "nfe": dict(sorted(self._nfe.items())),
            "t0_mean": self._t0.value(),
            "certificate_rms": self._rms.value(),
            "certificate_max": self._max,
            "certificate_rms_before": self._rms_before.value(),
            "certificate_max_before": self._max_before,
            "cache_resets": self._cache_resets,
            "resolution_changes": self.resolution_changes,
        }


def percentiles(window: LatencyWindow) -> Percentiles | None:
    found = window.percentiles()
    return Percentiles(**found.as_dict()) if found.count else None
