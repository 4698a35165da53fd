"""Whether a recording is as it was signed, and if not, the first frame that does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import av
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ..errors import ConfigError
from ..io.nal import Framing, packet_sha256
from .chain import NO_LINE, canonical
from .keys import fingerprint
from .segment import file_sha256
from .sidecar import Checkpoint, End, Frame, Header, Line, Unshown, read_sidecar

__all__ = ["Problem", "SegmentVerdict", "sidecars", "verify_links", "verify_segment"]


@dataclass(frozen=True, slots=True)
class Problem:
    """frame: index of the first frame that does not fit; None: none in particular."""

    what: str
    frame: int | None = None

    def __str__(self) -> str:
        return self.what if self.frame is None else f"frame {self.frame}: {self.what}"


@dataclass(slots=True)
class SegmentVerdict:
    """frames: with an enhanced picture; dropped: without. signed_frames: of both, under a valid signature.

    unsigned_lines: lines after the last signature. gap: what the header says is missing before it. complete:
    it has its end. earlier_missing: there was a segment before it, which is not here.
    """

    file: str
    recording: str | None = None
    segment: int | None = None
    camera: str | None = None
    key_fingerprint: str | None = None
    frames: int = 0
    dropped: int = 0
    signed_frames: int = 0
    unsigned_lines: int = 0
    gap: dict[str, Any] | None = None
    earlier_missing: bool = False
    problems: list[Problem] = field(default_factory=list)
    complete: bool = False
    previous: str | None = None
    last: str = NO_LINE
    rerun: dict[str, Any] | None = None

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def problem(self) -> Problem | None:
        """The first: of the chain, then of the earliest frame."""
        return self.problems[0] if self.problems else None

    def as_dict(self) -> dict[str, Any]:
        found = asdict(self)
        del found["previous"], found["last"]
        return {"ok": self.ok, **found}


def sidecars(path: Path) -> list[Path]:
    """``path`` itself, or all sidecars of a folder, by name. Raises ConfigError."""
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.jsonl"))
    if not found:
        raise ConfigError(f"{path} holds no sidecar (*.jsonl)")
    return found


def verify_segment(path: Path, key: bytes | None = None) -> SegmentVerdict:
    """Chain, signatures, and every packet of both recordings. key: that it must be signed with.

    Raises ConfigError for a file that cannot be read.
    """
    lines, torn = read_sidecar(path)
    verdict = SegmentVerdict(path.name)
    header = lines[0].record if lines else None
    if not isinstance(header, Header):
        wrong = lines[0].wrong if lines else None
        verdict.problems.append(Problem(f"the header {wrong or 'is missing'}: not a sidecar, or altered"))
        return verdict
    verdict.recording, verdict.segment, verdict.camera = header.recording, header.segment, header.camera
    verdict.key_fingerprint, verdict.gap = fingerprint(bytes.fromhex(header.public_key)), header.gap
    verdict.previous, verdict.last = header.previous, lines[-1].sha256
    verdict.complete = isinstance(lines[-1].record, End)
    verdict.frames = sum(isinstance(x.record, Frame) and x.record.kind == "frame" for x in lines)
    verdict.dropped = sum(isinstance(x.record, Frame) and x.record.kind == "dropped" for x in lines)
    if key is not None and bytes.fromhex(header.public_key) != key:
        verdict.problems.append(
            Problem(f"signed with another key, {verdict.key_fingerprint}, expected {fingerprint(key)}")
        )
    broken = _broken_link(lines)
    if broken is not None:
        verdict.problems.append(broken)
    signed, forged = _signatures(lines, header)
    if forged is not None and broken is None:
        verdict.problems.append(forged)
    verdict.unsigned_lines = len(lines) - signed
    verdict.signed_frames = sum(line.index is not None for line in lines[:signed])
    media = [problem for problem in _media(path.parent, lines, header) if problem is not None]
    verdict.problems += sorted(media, key=lambda problem: (problem.frame is None, problem.frame or 0))
    if broken is None and forged is None:
        if not verdict.complete:
            verdict.problems.append(_tail(lines, signed, torn))
        elif torn:
            verdict.problems.append(Problem("something follows its end"))
    return verdict


def verify_links(verdicts: list[SegmentVerdict]) -> None:
    """Add a problem to each segment of a folder that does not follow the complete one before it.

    Nobody can see from a folder that its oldest or newest segments were deleted: the first that is left says
    that there was one before it.
    """
    before: dict[str | None, SegmentVerdict] = {}
    for verdict in sorted(verdicts, key=lambda found: (found.recording or "", found.segment or 0)):
        earlier = before.get(verdict.recording)
        if verdict.complete:
            before[verdict.recording] = verdict
        verdict.earlier_missing = earlier is None and verdict.previous is not None
        if earlier is None or verdict.previous == earlier.last:
            continue
        verdict.problems.append(
            Problem(f"does not follow {earlier.file}: that is not as it was, or segments are missing")
        )


def _broken_link(lines: list[Line]) -> Problem | None:
    """The first line that does not follow the one before it."""
    expected = NO_LINE
    for at, line in enumerate(lines):
        if line.wrong is not None:
            return _named(lines, at, f"its line {line.wrong}: altered")
        if line.prev != expected:
            return _blame(lines, at)
        if isinstance(line.record, Header) != (at == 0):
            return _named(lines, at, "a second header")
        if isinstance(line.record, End) and at + 1 < len(lines):
            return Problem("lines follow its end")
        expected = line.sha256
    return None


def _blame(lines: list[Line], at: int) -> Problem:
    """Line ``at`` does not hold the hash of the line before it: which of the two is it?"""
    if at == 0:
        return Problem("the header was altered")
    untouched = at + 1 < len(lines) and lines[at + 1].prev == lines[at].sha256
    if not untouched:
        return _named(lines, at, "its line was altered or moved")
    if at == 1:
        return Problem("the header was altered")
    now, before, earlier = _index(lines[at:]), _index(lines[:at][::-1]), _index(lines[: at - 1][::-1])
    own = lines[at - 1].index is not None  # then the gap may be of its making
    altered = own and now is not None and earlier is not None and now - earlier == 2
    if now is not None and before is not None and now - before > 1 and not altered:
        return Problem("lines are missing from here on", before + 1)
    return _named(lines, at - 1, "its line was altered, or lines after it are missing")


def _index(lines: list[Line]) -> int | None:
    """The first there is."""
    return next((line.index for line in lines if line.index is not None), None)


def _named(lines: list[Line], at: int, what: str) -> Problem:
    """A problem of line ``at``: its frame, or the one after the last that is known."""
    if lines[at].index is not None:
        return Problem(what, lines[at].index)
    before = _index(lines[:at][::-1])
    if lines[at].record is None:  # it cannot say which frame it was
        after = _index(lines[at + 1 :])
        guess = after - 1 if after is not None and after > 0 else None if before is None else before + 1
        return Problem(f"{what} (line {at + 1})", guess)
    kind = lines[at].raw.get("kind")
    return Problem(f"line {at + 1}, a {kind} line: {what}", before)


def _signatures(lines: list[Line], header: Header) -> tuple[int, Problem | None]:
    """How many lines stand under a valid signature, and the first that does not fit."""
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(header.public_key))
    signed = 0
    for at, line in enumerate(lines):
        if not isinstance(line.record, Checkpoint | End):
            continue
        unsigned = {name: value for name, value in line.raw.items() if name != "signature"}
        try:
            public.verify(bytes.fromhex(line.record.signature), canonical(unsigned))
        except InvalidSignature:
            first = _index(lines[signed : at + 1])
            what = "the signature over it and what follows does not fit: altered, or signed by another"
            return signed, Problem(what if first is not None else "a signature does not fit", first)
        if line.record.lines != at:
            return signed, Problem(f"a signature is of {line.record.lines} lines, got {at}", None)
        signed = at + 1
    return signed, None


def _tail(lines: list[Line], signed: int, torn: int) -> Problem:
    tail = [line.index for line in lines[signed:] if line.index is not None]
    rest = f"{len(tail)} frames and {torn} bytes are an unsigned tail" if tail or torn else "no more follows"
    last = _index(lines[:signed][::-1])
    until = "there is no signature" if last is None else f"signed up to frame {last}, without an end"
    return Problem(f"{until}: {rest}", None)


def _media(folder: Path, lines: list[Line], header: Header) -> Iterator[Problem | None]:
    original: dict[int, tuple[str, int | None]] = {}  # number of the packet: its hash, its frame
    enhanced: dict[int, tuple[str, int | None]] = {}
    for line in lines:
        if isinstance(line.record, Frame | Unshown):
            for packet in line.record.packets:
                if packet.n is not None:
                    original[packet.n] = packet.sha256, line.index
        if isinstance(line.record, Frame) and line.record.enhanced is not None:
            for coded in line.record.enhanced.packets:
                enhanced[coded.n] = coded.sha256, line.index
    end = lines[-1].record if isinstance(lines[-1].record, End) else None
    for name, file, packets in (
        ("original", header.original.file, original),
        ("enhanced", header.enhanced.file, enhanced),
    ):
        if packets:
            yield _compare(folder / file, name, packets, end)


def _compare(
    path: Path, name: str, packets: dict[int, tuple[str, int | None]], end: End | None
) -> Problem | None:
    if not path.is_file():
        return Problem(f"the {name} recording {path.name} is missing", packets[min(packets)][1])
    count = 0
    try:
        for digest in _packet_hashes(path):
            if count not in packets:
                if end is not None:
                    return Problem(f"the {name} recording has a packet that no line names, number {count}")
                return None  # what was being written when its writer was killed
            if digest != packets[count][0]:
                return Problem(f"packet {count} of the {name} recording was altered", packets[count][1])
            count += 1
    except (av.FFmpegError, OSError, ValueError) as error:
        frame = packets[count][1] if count in packets else None
        reason = getattr(error, "strerror", None) or error
        return Problem(f"the {name} recording cannot be read from packet {count} on: {reason}", frame)
    missing = [number for number in packets if number >= count]
    if missing:
        return Problem(f"the {name} recording ends before packet {min(missing)}", packets[min(missing)][1])
    if end is not None:
        whole = end.files.get(path.name)
        if whole is None or whole.sha256 != file_sha256(path):
            return Problem(f"the {name} recording was altered outside its packets")
    return None


def _packet_hashes(path: Path) -> Iterator[str]:
    with av.open(str(path.resolve()), format="mp4") as container:
        if not container.streams.video:
            raise ValueError("it holds no video")
        stream = container.streams.video[0]
        context = stream.codec_context
        framing = Framing(context.name, context.extradata) if context is not None else Framing("", None)
        for packet in container.demux(stream):
            if packet.size:
                yield packet_sha256(framing.units(bytes(packet)))
