"""A private temporary folder, and the end of those that a killed process left behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["named_folder", "own_folder", "path_of"]

PREFIX = "streamsr-watch-"
LOCK = "lock"


@contextmanager
def own_folder() -> Iterator[Path]:
    """Nobody else can look into it; gone after the block, or when the next one is made."""
    _sweep()
    with _kept(Path(tempfile.mkdtemp(prefix=PREFIX))) as folder:
        yield folder


@contextmanager
def named_folder(name: str) -> Iterator[Path]:
    """The same, as ``path_of(name)``, for who knows the name; nobody can guess it. One that is left is taken
    over."""
    _sweep()
    folder = path_of(name)
    folder.mkdir(mode=0o700, exist_ok=True)
    with _kept(folder):
        yield folder


def path_of(name: str) -> Path:
    """On the machine where this is called."""
    return Path(tempfile.gettempdir(), PREFIX + name)


@contextmanager
def _kept(folder: Path) -> Iterator[Path]:
    try:
        with open(folder / LOCK, "w", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    """Remove folders of this user whose owner has gone without doing so."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, not locked yet, or in use
            if folder.stat().st_uid != os.getuid():
                continue
            with open(folder / LOCK, "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
