"""One span of time: its original, its enhanced recording and the sidecar that binds them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..frame import Frame, StreamInfo
from ..io.nal import packet_sha256
from ..report import FaceReport, FrameReport
from .chain import Chain
from .media import EnhancedFile, OriginalFile, Stencil

__all__ = ["Note", "Packet", "Picture", "Segment", "file_sha256", "picture_sha256", "utc"]

CHUNK_BYTES = 2**20


@dataclass(slots=True)
class Packet:
    """One packet of the source. lost_before: how many before it there was no room for.

    number, sha256, size: once it is recorded; number None: no file could hold it.
    """

    data: bytes
    pts: int | None
    dts: int | None
    duration: int
    keyframe: bool
    corrupt: bool
    lost_before: int = 0
    number: int | None = None
    sha256: str = ""
    size: int = 0

    def line(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "n": self.number,
            "pts": self.pts,
            "dts": self.dts,
            "bytes": self.size,
            "sha256": self.sha256,
        }
        if self.keyframe:
            found["key"] = True
        if self.corrupt:
            found["damaged"] = True
        if self.lost_before:
            found["lost_before"] = self.lost_before
        return found


@dataclass(slots=True)
class Picture:
    """A picture that was decoded, and the packets that made it. segment: number of the segment."""

    index: int
    segment: int
    packets: list[Packet]


@dataclass(slots=True)
class Note:
    """How far a picture got, and what became of it there.

    reached: "tracked", "restored", "composited" or "sent". late: its deadline was over "before" the model
    was asked, or "during". settings: fidelity, steps, enabled. weights: of the model that was asked.
    """

    pts: int
    time_base: Fraction
    discontinuity: bool
    input_px: tuple[int, int]
    input_sha256: str
    reached: str = "tracked"
    late: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    faces: tuple[FaceReport, ...] = ()
    report: FrameReport | None = None

    def line(self, weights: str | None) -> dict[str, Any]:
        """weights: that the header names."""
        found: dict[str, Any] = {
            "pts": self.pts,
            "time_base": str(self.time_base),
            "input": {"px": list(self.input_px), "sha256": self.input_sha256},
            "discontinuity": self.discontinuity,
        }
        if self.reached != "tracked":
            found["settings"] = self.settings
            found["faces"] = [_face_line(face) for face in self.faces]
            if self.late is not None:
                found["late"] = self.late
            if self.weights != weights:  # the model came later, or was exchanged
                found["weights_sha256"] = self.weights
        return found


class Segment:
    """Written by one thread. Every method raises OSError, FFmpegError or ValueError.

    A line is written when the packets it names are in the files: one packet later.
    """

    def __init__(self, folder: Path, stem: str, number: int, stencil: Stencil, crf: int) -> None:
        self.number, self.stem = number, stem
        self._stencil, self._crf = stencil, crf
        self._paths = {name: folder / f"{stem}.{name}.mp4" for name in ("original", "enhanced")}
        self._sidecar = folder / f"{stem}.jsonl"
        try:
            self._original = OriginalFile(self._paths["original"], stencil)
        except BaseException:  # whatever it was, no empty file stays behind
            self._paths["original"].unlink(missing_ok=True)
            raise
        self._enhanced: EnhancedFile | None = None
        self._chain: Chain | None = None
        self._weights: str | None = None
        self._held: deque[tuple[dict[str, Any], int, int]] = deque()
        self._signed_at, self._signed_lines = time.monotonic(), 0
        self.frames = 0

    @property
    def active(self) -> bool:
        return self._chain is not None

    def take(self, packet: Packet) -> None:
        """Append a packet to the original; its data are let go."""
        units = self._stencil.framing.units(packet.data)
        packet.sha256, packet.size = packet_sha256(units), len(packet.data)
        if units:
            packet.number = self._original.write(
                packet.data, packet.pts, packet.dts, packet.duration, packet.keyframe
            )
        packet.data = b""

    def activate(self, key: Ed25519PrivateKey, header: dict[str, Any], previous: str | None) -> None:
        """Begin the sidecar. previous: hash of the last line of the last complete segment, if any."""
        self._weights = header["weights_sha256"]
        self._chain = Chain(self._sidecar, key)
        self._chain.write(
            {
                **header,
                "kind": "header",
                "segment": self.number,
                "previous": previous,
                "original": {
                    "file": self._paths["original"].name,
                    "codec": self._stencil.codec,
                    "px": list(self._stencil.size_px),
                    "time_base": str(self._stencil.time_base),
                },
                "enhanced": {"file": self._paths["enhanced"].name, "codec": "h264", "crf": self._crf},
            }
        )

    def add_frame(
        self, picture: Picture, frame: Frame, note: Note, info: StreamInfo, text: str, at: str
    ) -> None:
        """A picture that left, as it left. text: its SEI. at: when it was captured, UTC."""
        if self._enhanced is None:
            self._enhanced = EnhancedFile(
                self._paths["enhanced"],
                (frame.width, frame.height),
                info.rate,
                info.time_base,
                info.colour,
                self._crf,
            )
        number = self._enhanced.packets
        packets: list[dict[str, Any]] = []
        for data in self._enhanced.write(frame, text):
            digest = packet_sha256(self._enhanced.framing.units(data))
            packets.append({"n": number + len(packets), "bytes": len(data), "sha256": digest})
        proof = note.report.certificate if note.report is not None else None
        line = {
            "kind": "frame",
            "index": picture.index,
            "time": at,
            **note.line(self._weights),
            "packets": [packet.line() for packet in picture.packets],
            "enhanced": {
                "px": [frame.width, frame.height],
                "sha256": picture_sha256(frame.image),
                "packets": packets,
            },
            "certificate": None
            if proof is None
            else {
                "rms_before": float(proof.rms_before),
                "max_before": float(proof.max_before),
                "rms": float(proof.rms),
                "max": float(proof.max),
            },
        }
        self.frames += 1
        self._hold(line, picture.packets, self._enhanced.packets - 1)

    def add_dropped(self, picture: Picture, note: Note | None) -> None:
        """A picture of which no enhanced one was recorded."""
        line = {
            "kind": "dropped",
            "index": picture.index,
            "reached": "decoded" if note is None else note.reached,
            **({} if note is None else note.line(self._weights)),
            "packets": [packet.line() for packet in picture.packets],
        }
        self._hold(line, picture.packets, -1)

    def add_unshown(self, packets: list[Packet]) -> None:
        """Packets of which no picture came."""
        if packets:
            self._hold({"kind": "packets", "packets": [packet.line() for packet in packets]}, packets, -1)

    def sign_when_due(self, interval_s: float) -> None:
        assert self._chain is not None
        now = time.monotonic()
        if now - self._signed_at < interval_s or self._chain.lines == self._signed_lines:
            return
        for path in self._written():
            _flush_to_disk(path)
        self._chain.sign({"kind": "checkpoint", "time": utc(time.time())})
        self._signed_at, self._signed_lines = now, self._chain.lines

    def finish(self) -> str:
        """Complete and sign it; the hash of its last line."""
        assert self._chain is not None
        self._original.close()
        if self._enhanced is not None:
            self._enhanced.close()
        while self._held:
            self._chain.write(self._held.popleft()[0])
        files = {}
        for path in self._written():
            _flush_to_disk(path)
            files[path.name] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        self._chain.sign({"kind": "end", "time": utc(time.time()), "frames": self.frames, "files": files})
        self._chain.close()
        return self._chain.last

    def abandon(self) -> None:
        """Close what is open; what is written stays, unsigned at its end, if there is a line about it."""
        for part in (self._original, self._enhanced, self._chain):
            if part is not None:
                with contextlib.suppress(OSError, ValueError, av.FFmpegError):
                    part.close()
        if self._chain is None:
            self._paths["original"].unlink(missing_ok=True)

    def _hold(self, line: dict[str, Any], packets: Iterable[Packet], enhanced: int) -> None:
        """Keep ``line`` until its packets, and those of the lines before it, are in the files."""
        assert self._chain is not None
        numbers = [packet.number for packet in packets if packet.number is not None]
        self._held.append((line, max(numbers, default=-1), enhanced))
        while self._held:
            line, original, enhanced = self._held[0]
            muxed = self._enhanced.packets if self._enhanced is not None else 0
            if original + 2 > self._original.packets or (enhanced >= 0 and enhanced + 2 > muxed):
                return
            self._chain.write(self._held.popleft()[0])

    def _written(self) -> list[Path]:
        return [path for path in self._paths.values() if path.exists()]


def utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def picture_sha256(image: np.ndarray) -> str:
    """Of the bytes of (H, W, 3) uint8 RGB, row by row."""
    return hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()


def file_sha256(path: Path) -> str:
    """Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _face_line(face: FaceReport) -> dict[str, Any]:
    def number(value: float | None) -> float | None:
        return None if value is None else float(value)

    return {
        "track": face.track_id,
        "outcome": face.outcome.value,
        "roi_px": [int(side) for side in face.roi_px],
        "size_px": face.size_px,
        "confidence": float(face.confidence),
        "blend": float(face.blend),
        "t0": number(face.t0),
        "sigma_y": number(face.sigma_y),
        "missing_share": number(face.missing_share),
        "nfe": face.nfe,
    }


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
