"""Evidence of ``streamsr watch``, in real processes."""

from __future__ import annotations

import json
import os
import signal
from fractions import Fraction

import pytest
from evidence_recording import lines
from media import moving_portrait, write_video
from watch_process import WatchProcess, camera

from streamsr.cli import main
from streamsr.evidence.keys import make_key, public_key
from streamsr.evidence.verify import sidecars, verify_segment

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def gate(tmp_path):
    """A camera with evidence, in segments of 1 s: the text of its configuration."""
    make_key(tmp_path / "key.pem")
    source = tmp_path / "in.mp4"
    write_video(
        source, count=300, size=(160, 120), rate=Fraction(10), picture_of=moving_portrait, options={"g": "10"}
    )
    text = camera("gate", source, loop=True, budget_ms=2000)
    return f'{text}[camera.evidence]\nfolder = "evidence"\nkey_file = "key.pem"\nsegment_s = 1.0\n'


def test_segments_verify_and_agree_when_enhanced_again(tmp_path, gate, capsys) -> None:
    with WatchProcess(tmp_path / "cameras.toml", gate) as watch:
        watch.until(
            lambda now: (
                now["by_name"]["gate"]["rungs"].get("restored", 0) > 10
                and now["by_name"]["gate"]["frames_out"] > 25  # of 1 s each, more than one segment
            )
        )
        assert watch.stop() == 0
    key = str(tmp_path / "key.pub.pem")
    command = ["verify", str(tmp_path / "evidence"), "--key", key, "--rerun", "--device", "cpu", "--json"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)["segments"]
    assert len(found) > 1 and {segment["camera"] for segment in found} == {"gate"}
    assert sum(segment["rerun"]["frames"] for segment in found) > 0
    header = json.loads(lines(sidecars(tmp_path / "evidence")[0])[0])
    assert header["configuration"]["on_motion"] is True


def test_killed_camera_leaves_what_it_signed(tmp_path, gate) -> None:
    with WatchProcess(tmp_path / "cameras.toml", gate.replace("1.0", "600.0")) as watch:
        now = watch.until(lambda now: now["by_name"]["gate"]["frames_out"] > 30)
        os.kill(now["by_name"]["gate"]["process_id"], signal.SIGKILL)
        watch.until(lambda now: now["by_name"]["gate"]["restarts"] and now["by_name"]["gate"]["frames_out"])
        assert watch.stop() == 0
    key = public_key(tmp_path / "key.pub.pem")
    verdicts = [verify_segment(path, key) for path in sidecars(tmp_path / "evidence")]
    killed, *later = [verdict for verdict in verdicts if not verdict.ok]
    assert not later and killed.signed_frames > 0
    assert len(killed.problems) == 1 and "signed up to frame" in str(killed.problem)
    assert any(verdict.ok and verdict.recording != killed.recording for verdict in verdicts)


def test_check_names_a_key_that_others_may_read(tmp_path, gate, capsys) -> None:
    (tmp_path / "key.pem").chmod(0o644)
    (tmp_path / "cameras.toml").write_text(gate)
    assert main(["watch", str(tmp_path / "cameras.toml"), "--check"]) == 2
    assert "others may read" in capsys.readouterr().err
