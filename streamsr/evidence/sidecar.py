"""The lines of a sidecar, read back and checked for form alone. What is read may be anything."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from ..errors import ConfigError
from ..session_options import MAX_STEPS
from .chain import canonical

__all__ = ["Certificate", "End", "Face", "Frame", "Header", "Line", "Packet", "Record", "read_sidecar"]

MOST_BYTES = 2**30  # of a sidecar; an hour at 25 fps is 0.1 GB

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,254}$")]
Count = Annotated[int, Field(ge=0)]
Ratio = Annotated[str, Field(pattern=r"^[0-9]{1,12}(/[1-9][0-9]{0,11})?$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", protected_namespaces=())


class Packet(_Model):
    """One packet of the original. n: its number in the file; None: no file could hold it."""

    n: Count | None
    pts: int | None
    dts: int | None
    size: Annotated[Count, Field(alias="bytes")]
    sha256: Sha256
    key: bool = False
    damaged: bool = False
    lost_before: Count = 0


class EnhancedPacket(_Model):
    n: Count
    size: Annotated[Count, Field(alias="bytes")]
    sha256: Sha256


class Input(_Model):
    px: tuple[int, int] = Field(strict=False)
    sha256: Sha256


class Enhanced(_Model):
    px: tuple[int, int] = Field(strict=False)
    sha256: Sha256
    packets: list[EnhancedPacket]


class Face(_Model):
    """As ``report.FaceReport``."""

    track: int
    outcome: str
    roi_px: list[int]
    size_px: int
    confidence: float
    blend: float
    t0: float | None
    sigma_y: float | None
    missing_share: float | None
    nfe: int


class Settings(_Model):
    fidelity: Annotated[float, Field(ge=0, le=1)]
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] | Literal["auto"]
    enabled: bool


class Certificate(_Model):
    rms_before: float
    max_before: float
    rms: float
    max: float


class OriginalFile(_Model):
    file: FileName
    codec: str
    time_base: Ratio


class EnhancedFile(_Model):
    file: FileName


class Header(_Model):
    kind: Literal["header"]
    format: Literal[1]
    recording: str
    segment: int
    camera: str
    streamsr: str
    weights_sha256: str | None
    configuration: dict[str, Any]
    versions: dict[str, str]
    public_key: Sha256  # 32 bytes in hex
    previous: Sha256 | None
    original: OriginalFile
    enhanced: EnhancedFile
    gap: dict[str, Any] | None = None


class Frame(_Model):
    """A picture: ``kind`` "frame", with all of it, or "dropped", as far as it got."""

    kind: Literal["frame", "dropped"]
    index: Count
    packets: list[Packet]
    pts: int | None = None
    time_base: Ratio | None = None
    reached: Literal["decoded", "tracked", "restored", "composited", "sent"] = "sent"
    discontinuity: bool = False
    late: Literal["before", "during"] | None = None
    weights_sha256: Sha256 | None = None
    input: Input | None = None
    settings: Settings | None = None
    faces: list[Face] = []
    enhanced: Enhanced | None = None
    certificate: Certificate | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        parts = (self.pts, self.time_base, self.input, self.settings, self.enhanced, self.certificate)
        if self.kind == "frame" and None in parts:
            raise ValueError("a frame has all of it")
        return self


class Unshown(_Model):
    kind: Literal["packets"]
    packets: list[Packet]


class Checkpoint(_Model):
    kind: Literal["checkpoint"]
    lines: Count
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class WholeFile(_Model):
    size: Annotated[Count, Field(alias="bytes")]
    sha256: Sha256


class End(_Model):
    kind: Literal["end"]
    lines: Count
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]
    frames: Count
    files: dict[str, WholeFile]


Record = Header | Frame | Unshown | Checkpoint | End
_record: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="kind")])


@dataclass(frozen=True, slots=True)
class Line:
    """sha256: of its bytes. prev: as it says. raw: the JSON. record: None where ``wrong`` says why not."""

    sha256: str
    prev: str | None
    raw: dict[str, Any]
    record: Record | None
    wrong: str | None = None

    @property
    def index(self) -> int | None:
        return self.record.index if isinstance(self.record, Frame) else None


def read_sidecar(path: Path) -> tuple[list[Line], int]:
    """The complete lines, and how many bytes follow the last of them. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise ConfigError(f"{path} is no sidecar: it has more than {MOST_BYTES} bytes")
    *lines, rest = data.split(b"\n")
    return [_line(line) for line in lines], len(rest)


def _line(data: bytes) -> Line:
    digest = hashlib.sha256(data).hexdigest()
    try:
        raw = json.loads(data)
        if not isinstance(raw, dict):
            return Line(digest, None, {}, None, "is not an object")
        same = canonical(raw) == data
    except (ValueError, RecursionError):
        return Line(digest, None, {}, None, "is not JSON")
    if not same:
        return Line(digest, None, raw, None, "is not in canonical form")
    prev = raw.get("prev")
    try:
        return Line(digest, prev if isinstance(prev, str) else None, raw, _record.validate_python(raw))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "kind"
        return Line(digest, prev if isinstance(prev, str) else None, raw, None, f"has a wrong {where}")
