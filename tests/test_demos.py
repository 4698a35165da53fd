"""The scripts in demos/ do what they say."""

import asyncio
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from aiohttp.test_utils import TestClient, TestServer
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription
from media import moving_portrait, write_video
from rtc_peers import PacedTrack

from streamsr.io.file import FileSource

pytest_plugins = ["rtc_fixtures", "shared_fixtures"]

DEMOS = Path(__file__).parent.parent / "demos"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DEMOS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_embed_enhances_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, made = tmp_path / "in.mkv", tmp_path / "out.mkv"
    write_video(given, picture_of=moving_portrait, count=3, size=(256, 192))
    _load("embed").main(str(given), str(made))
    source = FileSource(str(made))
    info = source.open()
    source.close()
    assert (info.width, info.height) == (512, 384)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all("face 0 restored" in line for line in lines)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mkv", "out.mkv"]


async def test_call_filter_answers_a_caller(call_address: None) -> None:
    """Its page, and a call: a 640x360 camera comes back at 1280x720."""
    pictures = [moving_portrait(index, 640, 360) for index in range(25)]
    peer, came = RTCPeerConnection(), asyncio.get_running_loop().create_future()
    peer.on("track", lambda track: came.set_result(track))
    peer.addTrack(PacedTrack(lambda index: pictures[index % 25]))
    async with TestClient(TestServer(_load("call_filter").application())) as client:
        page = await client.get("/")
        assert page.status == 200 and "getUserMedia" in await page.text()
        await peer.setLocalDescription(await peer.createOffer())
        answer = await client.post("/offer", data=peer.localDescription.sdp)
        sdp = await answer.text()
        assert "x-google-start-bitrate=2500" in sdp
        await peer.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
        track: MediaStreamTrack = await came
        async with asyncio.timeout(20):
            pictures_back = [await track.recv() for _ in range(10)]
        assert {(picture.width, picture.height) for picture in pictures_back} == {(1280, 720)}
        await peer.close()


def test_watch_sends_cameras_through_and_back(gstreamer: None, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(DEMOS / "watch.py"), "--cameras", "2", "--seconds", "2"],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    for camera in ("camera1", "camera2"):
        assert f"{camera} streaming" in done.stdout, done.stdout
    assert done.stdout.count("before     rtsp://") == done.stdout.count("after      rtsp://") == 2
    assert list(tmp_path.iterdir()) == []
