"""Fixtures of more than one test file; a file takes them in with ``pytest_plugins``."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import rtsp_server
from helpers import owned_threads
from media import COUNT, FACE_PX, moving_portrait, write_video


@pytest.fixture
def no_thread_and_no_process() -> Iterator[None]:
    threads, children = set(threading.enumerate()), _children()
    yield
    assert owned_threads() == set()
    assert set(threading.enumerate()) - threads == set()
    assert _children() - children == set()


def _children() -> set[str]:
    tasks = Path("/proc/self/task").glob("*/children")
    return {child for task in tasks for child in task.read_text().split()}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Without a face, in a folder of its own."""
    path = tmp_path / "clip" / "in.mp4"
    path.parent.mkdir()
    write_video(path, count=12, size=(64, 48))
    return path


@pytest.fixture(scope="module")
def face_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("face") / "face.mp4"
    write_video(path, count=COUNT, size=FACE_PX, picture_of=moving_portrait, options={"crf": "20"})
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An empty folder: whatever is left behind is seen in it."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB."""
    yield from _disk(tmp_path / "tiny", "200k")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    yield from _disk(tmp_path / "small", "8m")


def _disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True
    )
    if made.returncode:
        pytest.skip(f"cannot mount a tmpfs: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="session")
def gstreamer() -> None:
    """For tests that need the RTSP server; in CI a skip is a failure."""
    reason = rtsp_server.missing()
    if reason:
        pytest.skip(reason)
