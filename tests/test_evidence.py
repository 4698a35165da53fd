"""Evidence mode on real files, pipelines and weights: what is recorded, and that it says what happened."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from evidence_recording import COUNT, EACH_KEYFRAME, GOP, SIZE, lines, record, sidecar
from helpers import MemorySource, frames, make_frame
from media import moving_picture, read_all, write_video

from streamsr import Pipeline
from streamsr.clock import MONOTONIC
from streamsr.errors import ConfigError, SinkError
from streamsr.evidence import Evidence, Limits
from streamsr.evidence.intake import Arrived, Intake
from streamsr.evidence.keys import make_key, private_key, public_key
from streamsr.evidence.mark import draw_mark
from streamsr.evidence.verify import verify_segment
from streamsr.io.file import FileSource
from streamsr.io.nal import SEI_UUID, Framing, read_sei, with_sei

pytest_plugins = ["evidence_fixtures", "shared_fixtures"]


def _packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def _media(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"*.{name}.mp4"))


# -- what is recorded


def test_recording_verifies_and_each_segment_alone(recording) -> None:
    key = public_key(recording / "key.pub.pem")
    for number in (1, 2):
        verdict = verify_segment(sidecar(recording / "gate", number), key)
        assert verdict.ok, verdict.problem
        assert (verdict.frames, verdict.dropped, verdict.signed_frames) == (GOP, 0, GOP)
        assert verdict.unsigned_lines == 0


def test_original_has_the_packets_and_decodes_to_the_pictures_that_were_seen(recording) -> None:
    recorded = [packet for path in _media(recording / "gate", "original") for packet in _packets(path)]
    assert recorded == _packets(recording / "in.mp4")
    again = [frame for path in _media(recording / "gate", "original") for frame in read_all(path)]
    seen = [json.loads(line) for number in (1, 2) for line in lines(sidecar(recording / "gate", number))]
    hashes = [line["input"]["sha256"] for line in seen if line["kind"] == "frame"]
    assert [hashlib.sha256(frame.image).hexdigest() for frame in again] == hashes


def test_every_enhanced_picture_says_what_it_is(recording, enhancer) -> None:
    """Read by FFmpeg's own decoder, not by the code that wrote it."""
    said = []
    for path in _media(recording / "gate", "enhanced"):
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                notes = [bytes(each) for each in frame.side_data if each.type.name == "SEI_UNREGISTERED"]
                ours = [note[16:] for note in notes if note[:16] == SEI_UUID.bytes]
                assert len(ours) == 1
                said.append(json.loads(ours[0]))
    assert [each["index"] for each in said] == list(range(COUNT))
    assert {each["weights"] for each in said} == {enhancer.model_sha256}
    header = json.loads(lines(sidecar(recording / "gate"))[0])
    assert {each["recording"] for each in said} == {header["recording"]}


def test_every_enhanced_picture_bears_the_mark(recording) -> None:
    height, width = 2 * SIZE[1], 2 * SIZE[0]
    blank = np.full((height, width, 3), 128, np.uint8)
    where = np.any(draw_mark(blank) != blank, axis=-1)
    expected = draw_mark(blank)[where].astype(float)
    for path in _media(recording / "gate", "enhanced"):
        for frame in read_all(path):
            assert np.corrcoef(frame.image[where].ravel(), expected.ravel())[0, 1] > 0.95


def test_header_and_lines_say_what_was_done(recording, enhancer) -> None:
    header, *rest = [json.loads(line) for line in lines(sidecar(recording / "gate"))]
    assert header["weights_sha256"] == enhancer.model_sha256
    assert header["configuration"] == {"scale": 2, "fidelity": 0.4, "steps": "auto", "seed": 0}
    assert "not evidence of identity" in header["statement"]
    assert header["public_key"] == public_key(recording / "key.pub.pem").hex()
    frame = next(line for line in rest if line["kind"] == "frame" and line["index"] == 3)
    assert frame["faces"][0]["outcome"] == "restored" and frame["faces"][0]["t0"] > 0
    assert frame["certificate"]["rms"] <= frame["certificate"]["rms_before"]
    assert len(frame["packets"]) == len(frame["enhanced"]["packets"]) == 1


def test_segments_are_chained(recording) -> None:
    last = hashlib.sha256(lines(sidecar(recording / "gate", 1))[-1]).hexdigest()
    assert json.loads(lines(sidecar(recording / "gate", 2))[0])["previous"] == last


def test_live_drops_are_named_and_every_packet_has_a_line(recording, enhancer, tmp_path) -> None:
    fast = tmp_path / "fast.mp4"
    write_video(fast, count=60, size=SIZE, rate=Fraction(1000), options={"g": "20"})
    report, figures = record(fast, tmp_path / "e", recording / "key.pem", enhancer, live=True)
    found = [json.loads(line) for line in lines(sidecar(tmp_path / "e"))]
    kinds = {kind: [line["index"] for line in found if line["kind"] == kind] for kind in ("frame", "dropped")}
    assert report.frames_dropped > 0 and figures.unrecorded == 0
    assert len(kinds["frame"]) == report.frames_out == figures.frames
    assert sorted(kinds["frame"] + kinds["dropped"]) == list(range(60))
    verdict = verify_segment(sidecar(tmp_path / "e"))
    assert verdict.ok, verdict.problem


