"""What ``streamsr watch`` is told: one TOML file, checked as a whole; a mistake is named with its line.

```toml
[watch]
listen = "127.0.0.1:9090"  # "" for no HTTP

[[camera]]
name = "gate"
url = "rtsp://10.0.0.5/1"
password_file = "gate.password"
username_env = "GATE_USER"
sink = "rtsp://server/gate"
```

Paths are from the folder of the file. Credentials come from the environment or from files; those in an
address are taken too, and never shown.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
)

from ..errors import ConfigError, redact
from ..io.rtsp_url import PORTS, check_url
from ..session_options import MAX_STEPS
from ..web.listen import Listen
from .credentials import KeyedError, authorised, secret
from .toml_errors import key_of, text_of
from .toml_lines import line_of

__all__ = [
    "CameraConfig",
    "EvidenceConfig",
    "RecordingConfig",
    "WatchConfig",
    "WatchListen",
    "WatchSettings",
    "load",
]

FOLDER = "folder"  # of the file, in the context of its validation
VIDEO_FILES = (".mp4", ".m4v", ".mov", ".mkv", ".avi")
MAX_CAMERAS = 256

Integer = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]


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
    """A signed record of the original and the enhanced stream in ``folder``. key_file: Ed25519, PEM."""

    folder: FilePath
    key_file: FilePath


class CameraConfig(_Model):
    """One camera.

    url: rtsp://, or a file, which is shown at its own pace, over and over with ``loop``.
    sinks: in the file ``sink``, one or a list: RTSP addresses, video files.
    username_env and password_env or password_file: of the camera; sink_...: of every RTSP sink.
    scale: output over input size; size: (width, height) of the output instead, even; either way what the
    first picture gives stays, whatever size the camera changes to. fidelity: None is the enhancer's default.
    budget_ms: age that a frame is to stay below; None: 2.5 frame intervals, at most 150 ms.
    roi: x, y, width, height in px of the input; faces whose middle is outside are left as they are.
    priority: 0 is the highest; larger numbers give way first when the device is full.
    stall_timeout_s: without a picture for so long, the connection is given up.
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
    enabled: Flag = True
    recording: RecordingConfig | None = None
    evidence: EvidenceConfig | None = None

    def check(self) -> None:
        """Raises KeyedError: nowhere to send to, no such file, a secret that is not there."""
        if not self.sinks and self.recording is None and self.evidence is None:
            raise KeyedError("sink", "is missing: a camera needs a sink, a recording or evidence")
        if is_rtsp(self.url):
            if self.loop:
                raise KeyedError("loop", "is for a file, and url is an RTSP address")
        elif not Path(self.url).is_file():
            raise KeyedError("url", f"names {self.url}, which is no file")
        self.source_url()
        self.sink_urls()

    def source_url(self) -> str:
        """The address with its credentials, not to be shown. Raises KeyedError."""
        if not is_rtsp(self.url):
            return self.url
        return authorised(self.url, self.username_env, self.password_env, self.password_file)

    def sink_urls(self) -> tuple[str, ...]:
        """As ``source_url``, of every sink."""
        given = (self.sink_username_env, self.sink_password_env, self.sink_password_file)
        return tuple(authorised(url, *given, "sink_") if is_rtsp(url) else url for url in self.sinks)


class WatchListen(Listen):
    """Where metrics, health and dashboard are served."""

    options: ClassVar[tuple[str, str, str]] = (
        "token_env or token_file",
        "tls_certificate and tls_key",
        "insecure = true",
    )


class WatchSettings(_Model):
    """listen: HOST:PORT of HTTP, "" for none; port 0: any. token_env, token_file: of what has to be sent as
    bearer token, needed with TLS for any address but loopback. threads: of the model process.
    """

    listen: str = "127.0.0.1:9090"
    token_env: str | None = None
    token_file: FilePath | None = None
    tls_certificate: FilePath | None = None
    tls_key: FilePath | None = None
    insecure: Flag = False
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Annotated[Integer, Field(ge=1, le=256)] | None = None
    log: Literal["json", "text"] = "json"

    def http(self) -> WatchListen | None:
        """Where to listen, with the secrets; None: nowhere. Raises KeyedError."""
        if not self.listen:
            return None
        host, colon, port = self.listen.rpartition(":")
        if not (colon and host and port.isascii() and port.isdigit()):
            raise KeyedError("listen", f"must be HOST:PORT, got {self.listen!r}")
        try:
            return WatchListen(
                host=host.removeprefix("[").removesuffix("]"),
                port=int(port),
                token=secret("token", self.token_env, self.token_file),  # type: ignore[arg-type]
                tls_certificate=self.tls_certificate,
                tls_key=self.tls_key,
                insecure=self.insecure,
                hosts=self.hosts,
                origins=self.origins,
            )
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            name = "".join(map(str, first["loc"]))
            raise KeyedError(
                "listen", f"cannot be used: {name} {text_of(first)}".replace("  ", " ")
            ) from None


class WatchConfig(_Model):
    """All of it. cameras: in the order of the file, of different names."""

    watch: WatchSettings = WatchSettings()
    cameras: Annotated[tuple[CameraConfig, ...], Field(alias="camera", min_length=1, max_length=MAX_CAMERAS)]


def load(path: str | os.PathLike[str]) -> WatchConfig:
    """Read and check the file. Raises ConfigError: ``cameras.toml:12: camera.scale must be ...``."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not TOML: it is not UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_not_toml(path, text, str(error))) from None
    try:
        context = {FOLDER: os.path.dirname(os.path.abspath(path))}
        config = WatchConfig.model_validate(document, context=context)
    except ValidationError as error:
        first = error.errors(include_input=True)[0]
        at = first["loc"]
        raise ConfigError(f"{path}:{line_of(text, at)}: {key_of(at)} {text_of(first)}") from None
    for at, trouble in _misfits(config):
        raise ConfigError(f"{path}:{line_of(text, at)}: {key_of(at)} {trouble}")
    return config


def is_rtsp(url: str) -> bool:
    return url.partition("://")[0].lower() in PORTS and "://" in url


def _not_toml(path: str | os.PathLike[str], text: str, reason: str) -> str:
    found = re.search(r" \(at line (\d+), column \d+\)$", reason)
    line = int(found[1]) if found else text.rstrip("\n").count("\n") + 1
    return f"{path}:{line}: not TOML: {reason.partition(' (at ')[0]}"


def _misfits(config: WatchConfig) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What is wrong with values that are right by themselves: the key, and the words after it."""
    try:
        config.watch.http()
    except KeyedError as error:
        yield ("watch", error.key), str(error)
    taken: dict[tuple[str, str], str] = {}
    for index, camera in enumerate(config.cameras):
        try:
            camera.check()
        except KeyedError as error:
            yield ("camera", index, error.key), str(error)
        claims = [("name", camera.name)]
        claims += [("sink", url) for url in camera.sinks]
        for key, table in (("recording", camera.recording), ("evidence", camera.evidence)):
            if table is not None:
                claims.append((key, os.path.realpath(table.folder)))
        for key, claim in claims:
            kind = "name" if key == "name" else "output"
            if (kind, claim) in taken:
                by = "another camera" if key == "name" else f"camera {taken[kind, claim]!r} already"
                yield ("camera", index, key), f"{redact(claim)!r} is taken by {by}"
            taken[kind, claim] = camera.name
