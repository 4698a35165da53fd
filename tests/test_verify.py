"""Every kind of tampering, each named with its frame; crashes of the writer; nonsense of any kind."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import pytest
from evidence_recording import GOP, line_of, lines, rewrite, sidecar

from streamsr.cli import main
from streamsr.evidence.keys import make_key, public_key
from streamsr.evidence.verify import Problem, SegmentVerdict, verify_segment

pytest_plugins = ["evidence_fixtures", "shared_fixtures"]


def _problem(folder: Path, key: bytes | None = None) -> Problem:
    verdict = verify_segment(sidecar(folder), key)
    assert verdict.problem is not None
    return verdict.problem


def _flip_packet(folder: Path, name: str, number: int) -> None:
    """Change a byte in the middle of a packet of a recording."""
    [path] = [path for path in folder.glob(f"*.{name}.mp4") if path.name.startswith(sidecar(folder).stem)]
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    position, size = packets[number]
    data = bytearray(path.read_bytes())
    data[position + size // 2] ^= 1
    path.write_bytes(data)


# -- the recordings


@pytest.mark.parametrize("name", ["original", "enhanced"])
@pytest.mark.parametrize("frame", [0, 3, GOP - 1])
def test_flipped_byte_in_a_recording(copy, name, frame) -> None:
    _flip_packet(copy, name, frame)
    problem = _problem(copy)
    assert problem.frame == frame and f"of the {name} recording was altered" in problem.what


@pytest.mark.parametrize("name", ["original", "enhanced"])
def test_cut_recording(copy, name) -> None:
    path = sorted(copy.glob(f"*.{name}.mp4"))[0]
    os.truncate(path, path.stat().st_size * 2 // 3)
    problem = _problem(copy)
    assert problem.frame is not None and f"the {name} recording" in problem.what


@pytest.mark.parametrize("name", ["original", "enhanced"])
def test_missing_recording(copy, name) -> None:
    sorted(copy.glob(f"*.{name}.mp4"))[0].unlink()
    problem = _problem(copy)
    assert problem.frame == 0 and "is missing" in problem.what


def test_exchanged_recording(copy) -> None:
    """The original of the next segment in the place of this one's."""
    first, second = sorted(copy.glob("*.original.mp4"))
    shutil.copy(second, first)
    assert _problem(copy).frame == 0


def test_every_byte_of_a_recording_counts(copy) -> None:
    path = sorted(copy.glob("*.enhanced.mp4"))[0]
    whole = path.read_bytes()
    rng = random.Random(1)
    for _ in range(60):
        at = rng.randrange(len(whole))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :])
        assert not verify_segment(sidecar(copy)).ok, f"byte {at} of {len(whole)}"


# -- the sidecar, by someone without the key


@pytest.mark.parametrize("frame", [0, 3, GOP - 1])
def test_altered_line(copy, frame) -> None:
    path = sidecar(copy)
    changed = lines(path)
    at = line_of(path, frame)
    changed[at] = changed[at].replace(b'"nfe":1', b'"nfe":2')
    path.write_bytes(b"\n".join(changed) + b"\n")
    problem = _problem(copy)
    assert problem.frame == frame and "altered" in problem.what


@pytest.mark.parametrize("frame", [0, 3, GOP - 1])
def test_flipped_byte_in_a_line(copy, frame) -> None:
    path = sidecar(copy)
    at = line_of(path, frame)
    rng = random.Random(frame)
    for _ in range(40):
        changed = lines(path)
        where = rng.randrange(len(changed[at]))
        flipped = bytes([changed[at][where] ^ 1 << rng.randrange(7)])
        if flipped == b"\n":
            continue
        changed[at] = changed[at][:where] + flipped + changed[at][where + 1 :]
        target = copy / "tampered.jsonl"
        target.write_bytes(b"\n".join(changed) + b"\n")
        problem = verify_segment(target).problem
        assert problem is not None and problem.frame == frame, changed[at][max(0, where - 20) : where + 20]


