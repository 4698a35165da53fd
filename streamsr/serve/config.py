"""What a server is told: addresses, secrets, ICE and limits. One frozen document, from flags or TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from ..errors import ConfigError
from ..session_options import CALL_BUDGET_MS, EngineName
from ..web import Listen

__all__ = ["IceServer", "Limits", "ServeConfig"]

_SERVER = r"[^\s<>\"?,;]+"
_URL_OF_ICE = rf"^(stun:{_SERVER}|turn:{_SERVER}(\?transport=(udp|tcp))?|turns:{_SERVER}(\?transport=tcp)?)$"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class IceServer(_Model):
    """A STUN or TURN server, for this server's own candidates and in the Link header for its clients.

    TURN takes a user and a credential, which every authorised client is told.
    """

    url: Annotated[str, Field(pattern=_URL_OF_ICE)]
    username: str | None = None
    credential: SecretStr | None = None

    @model_validator(mode="after")
    def _turn_has_a_user(self) -> IceServer:
        has_both = self.username is not None and self.credential is not None
        if self.url.startswith("turn") and not has_both:
            raise ValueError(f"{self.url} needs username and credential")
        if self.url.startswith("stun") and (self.username is not None or self.credential is not None):
            raise ValueError(f"{self.url} takes no username or credential")
        return self


class Limits(_Model):
    """What one server, and one client of it, may take.

    sessions: publishers and viewers together. width_px, height_px, fps: of the picture that comes in.
    session_s: length of a session. connect_s: from the answer to the first connection. silence_s: a
    publisher that has sent no picture for so long gives up its stream. takeover_s: the same, while
    someone else asks for its name. header_s, body_s: for a request to arrive.
    """

    sessions: Annotated[int, Field(ge=1, le=1000)] = 16
    streams: Annotated[int, Field(ge=1, le=100)] = 4
    connections: Annotated[int, Field(ge=1)] = 256
    sdp_bytes: Annotated[int, Field(ge=1024, le=2**20)] = 65_536
    body_bytes: Annotated[int, Field(ge=256, le=2**20)] = 8192
    candidates: Annotated[int, Field(ge=1, le=1000)] = 64
    width_px: Annotated[int, Field(ge=16, le=8192)] = 1920
    height_px: Annotated[int, Field(ge=16, le=8192)] = 1080
    fps: Annotated[float, Field(ge=1, le=240)] = 60.0
    session_s: Annotated[float, Field(ge=1)] = 4 * 3600.0
    connect_s: Annotated[float, Field(ge=1)] = 20.0
    silence_s: Annotated[float, Field(ge=1)] = 15.0
    takeover_s: Annotated[float, Field(ge=0.5)] = 3.0
    header_s: Annotated[float, Field(ge=0.1)] = 15.0
    body_s: Annotated[float, Field(ge=0.1)] = 10.0


class ServeConfig(Listen):
    """All of ``streamsr serve``. Wrong combinations raise ConfigError in ``of`` and ``load``.

    token: publishes, watches and controls. udp_ports: first and last port for media. ice_addresses: the
    addresses of this machine that media may use; none: all of them. budget_ms: age that a frame is to
    stay below, if need be by leaving faces as they are.
    """

    options: ClassVar[tuple[str, str, str]] = ("--token", "--tls-cert and --tls-key", "--insecure")

    ice_servers: tuple[IceServer, ...] = ()
    ice_addresses: tuple[str, ...] = ()
    udp_ports: tuple[Annotated[int, Field(ge=1024, le=65535)], Annotated[int, Field(le=65535)]] | None = None
    scale: Literal[1, 2, 4, 8] = 2
    fidelity: Annotated[float, Field(ge=0, le=1)] | None = None
    steps: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    budget_ms: Annotated[float, Field(ge=10, le=2000)] = CALL_BUDGET_MS
    device: Literal["auto", "cpu", "cuda"] = "auto"
    engine: EngineName = "auto"
    limits: Limits = Limits()

    @classmethod
    def load(cls, path: Path | None, flags: Mapping[str, Any]) -> ServeConfig:
        """``flags`` over the TOML file at ``path``, if any. Raises ConfigError."""
        document: dict[str, Any] = {}
        if path is not None:
            try:
                document = tomllib.loads(path.read_text(encoding="utf-8"))
            except OSError as error:
                raise ConfigError(f"cannot read {path}: {error.strerror}") from error
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise ConfigError(f"{path} is not TOML: {error}") from error
        return cls.of(**{**document, **flags})

    @classmethod
    def of(cls, **values: Any) -> ServeConfig:
        """Checked, with one line about the first mistake. Raises ConfigError."""
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            message = first["msg"].removeprefix("Value error, ")
            raise ConfigError(f"{where}: {message}" if where else message) from None

    @model_validator(mode="after")
    def _media_is_possible(self) -> ServeConfig:
        if self.udp_ports is not None and self.udp_ports[0] > self.udp_ports[1]:
            raise ValueError(f"udp_ports must rise, got {self.udp_ports[0]}-{self.udp_ports[1]}")
        for kind in ("stun", "turn"):  # aiortc asks only the first of each
            if sum(server.url.startswith(kind) for server in self.ice_servers) > 1:
                raise ValueError("ice_servers takes at most one STUN and one TURN server")
        return self
