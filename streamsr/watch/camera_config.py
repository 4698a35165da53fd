"""One ``[[camera]]`` of a configuration. Paths are from the folder of its file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
)

from ..errors import ConfigError, redact
from ..evidence.keys import private_key
from ..io.rtsp_url import PORTS, check_url
from ..session_options import MAX_STEPS
from .credentials import KeyedError, authorised

__all__ = [
    "FOLDER",
    "CameraConfig",
    "EvidenceConfig",
    "FilePath",
    "Flag",
    "Integer",
    "Number",
    "RecordingConfig",
    "is_rtsp",
]

FOLDER = "folder"  # of the file, in the context of its validation
VIDEO_FILES = (".mp4", ".m4v", ".mov", ".mkv", ".avi")

Integer = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]


def is_rtsp(url: str) -> bool:
    scheme, separator, _ = url.partition("://")
    return bool(separator) and scheme.lower() in PORTS


def _in_folder(path: str, info: ValidationInfo) -> str:
    return os.path.join(info.context[FOLDER], os.path.expanduser(path)) if info.context else path


def _address(url: str, info: ValidationInfo) -> str:
    """An RTSP address, checked, or a path, made absolute."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        if not url.strip():
            raise ValueError("is empty: name an rtsp:// address or a file")
        return _in_folder(url, info)
    if scheme.lower() not in PORTS:
        raise ValueError(f"is an rtsp:// address or a file, got {scheme}://")
    try:
        check_url(url)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return url


def _output(url: str, info: ValidationInfo) -> str:
    address = _address(url, info)
    if not is_rtsp(address) and Path(address).suffix.lower() not in VIDEO_FILES:
        raise ValueError(f"as a file must end in one of {', '.join(VIDEO_FILES)}, got {redact(url)}")
    return address


def _steps(value: Any) -> int | str:
    if value != "auto" and not (type(value) is int and 1 <= value <= MAX_STEPS):
        raise ValueError(f'must be "auto" or in 1..{MAX_STEPS}, got {value!r}')
    return value  # type: ignore[no-any-return]


def _even(side: int) -> int:
    if side % 2:
        raise ValueError(f"must be even, got {side}")
    return side


FilePath = Annotated[Path, BeforeValidator(_in_folder)]
Address = Annotated[str, AfterValidator(_address)]
Output = Annotated[str, AfterValidator(_output)]
Outputs = Annotated[
    tuple[Output, ...], BeforeValidator(lambda given: [given] if isinstance(given, str) else given)
]
Side = Annotated[int, Field(strict=True, ge=16, le=16384), AfterValidator(_even)]
AtLeast0 = Annotated[int, Field(strict=True, ge=0)]
FacePx = Annotated[int, Field(strict=True, ge=24)]  # a smaller face is never repainted


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RecordingConfig(_Model):
    """Files of ``segment_s`` s each in ``folder``. The oldest are deleted once they are ``max_age_s`` s old
    or all together are larger than ``max_bytes``; None: never."""

    folder: FilePath
    segment_s: Annotated[Number, Field(ge=1, le=86_400)] = 60.0
    max_age_s: Annotated[Number, Field(ge=1)] | None = None
    max_bytes: Annotated[Integer, Field(ge=1_000_000)] | None = None


class EvidenceConfig(_Model):
    """A signed record of the original and the enhanced stream in ``folder``, in segments, as a recording is.
    key_file: Ed25519, PEM."""

    folder: FilePath
    key_file: FilePath
    segment_s: Annotated[Number, Field(ge=1, le=86_400)] = 60.0
    max_age_s: Annotated[Number, Field(ge=1)] | None = None
    max_bytes: Annotated[Integer, Field(ge=1_000_000)] | None = None


class CameraConfig(_Model):
    """One camera.

    url: rtsp://, or a file, which is shown at its own pace, over and over with ``loop``.
    sinks: in the file ``sink``, one or a list: RTSP addresses, video files.
    username_env and password_env or password_file: of the camera; sink_...: of every RTSP sink.
    scale: output over input size; size: (width, height) of the output instead, even; either way what the
    first picture gives stays, whatever size the camera changes to. fidelity: None is the enhancer's default.
    budget_ms: age that a frame is to stay below; None: 2.5 frame intervals, at most 300 ms.
    roi: x, y, width, height in px of the input; faces whose middle is outside are left as they are.
    priority: 0 is the highest; larger numbers give way first when the device is full.
    stall_timeout_s: without a picture for so long, the connection is given up. frozen_timeout_s: with the
    same picture for so long, the camera is shown as frozen, and now and then connected anew.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    url: Annotated[Address, Field(repr=False)]  # may hold a password
    username_env: str | None = None
    password_env: str | None = None
    password_file: FilePath | None = None
    transport: Literal["tcp", "udp"] = "tcp"
    loop: Flag = False
    sinks: Annotated[Outputs, Field(alias="sink", max_length=16, repr=False)] = ()
    sink_username_env: str | None = None
    sink_password_env: str | None = None
    sink_password_file: FilePath | None = None
    scale: Literal[1, 2, 4, 8] = 2
    size: tuple[Side, Side] | None = None
    fidelity: Annotated[Number, Field(ge=0, le=1)] | None = None
    steps: Annotated[int | str, PlainValidator(_steps)] = "auto"
    seed: Annotated[Integer, Field(ge=0, lt=2**32)] = 0
    budget_ms: Annotated[Number, Field(ge=10, le=10_000)] | None = None
    roi: tuple[AtLeast0, AtLeast0, FacePx, FacePx] | None = None
    priority: Annotated[Integer, Field(ge=0, le=100)] = 1
    stall_timeout_s: Annotated[Number, Field(ge=0.5, le=300)] = 5.0
    frozen_timeout_s: Annotated[Number, Field(ge=1, le=86_400)] = 10.0
    enabled: Flag = True
    recording: RecordingConfig | None = None
    evidence: EvidenceConfig | None = None

    def check(self) -> None:
        """Raises KeyedError: nowhere to send to, no such file, a secret or a key that is not there."""
        if not self.sinks and self.recording is None and self.evidence is None:
            raise KeyedError("sink", "is missing: a camera needs a sink, a recording or evidence")
        if not self.is_file:
            if self.loop:
                raise KeyedError("loop", "is for a file, and url is an RTSP address")
        elif not Path(self.url).is_file():
            raise KeyedError("url", f"names {self.url}, which is no file")
        self.source_url()
        self.sink_urls()
        if self.evidence is not None:
            try:
                private_key(self.evidence.key_file)
            except ConfigError as error:
                raise KeyedError("evidence.key_file", f"cannot sign: {error}") from None

    @property
    def is_file(self) -> bool:
        return not is_rtsp(self.url)

    def source_url(self) -> str:
        """The address with its credentials, not to be shown. Raises KeyedError."""
        if self.is_file:
            return self.url
        return authorised(self.url, self.username_env, self.password_env, self.password_file)

    def sink_urls(self) -> tuple[str, ...]:
        """As ``source_url``, of every sink."""
        given = (self.sink_username_env, self.sink_password_env, self.sink_password_file)
        return tuple(authorised(url, *given, "sink_") if is_rtsp(url) else url for url in self.sinks)