@pytest.mark.parametrize("frame", [1, 3, GOP - 2])
def test_removed_line(copy, frame) -> None:
    path = sidecar(copy)
    changed = lines(path)
    del changed[line_of(path, frame)]
    path.write_bytes(b"\n".join(changed) + b"\n")
    problem = _problem(copy)
    assert problem.frame == frame and "missing" in problem.what


def test_removed_line_between_lines_of_frames(copy, recording) -> None:
    """Signed only at the end: the line before and the line after are frames'."""
    path = _signed_at_the_end(copy, recording)
    changed = lines(path)
    del changed[line_of(path, 3)]
    path.write_bytes(b"\n".join(changed) + b"\n")
    problem = _problem(copy)
    assert problem.frame == 3 and "missing" in problem.what


def test_swapped_lines(copy, recording) -> None:
    path = _signed_at_the_end(copy, recording)
    changed = lines(path)
    at = line_of(path, 3)
    changed[at], changed[at + 1] = changed[at + 1], changed[at]
    path.write_bytes(b"\n".join(changed) + b"\n")
    problem = _problem(copy)
    assert problem.frame in (3, 4) and "moved" in problem.what


def _signed_at_the_end(copy: Path, recording: Path) -> Path:
    def thin(records: list[dict]) -> None:
        records[:] = [record for record in records if record["kind"] != "checkpoint"]
        records[-1]["lines"] = len(records) - 1

    rewrite(sidecar(copy), thin, recording / "key.pem")
    assert verify_segment(sidecar(copy)).ok
    return sidecar(copy)


def test_altered_line_with_the_chain_made_anew(copy) -> None:
    path = sidecar(copy)

    def alter(records: list[dict]) -> None:
        next(record for record in records if record.get("index") == 3)["faces"][0]["outcome"] = "bypassed"

    rewrite(path, alter, None)
    problem = _problem(copy)
    assert problem.frame == 3 and "signature" in problem.what


@pytest.mark.parametrize("change", [{"camera": "other"}, {"weights_sha256": "0" * 64}, {"seed": 1}])
def test_forged_header(copy, change) -> None:
    path = sidecar(copy)
    changed = lines(path)
    header = json.loads(changed[0]) | change
    changed[0] = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    path.write_bytes(b"\n".join(changed) + b"\n")
    assert _problem(copy).what == "the header was altered"
    rewrite(path, lambda records: None, None)  # the chain made anew
    assert "signature" in _problem(copy).what


def test_foreign_key(copy, recording, tmp_path) -> None:
    """Everything signed again: in itself it is sound, and only the key tells."""
    make_key(tmp_path / "foreign.pem")
    foreign = public_key(tmp_path / "foreign.pub.pem")

    def claim(records: list[dict]) -> None:
        records[0]["public_key"] = foreign.hex()

    rewrite(sidecar(copy), claim, tmp_path / "foreign.pem")
    assert verify_segment(sidecar(copy)).ok
    assert verify_segment(sidecar(copy), foreign).ok
    assert "signed with another key" in _problem(copy, public_key(recording / "key.pub.pem")).what


def test_signature_of_another_place(copy) -> None:
    path = sidecar(copy)
    changed = lines(path)
    signed = [at for at, line in enumerate(changed) if b'"checkpoint"' in line]
    first, second = json.loads(changed[signed[1]]), json.loads(changed[signed[2]])
    second["signature"] = first["signature"]
    changed[signed[2]] = json.dumps(second, sort_keys=True, separators=(",", ":")).encode()
    path.write_bytes(b"\n".join(changed) + b"\n")
    assert not verify_segment(path).ok


# -- ends


