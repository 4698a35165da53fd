"""What stands around a pipeline in evidence mode: its source's tap, its enhancer and its sink."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..clock import MONOTONIC, Clock
from ..errors import ConfigError, SinkError
from ..frame import Frame, Sink, StreamInfo
from ..io.tap import PacketTap
from ..report import FrameReport
from ..run_report import versions
from ..stages import Enhancer, Session
from ..version import __version__
from .keys import fingerprint, private_key, public_bytes
from .mark import MARK, draw_mark
from .notes import Notes
from .recorder import EvidenceStatistics, Limits, Recorder, Sent
from .segment import Note, picture_sha256, utc

__all__ = ["FORMAT", "STATEMENT", "Evidence"]

FORMAT = 1
STATEMENT = (
    "A restored face is not evidence of identity. This chain proves what this software received and what it"
    " produced, unaltered from then on; not that the camera was honest."
)
STALL_S = 1.0  # a live frame waits so long for a recorder that is behind; then it leaves unrecorded


class Evidence:
    """A signed record of the original and the enhanced stream, in segments in a folder.

    ``with Evidence("evidence/gate", "key.pem", camera="gate") as evidence:`` and then
    ``Pipeline(RtspSource(url, tap=evidence.tap), evidence.sink(sink), evidence.enhancer(enhancer))``.

    folder: made if it is not there. key_file: Ed25519 in PEM, readable by its owner alone. camera: a name for
    files and header. configuration: more for the header, JSON. Raises ConfigError.
    """

    def __init__(
        self,
        folder: str | Path,
        key_file: str | Path,
        *,
        camera: str,
        limits: Limits | None = None,
        configuration: dict[str, Any] | None = None,
        clock: Clock = MONOTONIC,
    ) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", camera):
            raise ConfigError(f"the camera's name must be letters, digits, - and _, got {camera!r}")
        key = private_key(Path(key_file))
        self.public_key = public_bytes(key.public_key())
        self._camera, self._clock = camera, clock
        self._configuration = dict(configuration or {})
        self._recording = uuid.uuid4().hex
        self._enhancer: Enhancer | None = None
        self._session: Session | None = None
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot make the evidence folder {folder}: {error.strerror}") from None
        self.url = str(folder)
        self._notes = Notes()
        self._recorder = Recorder(
            Path(folder), camera, key, self._header, self.sei, limits or Limits(), clock
        )
        self._stalled = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Complete and sign the last segment. May be called twice."""
        self._recorder.close()

    @property
    def tap(self) -> PacketTap:
        """For the source: ``RtspSource(url, tap=...)``, ``FileSource(path, tap=...)``."""
        return self._recorder.intake

    @property
    def weights(self) -> str | None:
        """SHA-256 of the weights in use; None while the model is not there."""
        return self._enhancer.model_sha256 if self._enhancer is not None else None

    def sei(self, index: int) -> str:
        """What the enhanced picture of that index says of itself, as JSON; also for ``RtspSink(sei=...)``."""
        said = {
            "enhanced": True,
            "streamsr": __version__,
            "weights": self.weights,
            "recording": self._recording,
            "index": index,
        }
        return json.dumps(said, separators=(",", ":"))

    def enhancer(self, enhancer: Enhancer) -> EvidenceEnhancer:
        """``enhancer``, of whose only session everything is noted, and whose pictures bear the mark."""
        self._enhancer = enhancer
        return EvidenceEnhancer(enhancer, self)

    def sink(self, sink: Sink | None, *, live: bool = True) -> EvidenceSink:
        """``sink``, and before it the record. None: the record alone.

        live: False for a file, of which nothing may be lost: the pipeline waits for the disk, and a disk that
        fails ends it.
        """
        return EvidenceSink(sink, self, live)

    def statistics(self) -> EvidenceStatistics:
        return self._recorder.statistics()

    def opened(self, session: Session) -> None:
        self._session = session

    def begins_segment(self, index: int) -> bool:
        """Whether the picture ``index``, about to be tracked, is the first of its segment that is."""
        return self._notes.begins(self._recorder.intake.segment_of(index))

    def note(self, index: int, note: Note) -> None:
        self._notes.put(index, note)

    def noted(self, index: int) -> Note | None:
        return self._notes.get(index)

    def write(self, frame: Frame, info: StreamInfo, live: bool) -> None:
        """Record a frame that leaves. Raises SinkError: of a file, when it cannot be recorded."""
        self._check(live)
        intake = self._recorder.intake
        if intake.segment_of(frame.index) is None and not self.statistics().frames:
            reason = intake.refused or "this source has no packets to see"
            raise SinkError(f"evidence wants an RTSP source or a video file: {reason}", self.url)
        note = self._notes.get(frame.index)
        if note is None:
            raise SinkError("evidence wants its own enhancer in the pipeline", self.url)
        note.reached = "sent"
        wait_s = None if not live else 0.0 if self._stalled else STALL_S
        taken = self._recorder.put(Sent(frame, info, self._notes.upto(frame.index)), wait_s)
        self._stalled = not taken
        if taken:
            self._notes.forget(frame.index)

    def finish(self, live: bool) -> None:
        """As ``close``. Raises SinkError: of a file, when it could not be recorded."""
        self.close()
        self._check(live)

    def _check(self, live: bool) -> None:
        error = self.statistics().error
        if not live and error is not None:
            raise SinkError(f"evidence cannot be recorded: {error}", self.url)

    def _header(self) -> dict[str, Any]:
        session, enhancer = self._session, self._enhancer
        if session is None or enhancer is None:
            raise ValueError("evidence wants its own enhancer in the pipeline")
        return {
            "format": FORMAT,
            "statement": STATEMENT,
            "recording": self._recording,
            "camera": self._camera,
            "started": utc(time.time()),
            "streamsr": __version__,
            "versions": versions(),
            "weights_sha256": self.weights,
            "device": str(enhancer.device),
            "configuration": {
                **self._configuration,
                "scale": getattr(session, "scale", None),
                "fidelity": session.fidelity,
                "steps": session.steps,
                "seed": getattr(session, "seed", None),
            },
            "mark": MARK,
            "public_key": self.public_key.hex(),
            "key_fingerprint": fingerprint(self.public_key),
        }


