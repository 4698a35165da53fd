"""``streamsr enhance`` from and to a real RTSP server, with the packaged weights and a face that moves."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from commands import enhance, error_line, report_of
from helpers import owned_threads, wait_until
from media import moving_portrait, write_video
from rtsp_server import (
    RtspServer,
    free_port,
    live_video,
    looped_pictures,
    publish_in,
    publish_out,
    publishers,
)

from streamsr.errors import SourceError
from streamsr.frame import Frame
from streamsr.io.rtsp import RtspSource

RATE = 10  # slow enough for every face to be restored while the tests share the machine
PASSWORD = "s3cr3t"
ENDED_S = 7.0  # a connection given up ends with FFmpeg's own timeout

pytest_plugins = ["shared_fixtures"]
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No thread of ours, no publisher and no descriptor outlives a test."""
    av.open(os.devnull, format="rawvideo", options={"video_size": "2x2"}).close()  # loads what loads once
    threads = set(threading.enumerate())
    yield
    deadline = time.monotonic() + ENDED_S
    while set(threading.enumerate()) - threads and time.monotonic() < deadline:
        time.sleep(0.05)
    assert set(threading.enumerate()) - threads == set()
    assert owned_threads() == set()
    assert publishers() == []


def _portraits(folder: Path, width: int, height: int) -> str:
    """The pipeline of a server that shows the swaying astronaut for ever."""
    folder.mkdir()
    for index in range(63):  # two periods: the loop has no jump
        picture = moving_portrait(index, width, height)
        cv2.imwrite(str(folder / f"{index:05d}.png"), picture[..., ::-1])
    return looped_pictures(f"{folder}/%05d.png", RATE)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("portraits")
    return {"small": _portraits(folder / "small", 160, 120), "large": _portraits(folder / "large", 240, 180)}


@pytest.fixture(scope="module")
def server(gstreamer: None, pictures: dict[str, str]) -> Iterator[RtspServer]:
    with RtspServer({"/face": pictures["small"]}) as running:
        yield running


@pytest.fixture
def relay(gstreamer: None) -> Iterator[RtspServer]:
    """What is published at /in is shown at /out."""
    with RtspServer({"/out": publish_out("a")}, {"/in": publish_in("a")}) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(gstreamer: None) -> Iterator[RtspServer]:
    """A server that wants a password."""
    with RtspServer(
        {"/live": live_video()}, {"/in": publish_in("a")}, user="ann", password=PASSWORD
    ) as running:
        yield running


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip" / "in.mp4"
    path.parent.mkdir()
    write_video(path, count=32, size=(160, 120), rate=Fraction(RATE), picture_of=moving_portrait)
    return path


