"""Evidence of live cameras, against a real RTSP server: codecs, a lost connection, words in the output."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack

import av
import pytest
from evidence_recording import lines, sidecar
from media import moving_portrait
from PIL import Image
from rtsp_server import RtspServer, live_video, looped_pictures, publish_in, publish_out

from streamsr import Pipeline
from streamsr.cli import main
from streamsr.evidence import Evidence, Limits
from streamsr.evidence.verify import sidecars, verify_links, verify_segment
from streamsr.io.nal import Framing, read_sei
from streamsr.io.rtsp import RtspSource
from streamsr.io.rtsp_sink import RtspSink

pytest_plugins = ["evidence_fixtures", "shared_fixtures"]
pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def serve(gstreamer):
    with ExitStack() as servers:
        yield lambda *args, **kwargs: servers.enter_context(RtspServer(*args, **kwargs))


async def _record(url, folder, key, enhancer, seconds, *, sink=None, limits=None, meanwhile=None):
    with Evidence(folder, key, camera="gate", limits=limits) as evidence:
        source = RtspSource(url, tap=evidence.tap, stall_timeout_s=1.5, open_timeout_s=8)
        output = evidence.sink(sink(evidence.sei) if sink is not None else None)
        async with Pipeline(source, output, evidence.enhancer(enhancer)) as pipeline:
            running = asyncio.create_task(pipeline.run())
            if meanwhile is not None:
                await meanwhile()
            await asyncio.sleep(seconds)
            pipeline.stop()
            return await running, evidence


@pytest.mark.parametrize("codec", ["h264", "h265", "mjpeg"])
def test_every_codec_of_a_camera(serve, recording, enhancer, tmp_path, codec) -> None:
    server = serve({"/live": live_video(codec=codec)})
    limits = Limits(segment_s=1.0, checkpoint_s=0.2)
    work = _record(server.url("/live"), tmp_path / "e", recording / "key.pem", enhancer, 3.0, limits=limits)
    report, evidence = asyncio.run(work)
    verdicts = [verify_segment(path) for path in sidecars(tmp_path / "e")]
    verify_links(verdicts)
    assert [verdict.problem for verdict in verdicts] == [None] * len(verdicts)
    assert len(verdicts) >= 2
    assert sum(verdict.frames for verdict in verdicts) == report.frames_out
    assert evidence.statistics().unrecorded == 0


def test_lost_and_found_again_is_a_new_segment(serve, recording, enhancer, tmp_path) -> None:
    server = serve({"/live": live_video()})

    async def lose() -> None:
        await asyncio.sleep(1.5)
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(server.start)
        await asyncio.sleep(4)

    work = _record(server.url("/live"), tmp_path / "e", recording / "key.pem", enhancer, 1.5, meanwhile=lose)
    asyncio.run(work)
    verdicts = [verify_segment(path) for path in sidecars(tmp_path / "e")]
    verify_links(verdicts)
    assert len(verdicts) == 2
    assert all(verdict.ok and verdict.frames for verdict in verdicts), [v.problem for v in verdicts]


def test_live_recording_enhanced_again(serve, recording, enhancer, tmp_path, capsys) -> None:
    """A face that sways, with frames dropped and rungs taken as they come on this machine."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for index in range(25):
        Image.fromarray(moving_portrait(index, 160, 120)).save(pictures / f"{index:05d}.png")
    server = serve({"/live": looped_pictures(f"{pictures}/%05d.png")})
    limits = Limits(segment_s=2.0, checkpoint_s=0.5)
    work = _record(server.url("/live"), tmp_path / "e", recording / "key.pem", enhancer, 4.0, limits=limits)
    report, _ = asyncio.run(work)
    assert report.rungs["restored"] > 0
    assert main(["verify", str(tmp_path / "e"), "--rerun", "--device", "cpu", "--json"]) == 0
    again = [segment["rerun"] for segment in json.loads(capsys.readouterr().out)["segments"]]
    compared = sum(segment["frames"] for segment in again)
    assert compared + sum(segment["not_compared"] for segment in again) == report.frames_out
    assert compared > 0
    assert sum(segment["exact"] for segment in again) == compared


def test_published_pictures_say_what_they_are(serve, recording, enhancer, tmp_path) -> None:
    server = serve({"/live": live_video(), "/out": publish_out("a")}, {"/in": publish_in("a")})
    said: list[dict] = []

    def watch() -> None:
        options = {"rtsp_transport": "tcp"}
        with av.open(server.url("/out"), format="rtsp", options=options, timeout=8) as container:
            framing = Framing("h264", None)
            for packet in container.demux(video=0):
                text = read_sei(framing.units(bytes(packet))) if packet.size else None
                said.append(json.loads(text) if text is not None else {})
                if len(said) == 20:
                    return

    async def look() -> None:
        await asyncio.sleep(1)
        await asyncio.to_thread(watch)

    def publish(sei):
        return RtspSink(server.url("/in"), sei=sei)

    work = _record(
        server.url("/live"),
        tmp_path / "e",
        recording / "key.pem",
        enhancer,
        0.5,
        sink=publish,
        meanwhile=look,
    )
    asyncio.run(work)
    header = json.loads(lines(sidecar(tmp_path / "e"))[0])
    indices = [each["index"] for each in said]
    assert indices == sorted(set(indices)) and len(indices) == 20
    assert {each["recording"] for each in said} == {header["recording"]}
    assert {each["weights"] for each in said} == {enhancer.model_sha256}