@pytest.mark.parametrize(
    ("suffix", "codec", "pixel_format", "options"),
    [
        (".ts", "libx264", "yuv420p", {"bf": "2", "g": "10"}),
        (".mkv", "libx265", "yuv420p", {"g": "10", "x265-params": "log-level=none"}),
        (".mkv", "mjpeg", "yuvj420p", {}),
    ],
)
def test_other_codecs(tmp_path, recording, enhancer, suffix, codec, pixel_format, options) -> None:
    source = tmp_path / f"in{suffix}"
    write_video(source, count=24, size=(64, 48), codec=codec, pixel_format=pixel_format, options=options)
    record(source, tmp_path / "e", recording / "key.pem", enhancer)
    verdict = verify_segment(sidecar(tmp_path / "e"))
    assert verdict.ok, verdict.problem
    assert verdict.frames == 24
    found = [json.loads(line) for line in lines(sidecar(tmp_path / "e"))]
    assert [len(line["packets"]) for line in found if line["kind"] == "frame"] == [1] * 24
    [original] = _media(tmp_path / "e", "original")
    hashes = [line["input"]["sha256"] for line in found if line["kind"] == "frame"]
    assert [hashlib.sha256(frame.image).hexdigest() for frame in read_all(original)] == hashes


@pytest.mark.parametrize("room", [True, False])
def test_packets_of_a_picture_that_nobody_takes_are_named_all_the_same(tmp_path, room) -> None:
    """As at the end: the packet was taken, and the recorder closes before its picture comes."""
    write_video(tmp_path / "in.mp4", count=6, size=SIZE)
    intake = Intake(lambda event, size: room or isinstance(event, Arrived), 60.0, MONOTONIC)
    with av.open(str(tmp_path / "in.mp4")) as container:
        connection = intake.begin(container.streams.video[0])
        for index, packet in enumerate(packet for packet in container.demux(video=0) if packet.size):
            intake.packet(connection, packet)
            intake.picture(connection, index, packet.pts)
    assert len(intake.unshown(1)) == (0 if room else 6)
    assert intake.unshown(1) == []


def test_old_segments_are_deleted_whole(recording, enhancer, tmp_path) -> None:
    limits = Limits(segment_s=1e-9, checkpoint_s=0.0, max_bytes=1)
    record(recording / "in.mp4", tmp_path / "e", recording / "key.pem", enhancer, limits=limits)
    assert len(list((tmp_path / "e").iterdir())) == 3
    assert verify_segment(sidecar(tmp_path / "e")).ok


# -- what cannot be recorded


def test_source_without_packets_is_refused(recording, enhancer, tmp_path) -> None:
    async def run() -> None:
        with Evidence(tmp_path / "e", recording / "key.pem", camera="gate") as evidence:
            sink = evidence.sink(None, live=False)
            async with Pipeline(MemorySource(frames(3)), sink, evidence.enhancer(enhancer)) as pipeline:
                await pipeline.run()

    with pytest.raises(SinkError, match="wants an RTSP source or a video file"):
        asyncio.run(run())


def test_enhancer_of_its_own_is_missed(recording, enhancer, tmp_path) -> None:
    async def run() -> None:
        with Evidence(tmp_path / "e", recording / "key.pem", camera="gate") as evidence:
            source = FileSource(str(recording / "in.mp4"), tap=evidence.tap)
            async with Pipeline(source, evidence.sink(None, live=False), enhancer) as pipeline:
                await pipeline.run()

    with pytest.raises(SinkError, match="its own enhancer"):
        asyncio.run(run())


def test_avi_is_refused(recording, enhancer, tmp_path) -> None:
    write_video(tmp_path / "in.avi", count=4)
    with pytest.raises(SinkError, match="AVI does not say"):
        record(tmp_path / "in.avi", tmp_path / "e", recording / "key.pem", enhancer)


def test_full_disk_ends_a_file(recording, enhancer, tiny_disk) -> None:
    source = tiny_disk.parent / "noise.mp4"
    write_video(source, count=40, size=(160, 120), picture_of=_noise, options={"crf": "10"})
    with pytest.raises(SinkError, match="No space left"):
        record(source, tiny_disk / "e", recording / "key.pem", enhancer)


def test_full_disk_of_a_live_stream_is_said_and_the_stream_goes_on(recording, enhancer, tiny_disk) -> None:
    source = tiny_disk.parent / "noise.mp4"
    write_video(source, count=40, size=(160, 120), picture_of=_noise, options={"crf": "10"})
    report, figures = record(source, tiny_disk / "e", recording / "key.pem", enhancer, live=True)
    assert report.frames_out > 0
    assert figures.unrecorded > 0 and "No space left" in (figures.error or "")
    assert any("No space left" in warning for warning in report.warnings)