def test_cut_sidecar_is_signed_up_to_a_frame(copy) -> None:
    path = sidecar(copy)
    whole = path.read_bytes()
    for share in (0.3, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        verdict = verify_segment(path)
        assert verdict.problem is not None and "without an end" in verdict.problem.what
        assert 0 < verdict.signed_frames < GOP


def test_cut_exactly_behind_a_signature(copy) -> None:
    path = sidecar(copy)
    kept = lines(path)
    last = max(at for at, line in enumerate(kept) if b'"checkpoint"' in line)
    path.write_bytes(b"\n".join(kept[: last + 1]) + b"\n")
    assert "without an end" in _problem(copy).what


def test_something_behind_the_end(copy) -> None:
    path = sidecar(copy)
    path.write_bytes(path.read_bytes() + b"{")
    assert _problem(copy).what == "something follows its end"
    path.write_bytes(path.read_bytes()[:-1] + lines(path)[1] + b"\n")
    assert not verify_segment(path).ok


def test_removed_segment_and_exchanged_segment(copy, capsys) -> None:
    assert main(["verify", str(copy)]) == 0
    first = sidecar(copy, 1)
    second = json.loads(lines(sidecar(copy, 2))[0])
    assert second["segment"] == 2
    kept = lines(first)
    first.write_bytes(b"\n".join(kept[:-1]) + b"\n")  # unsigned at its end
    capsys.readouterr()
    assert main(["verify", str(copy)]) == 2
    assert "without an end" in capsys.readouterr().err


def test_killed_writer_leaves_a_chain_signed_up_to_a_checkpoint(recording, tmp_path) -> None:
    code = """
import asyncio, sys
from streamsr import Enhancer, Pipeline
from streamsr.evidence import Evidence, Limits
from streamsr.io.file import FileSource
async def run(source, folder, key):
    with Enhancer(device="cpu") as enhancer, Evidence(
        folder, key, camera="gate", limits=Limits(checkpoint_s=0.1)) as evidence:
        read = FileSource(source, tap=evidence.tap, paced=True)
        async with Pipeline(read, evidence.sink(None), evidence.enhancer(enhancer)) as pipeline:
            await pipeline.run()
asyncio.run(run(*sys.argv[1:]))
"""
    from media import moving_portrait, write_video

    source = tmp_path / "long.mp4"
    write_video(source, count=1500, size=(160, 120), picture_of=moving_portrait, options={"g": "50"})
    command = [sys.executable, "-c", code, str(source), str(tmp_path / "e"), str(recording / "key.pem")]
    writer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            found = list((tmp_path / "e").glob("*.jsonl"))
            if found and found[0].read_bytes().count(b'"kind":"checkpoint"') > 4:
                break
            time.sleep(0.02)
        assert writer.poll() is None
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    verdict = verify_segment(sidecar(tmp_path / "e"), public_key(recording / "key.pub.pem"))
    assert verdict.signed_frames > 5
    assert verdict.problem is not None and "signed up to frame" in verdict.problem.what
    assert len(verdict.problems) == 1  # all that was written is as it was written


# -- enhanced again


def test_enhanced_again_it_agrees(copy, recording, capsys) -> None:
    key = str(recording / "key.pub.pem")
    assert main(["verify", str(copy), "--key", key, "--rerun", "--device", "cpu", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] and found["key_checked"]
    for segment in found["segments"]:
        again = segment["rerun"]
        assert (again["frames"], again["exact"], again["not_compared"]) == (GOP, GOP, 0)
        assert again["psnr_y_db"] > 34


@pytest.mark.parametrize(
    ("what", "value"), [("t0", 0.9), ("nfe", 3), ("outcome", "bypassed"), ("size_px", 512)]
)
def test_enhanced_again_a_lie_of_the_signer_is_found(copy, recording, capsys, what, value) -> None:
    def lie(records: list[dict]) -> None:
        next(record for record in records if record.get("index") == 3)["faces"][0][what] = value

    rewrite(sidecar(copy), lie, recording / "key.pem")
    assert main(["verify", str(sidecar(copy)), "--key", str(recording / "key.pub.pem")]) == 0
    capsys.readouterr()
    assert main(["verify", str(sidecar(copy)), "--rerun", "--device", "cpu"]) == 2
    assert f"{sidecar(copy).name}: frame 3: enhanced again" in capsys.readouterr().err


# -- the command, and nonsense


def test_command_says_one_line(copy, recording, capsys) -> None:
    _flip_packet(copy, "original", 5)
    assert main(["verify", str(copy), "--key", str(recording / "key.pub.pem")]) == 2
    out, err = capsys.readouterr()
    assert err == f"error: {sidecar(copy).name}: frame 5: packet 5 of the original recording was altered\n"
    assert out.count("\n") == 1  # the other segment is as it was
    assert main(["verify", str(copy), "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert not found["ok"] and found["segments"][0]["problems"][0]["frame"] == 5


@pytest.mark.parametrize("content", [b"", b"\n", b"{}\n", b"[1]\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n"])
def test_what_is_no_sidecar(tmp_path, content) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    assert not verify_segment(path).ok


def test_header_cannot_name_files_elsewhere(copy) -> None:
    def point(records: list[dict]) -> None:
        records[0]["original"]["file"] = "../../etc/passwd"

    rewrite(sidecar(copy), point, None)
    assert "the header has a wrong" in _problem(copy).what


def test_ten_thousand_mutations_never_crash_and_none_is_sound(copy, recording) -> None:
    def shorten(records: list[dict]) -> None:
        records[:] = [*records[:5], records[-1]]
        for at, record in enumerate(records):
            record.update({"lines": at} if "lines" in record else {})

    target = sidecar(copy)
    rewrite(target, shorten, recording / "key.pem")
    for path in copy.glob("*.mp4"):  # they are not what is mutated
        path.unlink()
    whole = target.read_bytes()
    sound = verify_segment(target).problems
    assert [problem.what.split()[-1] for problem in sound] == ["missing", "missing"]
    rng = random.Random(0)
    for _ in range(10_000):
        mutated = _mutated(whole, rng)
        target.write_bytes(mutated)
        verdict = verify_segment(target)
        assert isinstance(verdict, SegmentVerdict)
        assert mutated == whole or verdict.problems != sound


def _mutated(data: bytes, rng: random.Random) -> bytes:
    """One to three changes of a kind that breaks parsers, chains or types."""
    for _ in range(rng.randint(1, 3)):
        pieces = data.split(b"\n")
        at, piece = rng.randrange(max(1, len(data))), rng.randrange(len(pieces))
        kind = rng.randrange(9)
        if kind == 0:
            data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + rng.randbytes(rng.randint(1, 40)) + data[at:]
        elif kind == 2:
            data = data[:at] + data[at + rng.randint(1, 200) :]
        elif kind == 3:
            del pieces[piece]
            data = b"\n".join(pieces)
        elif kind == 4:
            pieces.insert(rng.randrange(len(pieces)), pieces[piece])
            data = b"\n".join(pieces)
        elif kind == 5:
            rng.shuffle(pieces)
            data = b"\n".join(pieces)
        elif kind == 6:
            data = data[:at]
        else:
            record = _record(pieces[piece])
            if record:
                name = rng.choice(sorted(record))
                values = [None, -1, 10**30, "", "x" * 300, [], {}, [[]], True, 1e308, "\ud800", {"n": None}]
                record[name] = rng.choice(values)
                pieces[piece] = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
                data = b"\n".join(pieces)
    return data


def _record(line: bytes) -> dict:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def test_configuration_that_no_session_has_is_one_line(copy, recording, capsys) -> None:
    def change(records: list[dict]) -> None:
        records[0]["configuration"]["scale"] = 3

    rewrite(sidecar(copy), change, recording / "key.pem")
    assert main(["verify", str(sidecar(copy)), "--rerun", "--device", "cpu"]) == 2
    err = capsys.readouterr().err
    assert "cannot be enhanced again" in err and err.count("\n") == 1


def test_segment_whose_predecessor_is_gone_says_so(copy, capsys) -> None:
    for path in copy.glob(f"{sidecar(copy).stem}*"):
        path.unlink()
    assert main(["verify", str(copy)]) == 0
    assert "what came before it is not here" in capsys.readouterr().out
