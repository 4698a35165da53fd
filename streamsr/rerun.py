"""Evidence: the recorded original, decoded and enhanced again, against what was recorded.

Checked of every picture that was tracked: that the original decodes to the very picture that was seen. Of
every frame besides: outcome and network evaluations of each face, t0, the certificate, and the picture:
its hash (the same machine and libraries give the same bits) or else its PSNR-Y to the enhanced recording,
which is also asked of pictures with the same hash. The tolerances are the constants below.

The way through the budget ladder is followed, not checked: that a frame was dropped, or that a face was not
restored for want of time, is taken from the sidecar. Not compared are frames after a point at which the
sidecar leaves open which way was taken (faces of one size and one frame that went different ways), or after
packets that were lost or damaged, until the next segment; they are counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import cv2
import numpy as np
from pydantic import BaseModel, ValidationError

from .clock import MONOTONIC
from .enhancer import pictures_on
from .errors import ConfigError, DecodeError, ModelError
from .evidence.mark import draw_mark
from .evidence.segment import picture_sha256
from .evidence.sidecar import Certificate, Face, Frame, Header, Packet, Unshown, read_sidecar
from .evidence.verify import Problem, SegmentVerdict
from .face.tracker import MediaPipeTracker, Tracker
from .fit import fit_image
from .frame import Frame as Shown
from .io.colour import UprightRgb
from .model.crop import Crop
from .model.reading import GuideReading, Trace
from .model.restorer import Restorer
from .report import FaceReport, FrameReport, Outcome
from .session import Refused, Session
from .watch.region import RegionTracker

__all__ = ["Rerun", "rerun"]

T0_MOST = 0.01
RMS_MOST = 0.05  # of the certificate, in 1/255
MAXIMUM_MOST = 4.0  # the same
PSNR_Y_LEAST = 34.0  # dB
PICTURES_APART = 64  # between two that are wanted, none wanted: the original has another


@dataclass(slots=True)
class Rerun:
    """frames: compared; exact: of those, with the same hash. not_compared: see above. psnr_y_db: least."""

    frames: int = 0
    exact: int = 0
    not_compared: int = 0
    psnr_y_db: float | None = None

    @property
    def summary(self) -> str:
        least = (
            "" if self.psnr_y_db is None else f", PSNR-Y to the recording at least {self.psnr_y_db:.1f} dB"
        )
        return (
            f"enhanced again: {self.frames} frames agree, {self.exact} bit for bit{least},"
            f" {self.not_compared} not compared"
        )


def rerun(folder: Path, verdicts: Sequence[SegmentVerdict], device: str) -> None:
    """Set ``rerun`` of each verdict, and add the first problem there is. Raises ModelError, DeviceError."""
    restorer = Restorer.load(None, device=device)
    try:
        for verdict in verdicts:
            result = Rerun()
            try:
                problem = _segment(folder / verdict.file, restorer, result)
            except (av.FFmpegError, OSError, DecodeError, ConfigError) as error:
                problem = Problem(f"cannot be enhanced again: {error}")
            verdict.rerun = {**asdict(result), "summary": result.summary}
            if problem is not None:
                verdict.problems.append(problem)
    finally:
        restorer.close()


def _segment(sidecar: Path, restorer: Restorer, result: Rerun) -> Problem | None:
    records = [line.record for line in read_sidecar(sidecar)[0]]
    header = records[0]
    assert isinstance(header, Header), "verified before"
    frames = [record for record in records if isinstance(record, Frame)]
    for weights in {frame.weights_sha256 or header.weights_sha256 for frame in frames if _restored(frame)}:
        if weights != restorer.sha256:
            raise ModelError(f"{sidecar.name} was made with weights {weights}, these are {restorer.sha256}")
    packets = [p for record in records if isinstance(record, Frame | Unshown) for p in record.packets]
    try:
        asked = _Asked.model_validate(header.configuration)
    except ValidationError as error:
        return Problem(f"cannot be enhanced again: the header has a wrong {error.errors()[0]['loc'][0]}")
    followed = _Followed(restorer)
    session = Session(
        followed,
        scale=asked.scale,
        fidelity=asked.fidelity,
        steps=asked.steps,
        seed=asked.seed,
        tracker=_tracker(asked),
        clock=MONOTONIC,
        pictures=pictures_on(restorer.device, asked.scale),
    )
    original = _original(sidecar.with_name(header.original.file), packets)
    enhanced = _pictures(sidecar.with_name(header.enhanced.file))
    clean = False
    try:
        for frame in frames:
            recorded = next(enhanced, None) if frame.kind == "frame" else None
            if any(p.key for p in frame.packets):
                clean = True
            if any(p.damaged or p.lost_before or p.n is None for p in frame.packets):
                clean = False
            if frame.input is None:
                continue
            image = _wanted(original, frame) if frame.packets else None
            clean = clean and bool(frame.packets)  # without, nobody can say which picture it was
            if image is None or picture_sha256(image) != frame.input.sha256:
                if clean:
                    return Problem("the original does not decode to the picture that was seen", frame.index)
                followed.lost = True
            if image is None or followed.lost:
                result.not_compared += frame.kind == "frame"
                continue
            problem = _again(session, followed, frame, image, recorded, result)
            if problem is not None:
                return Problem(problem, frame.index)
    finally:
        session.close()
    return None


class _Asked(BaseModel):
    """What the configuration of a header says of the session."""

    scale: Literal[1, 2, 4, 8]
    fidelity: float
    steps: int | Literal["auto"]
    seed: int
    on_motion: bool = False
    roi: tuple[int, int, int, int] | None = None


def _tracker(asked: _Asked) -> Tracker:
    tracker = MediaPipeTracker(on_motion=asked.on_motion)
    return tracker if asked.roi is None else RegionTracker(tracker, asked.roi)


def _again(
    session: Session,
    followed: _Followed,
    frame: Frame,
    image: np.ndarray,
    recorded: np.ndarray | None,
    result: Rerun,
) -> str | None:
    """Enhance one picture again; what does not agree."""
    time_base = Fraction(frame.time_base) if frame.time_base is not None else Fraction(1, 90_000)
    pts = frame.pts if frame.pts is not None else 0
    shown = Shown(image, pts, time_base, 0, frame.index, 0, frame.discontinuity)
    if frame.faces:
        session.largest_size = max(face.size_px for face in frame.faces)
    tracked = session.track(shown)
    if frame.reached == "tracked" or frame.settings is None:
        return None
    session.fidelity, session.steps = frame.settings.fidelity, frame.settings.steps
    session.enabled = frame.settings.enabled
    followed.expect(frame)
    restored = session.restore(tracked, deadline_ns=-1 if frame.late == "before" else None)
    if frame.kind == "dropped":
        return None
    out, report = session.composite(restored)
    if followed.lost:
        result.not_compared += 1
        return None
    assert frame.enhanced is not None and frame.certificate is not None
    if recorded is None:
        return "the enhanced recording does not decode to a picture for it"
    marked = fit_image(draw_mark(out.image), *frame.enhanced.px)
    psnr = _psnr_y(marked, recorded)
    result.frames += 1
    result.exact += picture_sha256(marked) == frame.enhanced.sha256
    result.psnr_y_db = psnr if result.psnr_y_db is None else min(psnr, result.psnr_y_db)
    differs = _faces_differ(report, frame.faces) or _certificate_differs(report, frame.certificate)
    if differs is None and psnr < PSNR_Y_LEAST:
        differs = f"PSNR-Y to the recording is {psnr:.1f} dB, at least {PSNR_Y_LEAST:g} expected"
    return differs and f"enhanced again, {differs}"


class _Followed:
    """A restorer that does what the sidecar says was done, and refuses what was not.

    lost: the sidecar left open which way was taken.
    """

    waited_ms = 0.0

    def __init__(self, inner: Restorer) -> None:
        self._inner = inner
        self.sizes, self.device_type = inner.sizes, inner.device_type
        self.lost = False
        self._read: dict[int, tuple[float | None, ...]] = {}  # by track: its last reading
        self._guided: dict[int, int] = {}  # by S: faces that the guide read in this frame
        self._restored: dict[tuple[int, int], int] = {}  # by S and steps: faces

    def expect(self, frame: Frame) -> None:
        """What comes next is about ``frame``."""
        self._guided, self._restored = {}, {}
        for face in frame.faces:
            reading = (face.t0, face.sigma_y, face.missing_share)
            if face.t0 is not None and reading != self._read.get(face.track):
                self._read[face.track] = reading
                self._guided[face.size_px] = self._guided.get(face.size_px, 0) + 1
            if face.outcome == Outcome.RESTORED:
                key = face.size_px, face.nfe
                self._restored[key] = self._restored.get(key, 0) + 1
        reused = any(face.outcome in (Outcome.CACHED, Outcome.SKIPPED) for face in frame.faces)
        if reused and frame.late == "during" and not self._restored:
            self.lost = True  # the deadline passed before or after the way was chosen

    def prepare(self, fidelity: float) -> None:
        self._inner.prepare(fidelity)

    def guide(self, crops: Sequence[Crop], deadline_ns: int | None = None) -> list[GuideReading]:
        self._check(len(crops), self._guided.get(_side(crops), 0))
        return self._inner.guide(crops)

    def restore(
        self,
        crops: Sequence[Crop],
        readings: Sequence[GuideReading],
        traces: Sequence[Trace | None] | None = None,
        *,
        steps: int = 1,
        seed: int = 0,
        fidelity: float = 1.0,
        deadline_ns: int | None = None,
    ) -> list[Trace]:
        self._check(len(crops), self._restored.get((_side(crops), steps), 0))
        return self._inner.restore(crops, readings, traces, steps=steps, seed=seed, fidelity=fidelity)

    def _check(self, asked: int, done: int) -> None:
        if done == 0:
            raise Refused
        if asked != done:
            self.lost = True


def _restored(frame: Frame) -> bool:
    return any(face.outcome == Outcome.RESTORED for face in frame.faces)


def _side(crops: Sequence[Crop]) -> int:
    return crops[0].size


def _original(path: Path, packets: list[Packet]) -> Iterator[tuple[int | None, np.ndarray]]:
    """(pts, picture) of the original, with the times of the sidecar."""
    times = {packet.n: packet for packet in packets if packet.n is not None}
    upright = UprightRgb()
    with av.open(str(path.resolve()), format="mp4") as container:
        stream = container.streams.video[0]
        stream.thread_type = "SLICE"
        for number, packet in enumerate(container.demux(stream)):
            if packet.size and number in times:
                packet.pts, packet.dts = times[number].pts, times[number].dts
            try:
                for picture in packet.decode():
                    yield picture.pts, upright.read(picture)
            except av.error.InvalidDataError:
                continue  # as when it was seen


def _pictures(path: Path) -> Iterator[np.ndarray]:
    upright = UprightRgb()
    with av.open(str(path.resolve()), format="mp4") as container:
        for picture in container.decode(video=0):
            yield upright.read(picture)


def _wanted(original: Iterator[tuple[int | None, np.ndarray]], frame: Frame) -> np.ndarray | None:
    """The picture of ``frame``, which comes after those of the frames before it."""
    times = [packet.pts for packet in frame.packets]
    for _ in range(PICTURES_APART):
        pts, image = next(original, (None, None))
        if image is None:
            return None
        if pts in times:
            return image
    return None


def _faces_differ(report: FrameReport, recorded: list[Face]) -> str | None:
    if len(report.faces) != len(recorded):
        return f"it has {len(report.faces)} faces, {len(recorded)} recorded"
    for now, then in zip(report.faces, recorded, strict=True):
        for name, new, old in _figures(now, then):
            if new != old:
                return f"a face's {name} is {new}, {old} recorded"
        if now.t0 is not None and then.t0 is not None and abs(now.t0 - then.t0) > T0_MOST:
            return f"a face's t0 is {now.t0:.3f}, {then.t0:.3f} recorded"
    return None


def _figures(now: FaceReport, then: Face) -> Iterator[tuple[str, object, object]]:
    yield "outcome", now.outcome.value, then.outcome
    yield "nfe", now.nfe, then.nfe
    yield "size", now.size_px, then.size_px


def _certificate_differs(report: FrameReport, recorded: Certificate) -> str | None:
    proof = report.certificate
    assert proof is not None
    for name in ("rms_before", "rms", "max_before", "max"):
        most = RMS_MOST if name.startswith("rms") else MAXIMUM_MOST
        new, old = getattr(proof, name), getattr(recorded, name)
        if abs(new - old) > most:
            return f"the certificate's {name} is {new:.2f}, {old:.2f} recorded"
    return None


def _psnr_y(picture: np.ndarray, other: np.ndarray) -> float:
    if picture.shape != other.shape:
        return 0.0
    first, second = (cv2.cvtColor(each, cv2.COLOR_RGB2GRAY).astype(np.float32) for each in (picture, other))
    error = float(np.mean((first - second) ** 2))
    return 99.0 if error == 0 else min(99.0, float(10 * np.log10(255**2 / error)))
