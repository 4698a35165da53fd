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
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import ConfigError, redact
from ..session_options import EngineName
from ..web.listen import Listen
from .camera_config import FOLDER, CameraConfig, FilePath, Flag, Integer, Number
from .credentials import KeyedError, secret
from .toml_errors import key_of, text_of
from .toml_lines import line_of

__all__ = ["CameraConfig", "RaySettings", "WatchConfig", "WatchListen", "WatchSettings", "load"]

MAX_CAMERAS = 256


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WatchListen(Listen):
    """Where metrics, health and dashboard are served."""

    options: ClassVar[tuple[str, str, str]] = (
        "token_env or token_file",
        "tls_certificate and tls_key",
        "insecure = true",
    )


class RaySettings(_Model):
    """Of ``--ray``. address: of the cluster, HOST:PORT; None: RAY_ADDRESS of the environment, else the
    cluster that runs on this machine.

    cpus_per_camera: that a machine has to have free for a camera; for the model process beside it, too.
    gpus_per_camera: the same of a GPU, whose cameras share a model process on it; 0: no GPU is used.
    """

    address: Annotated[str, Field(pattern=r"^[^\s/@]+:[0-9]{1,5}$")] | None = None
    cpus_per_camera: Annotated[Number, Field(ge=0, le=64)] = 0.25
    gpus_per_camera: Annotated[Number, Field(ge=0, le=1)] = 0.0


class WatchSettings(_Model):
    """listen: HOST:PORT of HTTP, "" for none; port 0: any. token_env, token_file: of what has to be sent as
    bearer token, needed with TLS for any address but loopback. threads: of the model process, by
    default half of the CPUs: cameras decode, track and encode on the others.
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
    engine: EngineName = "auto"
    threads: Annotated[Integer, Field(ge=1, le=256)] | None = None
    log: Literal["json", "text"] = "json"
    ray: RaySettings = RaySettings()

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
            yield ("camera", index, *error.key.split(".")), str(error)
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
