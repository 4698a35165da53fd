"""What an RTSP address looks like; loads no library."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from ..errors import ConfigError, redact

__all__ = ["PORTS", "check_url", "with_credentials"]

PORTS = {"rtsp": 554, "rtsps": 322}


def check_url(url: str) -> None:
    """Raise ConfigError unless ``url`` is rtsp://[user:password@]host[:port][/path]."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a broken IPv6 address
        valid = False
    if not valid:
        raise ConfigError(
            f"an RTSP URL must be rtsp://host[:port]/path, with user:password@ before the host where "
            f"they are wanted (a / in a password is %2F), got {redact(url)}"
        )


def with_credentials(url: str, username: str, password: str) -> str:
    """``url``, which has none, with both before its host."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{quote(username, safe='')}:{quote(password, safe='')}@{rest}"