def test_room_again_on_the_disk_begins_a_segment_that_names_the_gap(recording, enhancer, tiny_disk) -> None:
    source = tiny_disk.parent / "slow.mp4"
    write_video(source, count=100, size=(64, 48), rate=Fraction(12), options={"g": "6"})
    ballast = tiny_disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    timer = threading.Timer(2.0, ballast.unlink)
    timer.start()
    _, figures = record(source, tiny_disk / "e", recording / "key.pem", enhancer, live=True)
    timer.join()
    assert figures.error is None and figures.frames > 0 and figures.unrecorded > 0
    verdicts = [verify_segment(path) for path in sorted((tiny_disk / "e").glob("*.jsonl"))]
    [sound] = [verdict for verdict in verdicts if verdict.ok]
    assert sound.frames == figures.frames
    assert sound.gap is not None and "No space left" in sound.gap["reason"]
    assert sound.gap["frames_unrecorded"] == figures.unrecorded
    stems = {path.name.split("Z-")[0] for path in (tiny_disk / "e").iterdir()}
    assert len(stems) <= 2  # what could not be begun leaves nothing


def _noise(index: int, width: int, height: int) -> np.ndarray:
    return np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)


# -- keys


def test_a_key_is_its_owners_alone(tmp_path) -> None:
    public, found = make_key(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    assert public == tmp_path / "key.pub.pem"
    assert hashlib.sha256(public_key(public)).hexdigest() == found
    (tmp_path / "key.pem").chmod(0o644)
    with pytest.raises(ConfigError, match="others may read"):
        private_key(tmp_path / "key.pem")


def test_keys_are_never_replaced(tmp_path) -> None:
    make_key(tmp_path / "key.pem")
    before = (tmp_path / "key.pem").read_bytes()
    with pytest.raises(ConfigError, match="exists"):
        make_key(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").read_bytes() == before


@pytest.mark.parametrize(
    "content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----\n"]
)
def test_what_is_no_key(tmp_path, content) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError):
        private_key(path)
    with pytest.raises(ConfigError):
        public_key(path)


def test_evidence_refuses_at_once(tmp_path) -> None:
    with pytest.raises(ConfigError, match="cannot read the key"):
        Evidence(tmp_path / "e", tmp_path / "none.pem", camera="gate")
    make_key(tmp_path / "key.pem")
    with pytest.raises(ConfigError, match="name"):
        Evidence(tmp_path / "e", tmp_path / "key.pem", camera="../gate")


# -- NAL units and the mark


def test_sei_comes_back_with_any_text() -> None:
    packet = b"\0\0\0\1\x67\x42" + b"\0\0\1\x68\xce" + b"\0\0\1\x65\x88\x84\0\0\3\0\x80"
    for text in ("", "a" * 1000, 'zeros "\0\0\0\1\0\0\2" inside', "ü"):
        marked = with_sei(packet, text)
        units = Framing("h264", None).units(marked)
        assert read_sei(units) == text
        assert [unit[0] & 31 for unit in units] == [7, 8, 6, 5]
        assert [unit for unit in units if unit[0] & 31 != 6] == Framing("h264", None).units(packet)


def test_both_framings_give_the_same_units() -> None:
    units = [b"\x67\x42\x01", b"\x68\xce", b"\x65" + bytes(range(1, 200))]
    annex_b = b"".join(b"\0\0\0\1" + unit for unit in units)
    lengths = b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)
    assert Framing("h264", None).units(annex_b) == units
    assert Framing("h264", b"\1\x42\0\x1e\xff").units(lengths) == units
    assert Framing("mjpeg", None).units(b"\xff\xd8") == [b"\xff\xd8"]


@pytest.mark.parametrize(("width", "height"), [(2, 2), (33, 17), (320, 240), (1280, 720), (3840, 2160)])
def test_mark_is_small_and_leaves_the_original_array_alone(width, height) -> None:
    image = make_frame(width, height).image
    before = image.copy()
    marked = draw_mark(image)
    assert np.array_equal(image, before) and marked.shape == image.shape
    if height >= 240:
        changed = np.any(marked != image, axis=-1)
        assert 0 < changed.mean() < 0.03
        assert not changed[: height // 2].any()
        assert (marked[changed] > 200).any() and (marked[changed] < 50).any()


def test_a_moving_picture_without_a_face_is_recorded_too(tmp_path, recording, enhancer) -> None:
    write_video(tmp_path / "in.mp4", count=6, picture_of=moving_picture)
    record(tmp_path / "in.mp4", tmp_path / "e", recording / "key.pem", enhancer, limits=EACH_KEYFRAME)
    assert verify_segment(sidecar(tmp_path / "e")).ok