class EvidenceEnhancer:
    """An ``Enhancer`` for one pipeline."""

    def __init__(self, inner: Enhancer, evidence: Evidence) -> None:
        self._inner, self._evidence = inner, evidence

    @property
    def device(self) -> Any:
        return self._inner.device

    @property
    def engine(self) -> str | None:
        return self._inner.engine

    @property
    def warnings(self) -> Sequence[str]:
        return self._inner.warnings

    @property
    def model_sha256(self) -> str | None:
        return self._inner.model_sha256

    def session(
        self,
        *,
        scale: int,
        fidelity: Any = None,
        steps: Any = None,
        seed: Any = None,
        clock: Clock = MONOTONIC,
    ) -> EvidenceSession:
        asked = {"fidelity": fidelity, "steps": steps, "seed": seed}
        given = {name: value for name, value in asked.items() if value is not None}
        inner = self._inner.session(scale=scale, clock=clock, **given)
        self._evidence.opened(inner)
        return EvidenceSession(inner, self._evidence, clock)


class EvidenceSession:
    """Passes everything on, notes how far each frame got, begins anew with every segment, and marks."""

    yuv420p: StreamInfo | None = None  # not passed on: RGB is what is marked

    def __init__(self, inner: Session, evidence: Evidence, clock: Clock) -> None:
        self._inner, self._evidence, self._clock = inner, evidence, clock

    @property
    def fidelity(self) -> Any:
        return self._inner.fidelity

    @fidelity.setter
    def fidelity(self, value: Any) -> None:
        self._inner.fidelity = value

    @property
    def steps(self) -> Any:
        return self._inner.steps

    @steps.setter
    def steps(self, value: Any) -> None:
        self._inner.steps = value

    @property
    def enabled(self) -> bool:
        return self._inner.enabled

    @enabled.setter
    def enabled(self, value: bool) -> None:
        self._inner.enabled = value

    def track(self, frame: Frame) -> Any:
        if self._evidence.begins_segment(frame.index):
            frame = replace(frame, discontinuity=True)
        note = Note(
            frame.pts,
            frame.time_base,
            frame.discontinuity,
            (frame.width, frame.height),
            picture_sha256(frame.image),
        )
        self._evidence.note(frame.index, note)
        return frame.index, self._inner.track(frame)

    def restore(self, tracked: Any, deadline_ns: int | None = None) -> Any:
        index, inner = tracked
        late_before = self._late(deadline_ns)
        restored = self._inner.restore(inner, deadline_ns=deadline_ns)
        note = self._evidence.noted(index)
        if note is not None:
            note.settings = {"fidelity": self.fidelity, "steps": self.steps, "enabled": self.enabled}
            note.faces, note.weights = restored.faces, self._evidence.weights
            note.late = "before" if late_before else "during" if self._late(deadline_ns) else None
            note.reached = "restored"
        return index, restored

    def composite(self, restored: Any) -> tuple[Frame, FrameReport]:
        index, inner = restored
        frame, report = self._inner.composite(inner)
        note = self._evidence.noted(index)
        if note is not None:
            note.report, note.reached = report, "composited"
        return frame.with_image(draw_mark(frame.image)), report

    def close(self) -> None:
        self._inner.close()

    def _late(self, deadline_ns: int | None) -> bool:
        return deadline_ns is not None and self._clock.now_ns() >= deadline_ns


class EvidenceSink:
    """Records every picture, then hands it to ``inner``."""

    def __init__(self, inner: Sink | None, evidence: Evidence, live: bool) -> None:
        self._inner, self._evidence, self._live = inner, evidence, live
        self._info: StreamInfo | None = None
        self.url = inner.url if inner is not None else evidence.url

    @property
    def warnings(self) -> list[str]:
        lines = list(getattr(self._inner, "warnings", ()))
        found = self._evidence.statistics()
        if found.unrecorded or found.packets_lost:
            lines.append(
                f"evidence: frames not recorded: {found.unrecorded}, packets lost: {found.packets_lost}"
            )
        if found.error is not None:
            lines.append(f"evidence: {found.error}")
        return lines

    def open(self, info: StreamInfo) -> None:
        self._info = info
        if self._inner is not None:
            self._inner.open(info)

    def write(self, frame: Frame) -> None:
        assert self._info is not None, "not open"
        self._evidence.write(frame, self._info, self._live)
        if self._inner is not None:
            self._inner.write(frame)

    def close(self) -> None:
        """Raises SinkError: of a file, also when the record could not be completed."""
        self._evidence.finish(self._live)
        if self._inner is not None:
            self._inner.close()

    def abort(self) -> None:
        """What was recorded stays, signed: an attempt that failed is evidence too."""
        self._evidence.close()
        if self._inner is not None:
            self._inner.abort()
