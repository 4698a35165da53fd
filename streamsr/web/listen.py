"""Where a server listens and whom it lets in."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from ..errors import ConfigError

__all__ = ["Listen"]

TOKEN_CHARACTERS = 16  # fewest: about 80 random bits as base32
BACKLOG = 64


class Listen(BaseModel):
    """token: may do everything; view_token: watches only. hosts: names under which clients reach the
    server (IP addresses and localhost always do). origins: of foreign pages that may call it. insecure:
    allow an address that is not loopback without token or TLS.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    options: ClassVar[tuple[str, str, str]] = (
        "token",
        "tls_certificate and tls_key",
        "insecure",
    )  # in messages

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    token: SecretStr | None = None
    view_token: SecretStr | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    insecure: bool = False
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _is_safe(self) -> Listen:
        for name, secret in (("token", self.token), ("view_token", self.view_token)):
            if secret is not None and len(secret.get_secret_value()) < TOKEN_CHARACTERS:
                raise ValueError(f"{name} must have at least {TOKEN_CHARACTERS} characters")
            if secret is not None and not _is_one_word(secret.get_secret_value()):
                raise ValueError(f"{name} must be printable ASCII without spaces")
        if self.view_token is not None and self.token is None:
            raise ValueError("view_token without token: anybody could publish")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together")
        token, tls, insecure = self.options
        missing = [
            option for option, value in ((token, self.token), (tls, self.tls_certificate)) if value is None
        ]
        if missing and not self.insecure and not self.loopback:
            raise ValueError(
                f"{self.host} is open to others: give {' and '.join(missing)}, or {insecure} if you mean it"
            )
        return self

    @property
    def loopback(self) -> bool:
        """Only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def tls(self) -> ssl.SSLContext | None:
        """Raises ConfigError for files that are no certificate and its key."""
        if self.tls_certificate is None or self.tls_key is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.tls_certificate, self.tls_key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"cannot use {self.tls_certificate} and {self.tls_key}: {error.strerror or error}"
            ) from error
        return context

    def bound(self) -> socket.socket:
        """A socket that listens. Raises ConfigError."""
        try:
            family, _, _, _, address = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0]
            return socket.create_server(address[:2], family=family, backlog=BACKLOG)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError(f"cannot listen on {self.host} port {self.port}: {reason}") from error


def _is_one_word(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text
