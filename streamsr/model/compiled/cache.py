"""Compiled networks on disk: a folder for each, named by what it was built from and for.

They are programs. So the cache belongs to one user, and nobody else may write there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ...errors import ConfigError

__all__ = ["EngineCache", "Kept", "default_folder"]

LIMIT_BYTES = 2 * 2**30  # of all of them: some 70
STALE_S = 24 * 3600.0  # a build that was left half done is removed then
_ABOUT = "about.json"
_PARTIAL = ".partial-"

_log = logging.getLogger(__name__)

Key = Mapping[str, str | int | float | bool]


@dataclass(frozen=True)
class Kept:
    """One of them. file: of its folder. said: by its compiler. build_s: what it took."""

    folder: Path
    file: str
    said: str
    build_s: float

    @property
    def path(self) -> Path:
        return self.folder / self.file


def default_folder() -> Path:
    """Raises ConfigError where the user has no home."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "streamsr" / "engines"
    except RuntimeError as error:
        raise ConfigError(f"no cache of engines: {error}") from error


class EngineCache:
    """For any number of processes. folder: made if need be. limit_bytes: beyond it those go that were used
    least lately. Raises ConfigError for a folder that cannot be made or that others can write to."""

    def __init__(self, folder: Path | None = None, limit_bytes: int = LIMIT_BYTES) -> None:
        self.folder = default_folder() if folder is None else folder
        self.limit_bytes = limit_bytes
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.folder.stat()
        except OSError as error:
            raise ConfigError(f"no cache of engines in {self.folder}: {error.strerror}") from error
        if found.st_uid != os.getuid() or found.st_mode & 0o022:
            raise ConfigError(f"the cache of engines {self.folder} must be writable for its user alone")

    def find(self, key: Key) -> Kept | None:
        """None: not there, or it was damaged and is gone now."""
        folder = self._folder_of(key)
        try:
            about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
            kept = Kept(folder, about["file"], about["said"], about["build_s"])
            if about["key"] != dict(key) or about["sha256"] != _sha256(kept.path):
                raise ValueError("another content than it says")
        except FileNotFoundError as error:
            if not folder.exists():
                return None
            self._drop(folder, error)
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._drop(folder, error)
            return None
        with contextlib.suppress(OSError):  # another process may remove it
            os.utime(folder)
        return kept

    def remove(self, kept: Kept, reason: BaseException) -> None:
        """One that does not load."""
        self._drop(kept.folder, reason)

    @contextmanager
    def begun(self) -> Iterator[Path]:
        """A folder to build in; gone after the block unless it was given to ``keep``."""
        folder = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=self.folder))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keep(self, begun: Path, key: Key, file: str, said: str, build_s: float) -> None:
        """What was built in ``begun``, from now on found, whole or not at all."""
        folder = self._folder_of(key)
        kept = Kept(folder, file, said, build_s)
        facts = {name: value for name, value in asdict(kept).items() if name != "folder"}
        about = {"key": dict(key), "sha256": _sha256(begun / file), **facts}
        (begun / _ABOUT).write_text(json.dumps(about, indent=2), encoding="utf-8")
        try:
            os.rename(begun, folder)
        except OSError:
            if self.find(key) is None:  # else another process was first
                os.rename(begun, folder)
        self._sweep(folder)

    def _folder_of(self, key: Key) -> Path:
        return self.folder / hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()[:32]

    def _drop(self, folder: Path, reason: BaseException) -> None:
        _log.warning("a kept engine is damaged and will be built again: %s (%s)", folder.name, reason)
        shutil.rmtree(folder, ignore_errors=True)

    def _sweep(self, newest: Path) -> None:
        """Remove what was left half done, and beyond the limit the oldest, but not ``newest``."""
        total = _size(newest)
        others = [(_used(folder), folder) for folder in self.folder.iterdir() if folder != newest]
        for used, folder in sorted(others, reverse=True):
            partial = folder.name.startswith(_PARTIAL)
            if not partial:
                total += _size(folder)
            if (partial and used < time.time() - STALE_S) or (not partial and total > self.limit_bytes):
                shutil.rmtree(folder, ignore_errors=True)


def _used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:  # another process removed it
        return 0.0


def _size(folder: Path) -> int:
    total = 0
    with contextlib.suppress(OSError):
        total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return total


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
