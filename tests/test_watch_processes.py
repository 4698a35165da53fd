"""``streamsr watch`` with real processes and a real RTSP server: in, out, faults, reload, the end."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from helpers import wait_until
from media import moving_portrait, write_video
from processes import descendants
from rtsp_server import RtspServer, free_port, live_video, publish_in, publish_out
from watch_process import Status, WatchProcess, camera

from streamsr.io.rtsp import RtspSource
from streamsr.watch.own_folder import own_folder

RATE = 10
NAMES = ("north", "east", "south", "west")
BACK_S = 10.0  # a process that died streams again by then

pytest_plugins = ["shared_fixtures"]
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def server(gstreamer: None) -> Iterator[RtspServer]:
    with RtspServer({f"/{name}": live_video(rate=RATE) for name in NAMES}) as running:
        yield running


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two periods of a face that sways: no jump where it begins again."""
    path = tmp_path_factory.mktemp("portrait") / "portrait.mp4"
    write_video(path, count=63, size=(160, 120), rate=Fraction(RATE), picture_of=moving_portrait)
    return path


def test_rtsp_comes_in_and_rtsp_and_a_file_go_out(tmp_path: Path, gstreamer: None) -> None:
    password = "s3cr3t/:@"
    with (
        RtspServer({"/live": live_video(rate=RATE)}, user="ann", password=password) as source,
        RtspServer({"/out": publish_out("a")}, {"/in": publish_in("a")}) as relay,
    ):
        (tmp_path / "gate.password").write_text(password + "\n")
        os.environ["GATE_USER"] = "ann"
        text = camera(
            "gate",
            source.url("/live"),
            username_env="GATE_USER",
            password_file="gate.password",
            sink=[relay.url("/in"), "out.mp4"],
        )
        with WatchProcess(tmp_path / "cameras.toml", text) as watch:
            now = watch.streaming("gate")["by_name"]["gate"]
            watch.until(lambda now: all(sink["written"] for sink in now["by_name"]["gate"]["sinks"]))
            assert (now["input_px"], now["output_px"]) == ([160, 120], [320, 240])
            viewer = RtspSource(relay.url("/out"))
            try:
                info = viewer.open()
                assert (info.width, info.height) == (320, 240)
                assert all(viewer.read() is not None for _ in range(3))
            finally:
                viewer.close()
            assert watch.stop() == 0
        assert watch.events("camera_state")[-1]["state"] == "stopped"
        assert watch.events("camera_died") == [] and password not in "".join(watch.lines)
    with av.open(str(tmp_path / "out.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) >= RATE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cameras.toml", "gate.password", "out.mp4"]


@pytest.mark.soak
def test_a_process_that_dies_is_replaced_and_costs_no_other_camera_anything(
    server: RtspServer, tmp_path: Path
) -> None:
    text = "".join(camera(name, server.url(f"/{name}"), sink=f"{name}.mp4") for name in NAMES)
    with WatchProcess(tmp_path / "cameras.toml", text) as watch:
        before = watch.streaming(*NAMES)
        files = _open_files(watch.process.pid)
        for what in ("camera", "model"):
            victim = before["by_name"]["north"] if what == "camera" else before["model"]
            killed_at = time.monotonic()
            os.kill(victim["process_id"], signal.SIGKILL)
            watch.until(lambda now, what=what: _restarts(now, what) == 1)
            after = watch.streaming(*NAMES)
            if what == "camera":
                assert time.monotonic() - killed_at < BACK_S
        for name in NAMES[1:]:
            then, now = before["by_name"][name], after["by_name"][name]
            assert now["process_id"] == then["process_id"]
            assert (now["restarts"], now["reconnects"]) == (0, 0)
            came = now["frames_in"] - then["frames_in"]
            assert came > 0 and _lost(now) - _lost(then) <= 0.02 * came, "lost for another's fault"
        assert after["by_name"]["north"]["restarts"] == 1
        wait_until(lambda: _open_files(watch.process.pid) <= files, 5)
        assert watch.stop() == 0
    for name in NAMES[1:]:
        assert _longest_gap_s(tmp_path / f"{name}.mp4") < 0.5
    assert len(list(tmp_path.glob("north*.mp4"))) == 1  # of the second process; the first was killed


@pytest.mark.soak
def test_faces_are_restored_again_after_the_model_process_died(portrait: Path, tmp_path: Path) -> None:
    text = camera("gate", portrait, loop=True, sink="out.mp4", budget_ms=1000)
    with WatchProcess(tmp_path / "cameras.toml", text) as watch:
        before = watch.until(lambda now: now["by_name"]["gate"]["rungs"].get("restored", 0) > 5)
        os.kill(before["model"]["process_id"], signal.SIGKILL)
        away = watch.until(lambda now: now["model"]["restarts"] == 1)
        watch.until(lambda now: _unrestored(now) > _unrestored(away), 20)  # meanwhile it goes on without
        restored = watch.streaming("gate")["by_name"]["gate"]["rungs"]["restored"]
        after = watch.until(lambda now: now["by_name"]["gate"]["rungs"]["restored"] > restored + 5)
        assert after["by_name"]["gate"]["process_id"] == before["by_name"]["gate"]["process_id"]
        assert after["model"]["process_id"] != before["model"]["process_id"]


@pytest.mark.soak
def test_a_process_that_says_nothing_is_replaced(server: RtspServer, tmp_path: Path) -> None:
    with WatchProcess(
        tmp_path / "cameras.toml", camera("north", server.url("/north"), sink="north.mp4")
    ) as watch:
        victim = watch.streaming("north")["by_name"]["north"]["process_id"]
        os.kill(victim, signal.SIGSTOP)
        watch.until(lambda now: now["by_name"]["north"]["restarts"] == 1, 20)
        assert "said nothing" in watch.event("camera_died")["message"]
        watch.streaming("north")


def test_reload_touches_only_what_changed(server: RtspServer, tmp_path: Path) -> None:
    def tables(scale: int, *names: str) -> str:
        return "".join(
            camera(name, server.url(f"/{name}"), sink=f"{name}.mp4", scale=scale if name == "east" else 2)
            for name in names
        )

    with WatchProcess(tmp_path / "cameras.toml", tables(2, "north", "east", "south")) as watch:
        before = watch.streaming("north", "east", "south")
        watch.configure(tables(3, "north", "east", "west"))
        watch.send(signal.SIGHUP)
        watch.event("reload_refused")
        refused = watch.status()
        assert "cameras.toml:" in refused["reload_error"] and "scale" in refused["reload_error"]
        assert [camera["process_id"] for camera in refused["cameras"]] == [
            camera["process_id"] for camera in before["cameras"]
        ]

        watch.configure(tables(1, "north", "east", "west"))
        watch.send(signal.SIGHUP)
        watch.event("reloaded")
        after = watch.streaming("north", "east", "west")
        assert list(after["by_name"]) == ["north", "east", "west"]
        assert (after["reloads"], after["reload_error"]) == (1, None)
        assert after["by_name"]["north"]["process_id"] == before["by_name"]["north"]["process_id"]
        assert after["by_name"]["north"]["frames_out"] > before["by_name"]["north"]["frames_out"]
        assert after["by_name"]["east"]["output_px"] == [160, 120]
        assert after["model"]["process_id"] == before["model"]["process_id"]
        assert watch.event("reloaded")["removed"] == ["south"]
        assert watch.stop() == 0
    assert sorted(path.stem.split(".")[0] for path in tmp_path.glob("*.mp4")) == [
        "east", "east", "north", "south", "west"
    ]  # fmt: skip


@pytest.mark.soak
def test_a_camera_that_is_off_at_first_and_one_with_a_wrong_password_come_later(
    gstreamer: None, tmp_path: Path
) -> None:
    late = RtspServer({"/live": live_video(rate=RATE)})
    guarded = RtspServer({"/live": live_video(rate=RATE)}, user="ann", password="another")
    text = camera("late", late.url("/live"), sink="late.mp4")
    text += camera("guarded", guarded.url("/live", "ann:s3cr3t"), sink="guarded.mp4")
    with guarded, WatchProcess(tmp_path / "cameras.toml", text) as watch:
        watch.until(lambda now: now["model"]["state"] == "ready")
        now = watch.until(lambda now: all(camera["state"] == "backoff" for camera in now["cameras"]))
        assert "refused" in now["by_name"]["late"]["error"]
        assert "401" in now["by_name"]["guarded"]["error"]
        guarded.kill()
        guarded.set_password("s3cr3t")
        with late:
            guarded.start()
            began = time.monotonic()
            watch.streaming("late", "guarded", timeout_s=30)
            assert time.monotonic() - began < BACK_S
            now = watch.status()
            assert [camera["restarts"] for camera in now["cameras"]] == [0, 0]
            assert "s3cr3t" not in "".join(watch.lines) + str(now)
            assert watch.stop() == 0


@pytest.mark.soak
def test_another_size_does_not_end_a_stream(gstreamer: None, tmp_path: Path) -> None:
    with RtspServer({"/live": live_video(160, 120, RATE)}) as server:
        text = camera("gate", server.url("/live"), sink="out.mp4")
        with WatchProcess(tmp_path / "cameras.toml", text) as watch:
            before = watch.streaming("gate")["by_name"]["gate"]
            server.kill()
            server.set_play("/live", live_video(240, 120, RATE))
            server.start()
            watch.until(lambda now: now["by_name"]["gate"]["reconnects"] == 1)
            out = watch.streaming("gate")["by_name"]["gate"]["frames_out"]
            now = watch.until(lambda now: now["by_name"]["gate"]["frames_out"] > out)["by_name"]["gate"]
            assert (now["process_id"], now["restarts"]) == (before["process_id"], 0)
            assert now["output_px"] == before["output_px"] == [320, 240]
            assert watch.stop() == 0
    assert len(list(tmp_path.glob("*.mp4"))) == 1


def test_nothing_survives_the_supervisor(
    server: RtspServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with WatchProcess(
        tmp_path / "cameras.toml", camera("north", server.url("/north"), sink="north.mp4")
    ) as watch:
        watch.streaming("north")
        assert len(descendants(watch.process.pid)) == 2
        watch.send(signal.SIGKILL)  # the end of the block looks for orphans
        watch.process.wait()
        (left,) = watch.temporary.iterdir()
        monkeypatch.setattr(tempfile, "tempdir", str(watch.temporary))
        with own_folder() as folder:
            assert list(watch.temporary.iterdir()) == [folder] != [left]


def test_a_second_signal_waits_for_nobody(server: RtspServer, tmp_path: Path) -> None:
    with WatchProcess(
        tmp_path / "cameras.toml", camera("north", server.url("/north"), sink="north.mp4")
    ) as watch:
        now = watch.until(lambda now: now["by_name"]["north"]["frames_out"])
        os.kill(now["by_name"]["north"]["process_id"], signal.SIGSTOP)  # it will not finish its file
        watch.send(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            watch.process.wait(2)
        watch.send(signal.SIGTERM)
        assert watch.process.wait(5) == 128 + signal.SIGTERM
    assert list(tmp_path.glob("*.mp4")) == []


def test_a_file_ends_and_another_goes_on(portrait: Path, tmp_path: Path) -> None:
    """A region without the face leaves it as it is."""
    text = camera("once", portrait, sink="once.mp4")
    text += camera("ever", portrait, sink="ever.mp4", loop=True, roi=[0, 0, 30, 30])
    text += camera("off", portrait, sink="off.mp4", enabled=False)
    with WatchProcess(tmp_path / "cameras.toml", text) as watch:
        now = watch.until(
            lambda now: (
                now["by_name"]["once"]["state"] == "stopped" and now["by_name"]["ever"]["frames_out"] > 70
            )
        )
        assert now["by_name"]["once"]["faces"] > 5 and now["by_name"]["ever"]["faces"] == 0
        assert now["by_name"]["once"]["restarts"] == 0 and now["by_name"]["ever"]["state"] == "streaming"
        assert now["by_name"]["off"]["state"] == "stopped" and now["by_name"]["off"]["process_id"] is None
        watch.get("api/cameras/ever/after.jpg")
        watch.until(lambda now: watch.get("api/cameras/ever/after.jpg")[:2] == b"\xff\xd8")
        assert watch.stop() == 0
    assert {path.name for path in tmp_path.glob("*.mp4")} == {"once.mp4", "ever.mp4"}


@pytest.mark.parametrize("option", [[], ["--check"]])
def test_a_wrong_configuration_is_one_line_and_status_2(option: list[str], tmp_path: Path) -> None:
    path = tmp_path / "cameras.toml"
    path.write_text(camera("gate", "rtsp://ann:s3cr3t@127.0.0.1/1", sink="out.mp4", scale=3))
    done = _watch(path, *option)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {path}:5: camera.scale must be one of 1, 2, 4, 8, got 3\n"


def test_check_says_what_is_right(tmp_path: Path) -> None:
    path = tmp_path / "cameras.toml"
    path.write_text(
        camera("gate", "rtsp://127.0.0.1/1", sink="out.mp4") + camera("yard", __file__, sink="b.mp4")
    )
    done = _watch(path, "--check")
    assert (done.returncode, done.stderr) == (0, "") and "2 cameras" in done.stdout


def test_a_device_or_a_port_that_is_not_there_is_one_line_and_status_2(
    portrait: Path, tmp_path: Path
) -> None:
    path = tmp_path / "cameras.toml"
    table = camera("gate", portrait, sink="out.mp4")
    for device, engine, said in (("cuda", "auto", "cuda"), ("cpu", "inductor", "openvino on cpu")):
        path.write_text(f'[watch]\nlisten = ""\ndevice = "{device}"\nengine = "{engine}"\n{table}')
        done = _watch(path)
        assert done.returncode == 2 and "error: " in done.stderr.splitlines()[-1]
        assert said in done.stderr.splitlines()[-1].lower()
    path.write_text(f'[watch]\nlisten = "127.0.0.1:{free_port()}"\n{table}')
    with WatchProcess(tmp_path / "other.toml", table.replace("out", "other")) as other:
        port = other.event("listening")["url"].rstrip("/").rpartition(":")[2]
        path.write_text(f'[watch]\nlisten = "127.0.0.1:{port}"\n{table}')
        done = _watch(path)
    assert done.returncode == 2 and f"cannot listen on 127.0.0.1 port {port}" in done.stderr.splitlines()[-1]


def _watch(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streamsr", "watch", str(path), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def _restarts(now: Status, what: str) -> int:
    return int((now["by_name"]["north"] if what == "camera" else now["model"])["restarts"])


def _unrestored(now: Status) -> int:
    rungs = now["by_name"]["gate"]["rungs"]
    return int(rungs["skipped"] + rungs["cached"])


def _lost(camera: dict[str, Any]) -> int:
    return int(camera["frames_dropped"] + camera["source"]["drops"])


def _open_files(process_id: int) -> int:
    return len(list(Path(f"/proc/{process_id}/fd").iterdir()))


def _longest_gap_s(path: Path) -> float:
    with av.open(str(path)) as film:
        times = [frame.time for frame in film.decode(video=0)]
    return max(after - before for before, after in itertools.pairwise(times))
