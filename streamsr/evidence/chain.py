"""The sidecar: lines of JSON, each with the SHA-256 of the one before it, signed now and then.

Canonical JSON, here: UTF-8, keys sorted, no white space, characters beyond ASCII as themselves, numbers as
Python writes them, no NaN; one line, ended by a line feed that no hash covers. ``prev`` is the SHA-256 of
the line before, in hex; of the first line 64 noughts. A line of kind "checkpoint" or "end" bears
``signature``: Ed25519 over the line itself without that key, hence over all lines before it.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["NO_LINE", "Chain", "canonical"]

NO_LINE = "0" * 64  # ``prev`` of a first line


def canonical(record: dict[str, Any]) -> bytes:
    """Raises ValueError for what JSON cannot say (NaN, lone surrogates)."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


class Chain:
    """Appends to a new file. Raises OSError. ``last``: hash of the last line. For one thread."""

    def __init__(self, path: Path, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._file = open(path, "xb", buffering=0)  # noqa: SIM115 - closed by ``close``
        self.last, self.lines = NO_LINE, 0

    def write(self, record: dict[str, Any]) -> None:
        self._append(canonical({**record, "prev": self.last}))

    def sign(self, record: dict[str, Any]) -> None:
        """As ``write``, with a signature; on disk before it returns."""
        signed = {**record, "prev": self.last, "lines": self.lines}
        signature = self._key.sign(canonical(signed)).hex()
        self._append(canonical({**signed, "signature": signature}))
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """May be called twice."""
        self._file.close()

    def _append(self, line: bytes) -> None:
        whole = line + b"\n"
        written = self._file.write(whole)
        if written != len(whole):
            raise OSError(28, "No space left on device")
        self.last = hashlib.sha256(line).hexdigest()
        self.lines += 1
