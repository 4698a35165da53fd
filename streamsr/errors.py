"""Every error streamsr raises on purpose.

StreamSRError
├── ConfigError       an option or configuration value is wrong
├── SourceError       a source cannot be opened or has died (carries ``url``)
│   └── DecodeError   a source opened but its pictures cannot be decoded
├── SinkError         an output cannot be opened, written or finished (carries ``url``)
│   └── DiskFullError its disk has no room
├── FrameError        a picture has the wrong shape, dtype or size
├── ModelError        weights are missing, altered or do not fit; a tensor has the wrong shape
├── KernelError       a CUDA kernel cannot be compiled or launched
└── DeviceError       the device asked for is not there

Messages are one line, say what was expected and what was found, and never carry a password.
"""

from __future__ import annotations

import re

__all__ = [
    "ConfigError",
    "DecodeError",
    "DeviceError",
    "DiskFullError",
    "FrameError",
    "KernelError",
    "ModelError",
    "SinkError",
    "SourceError",
    "StreamSRError",
    "redact",
]

# up to the last @: who types a password with a "/" in it has no URL, but still has a secret
_USERINFO = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)\S*@")
_QUERY = re.compile(r"(?i)(?<=[?&])((?:user|pass|pwd|auth|token|key|secret)[^=&\s]*)=(?!\*\*\*)[^&#\s]*")


def redact(text: str) -> str:
    """Replace the ``user:password@`` of every URL in ``text`` by ``***@``, and of its query what some
    cameras take there instead (``?user=ann&password=s3cret``)."""
    return _QUERY.sub(r"\1=***", _USERINFO.sub(r"\g<scheme>***@", text))


class StreamSRError(Exception):
    """Base of all errors raised on purpose; its text is one line fit to show to a user."""

    def __str__(self) -> str:
        return redact(" ".join(super().__str__().split()))


class ConfigError(StreamSRError):
    """An option or configuration value is wrong."""


class _UrlError(StreamSRError):
    def __init__(self, message: str, url: str) -> None:
        super().__init__(message)
        self.url = redact(url)

    def __str__(self) -> str:
        text = super().__str__()
        return text if self.url in text else f"{self.url}: {text}"


class SourceError(_UrlError):
    """A source cannot be opened or has died."""


class DecodeError(SourceError):
    """A source opened but its pictures cannot be decoded."""


class SinkError(_UrlError):
    """An output cannot be opened, written or finished."""


class DiskFullError(SinkError):
    """Its disk has no room."""


class FrameError(StreamSRError):
    """A picture has the wrong shape, dtype or size."""


class ModelError(StreamSRError):
    """Weights are missing, altered or do not fit; a tensor has the wrong shape."""


class KernelError(StreamSRError):
    """A CUDA kernel cannot be compiled or launched."""


class DeviceError(StreamSRError):
    """The device asked for is not there."""