def times_s(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return sorted(float(frame.time or 0) for frame in container.decode(video=0))


# -- servers that give nothing


def _refuses(
    source: object, sink: object, says: str, capsys: pytest.CaptureFixture[str], report: Path
) -> str:
    """What was printed and reported, after checking it."""
    assert enhance(source, sink, "--report", report) == 2
    line = error_line(capsys)
    assert says in line
    document = report_of(report)
    assert (document["status"], document["frames_out"]) == ("failed", 0)
    assert f"error: {document['error']}\n" == line
    return line + report.read_text()


def test_nobody_there(tmp_path: Path, clip: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url, report = f"rtsp://127.0.0.1:{free_port()}/x", tmp_path / "report.json"
    assert url in _refuses(url, out / "a.mp4", "refused the connection", capsys, report)
    assert url in _refuses(clip, url, "refused the connection", capsys, report)
    assert list(out.iterdir()) == []


def test_a_wrong_path(
    server: RtspServer, tmp_path: Path, clip: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, report = server.url("/nope"), tmp_path / "report.json"
    assert url in _refuses(url, out / "a.mp4", "no stream at path '/nope' (404)", capsys, report)
    assert url in _refuses(clip, url, "(404)", capsys, report)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("userinfo", "says"),
    [
        (f"bob:{PASSWORD}", "wrong user or password (401)"),
        ("ann:wr0ng-" + PASSWORD, "wrong user or password (401)"),
        ("", "wants a user and a password (401)"),
    ],
    ids=["user", "word", "none"],  # not the words themselves: the folder is named after them
)
def test_a_wrong_password(
    guarded: RtspServer,
    tmp_path: Path,
    clip: Path,
    out: Path,
    userinfo: str,
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, report = guarded.url("/live", userinfo), tmp_path / "report.json"
    said = _refuses(url, out / "a.mp4", says, capsys, report)
    said += _refuses(clip, guarded.url("/in", userinfo), says, capsys, report)
    assert PASSWORD not in said and "bob" not in said
    assert f"127.0.0.1:{guarded.port}/live" in said
    assert list(out.iterdir()) == []


def test_a_right_password_is_not_shown_either(
    guarded: RtspServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, report = tmp_path / "a.mp4", tmp_path / "report.json"
    url = guarded.url("/live", f"ann:{PASSWORD}") + f"?password={PASSWORD}"
    assert enhance(url, output, "--duration", 1, "--report", report) == 0
    stdout, stderr = capsys.readouterr()
    document = report.read_text()
    assert PASSWORD not in stdout + stderr + document
    assert report_of(report)["source"] == f"rtsp://***@127.0.0.1:{guarded.port}/live?password=***"
    assert len(times_s(output)) == report_of(report)["frames_out"] > 0


@pytest.mark.parametrize(
    "url",
    [
        f"rtsp://ann:{PASSWORD}/x@127.0.0.1/live",
        f"rtsp://ann:{PASSWORD}#x@127.0.0.1/live",
        f"rtsp://ann:{PASSWORD}@127.0.0.1:port/live",
        f"http://ann:{PASSWORD}@127.0.0.1/live?token={PASSWORD}",
    ],
    ids=["slash", "hash", "port", "scheme"],
)
def test_secrets_of_an_address_that_is_none(
    url: str, clip: Path, tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    assert enhance(url, out / "a.mp4", "--report", report) == 2
    said = error_line(capsys)
    assert enhance(clip, url, "--report", report) == 2
    said += error_line(capsys) + report.read_text()
    assert enhance(url, out / "a.mp4", url) == 2  # one argument too many
    said += error_line(capsys)
    assert enhance(clip, out / "a.mp4", "--codec", url) == 2
    said += error_line(capsys)
    assert PASSWORD not in said
    assert list(out.iterdir()) == []


def test_a_server_that_is_silent(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"rtsp://127.0.0.1:{listener.getsockname()[1]}/live"
        began = time.monotonic()
        _refuses(url, out / "a.mp4", "did not answer within 5 s", capsys, tmp_path / "report.json")
        assert time.monotonic() - began < 12
    assert list(out.iterdir()) == []


# -- streams that work


def test_a_stream_is_recorded_enhanced(
    server: RtspServer, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, report = out / "a.mp4", tmp_path / "report.json"
    assert enhance(server.url("/face"), output, "--duration", 3, "--report", report) == 0
    document = report_of(report)
    assert (document["status"], document["live"], document["error"]) == ("stopped", True, None)
    assert (document["input_px"], document["output_px"]) == ([160, 120], [320, 240])
    assert document["frames_total"] is None
    assert document["budget_ms"] == pytest.approx(2.5 * 1e3 / RATE)
    taken = document["frames_out"] + document["frames_dropped"]
    assert 3 <= document["frames_out"] <= taken <= document["frames_in"] <= 3 * RATE + 10
    assert document["rungs"]["restored"] > 0 and document["age_ms"]["p50"] > 0
    assert document["stage_ms"].keys() >= {"read", "track", "restore", "net", "encode"}
    times = times_s(output)
    assert len(times) == document["frames_out"]
    steps = np.diff(times) * RATE
    assert np.abs(steps - np.round(steps)).max() < 0.02 and steps.min() > 0.9
    assert times[-1] - times[0] < 4.0
    stdout = capsys.readouterr().out
    assert stdout.startswith(f"{output}: {document['frames_out']} frames of 320x240, ")
    assert "age p50" in stdout and "restored" in stdout


class _Viewer:
    """Watches what goes through a relay, on a thread of its own, and kills the relay at the end.

    The server lets it wait until there is something to see.
    """

    def __init__(self, relay: RtspServer) -> None:
        self._relay = relay
        url = relay.url("/out")
        self.frames: list[Frame] = []
        self.ended = ""
        self._source = RtspSource(url, stall_timeout_s=10, open_timeout_s=15, reconnect=False)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> _Viewer:
        self._thread.start()
        time.sleep(0.5)  # it has asked by then
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._relay.kill()  # at once, where FFmpeg would wait for its own timeout
        self._thread.join()

    def _run(self) -> None:
        try:
            self._source.open()
            while (frame := self._source.read()) is not None:
                self.frames.append(frame)
        except SourceError as error:
            self.ended = str(error)
        finally:
            self._source.close()


@cache
def _stills() -> list[np.ndarray]:
    return [moving_portrait(index, 160, 120) for index in range(63)]


def _shows_the_portrait(frame: Frame) -> bool:
    """Up to its coding; a picture of another moment is 15 and more away."""
    assert frame.image.shape == (240, 320, 3)
    small = cv2.resize(frame.image, (160, 120), interpolation=cv2.INTER_AREA).astype(int)
    return min(np.abs(small - still).mean() for still in _stills()) < 8


def test_a_stream_is_published_enhanced(server: RtspServer, relay: RtspServer, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with _Viewer(relay) as viewer:
        assert enhance(server.url("/face"), relay.url("/in"), "--duration", 3.5, "--report", report) == 0
    document = report_of(report)
    assert (document["status"], document["live"]) == ("stopped", True)
    assert document["frames_out"] > 5
    assert document["restored_share"] > 0
    assert len(viewer.frames) >= 3, viewer.ended
    assert all(map(_shows_the_portrait, viewer.frames))


def test_a_file_is_published_at_its_own_pace(relay: RtspServer, clip: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with _Viewer(relay) as viewer:
        assert enhance(clip, relay.url("/in"), "--report", report) == 0
    document = report_of(report)
    assert (document["status"], document["live"], document["warnings"]) == ("done", True, [])
    assert document["elapsed_s"] > 31 / RATE
    assert 5 < document["frames_out"] <= document["frames_in"] == 32
    assert document["restored_share"] > 0
    assert len(viewer.frames) >= 3, viewer.ended
    assert all(map(_shows_the_portrait, viewer.frames))


def test_a_server_that_comes_back_with_another_size(
    gstreamer: None, pictures: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recording goes on at its own size, what was remembered of the face is gone, and it is said."""
    output, report = tmp_path / "a.mp4", tmp_path / "report.json"
    with RtspServer({"/face": pictures["small"]}) as server:

        def fail() -> None:
            wait_until(lambda: any(tmp_path.iterdir()), 60)  # the recording has begun
            time.sleep(1.0)
            server.kill()
            server.set_play("/face", pictures["large"])
            time.sleep(0.3)
            server.start()

        saboteur = threading.Thread(target=fail)
        saboteur.start()
        try:
            assert enhance(server.url("/face"), output, "--duration", 5, "--report", report) == 0
        finally:
            saboteur.join()
    document = report_of(report)
    assert document["status"] == "stopped"
    assert (document["resolution_changes"], document["cache_resets"]) == (1, 1)
    assert document["warnings"] == [f"{server.url('/face')} was lost and found again, reconnects: 1"]
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert said == [f"warning: {line}" for line in document["warnings"]]
    times = times_s(output)
    assert len(times) == document["frames_out"] > 5
    assert max(np.diff(times)) > 0.5  # the time that was lost stays visible
    assert document["restored_share"] > 0


def test_ctrl_c_finishes_a_recording(server: RtspServer, tmp_path: Path, out: Path) -> None:
    output, report = out / "a.mp4", tmp_path / "report.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "streamsr", "enhance", server.url("/face"), "-o", str(output),
         "--device", "cpu", "--report", str(report)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not any(out.iterdir()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    said = [line for line in stderr.splitlines() if not re.match(r"\d+ s, \d+ frames, .* fps", line)]
    assert (process.returncode, said) == (0, [])
    assert list(out.iterdir()) == [output]
    document = report_of(report)
    assert document["status"] == "stopped"
    assert document["rungs"]["restored"] > 0
    assert len(times_s(output)) == document["frames_out"] > 5
    assert stdout.startswith(f"{output}: {document['frames_out']} frames")
