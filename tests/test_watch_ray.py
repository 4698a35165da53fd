"""``streamsr watch --ray`` on a real cluster of several nodes: placed, moved, looked at, reloaded, ended."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from media import moving_portrait, times, write_video
from processes import command, runs
from ray_nodes import folders, nodes
from rtsp_server import free_port
from watch_process import Status, WatchProcess, camera

from streamsr.errors import ConfigError
from streamsr.watch.config import WatchSettings, load
from streamsr.watch.ray_machines import RayMachines
from streamsr.watch.ray_node import CameraOnNode

RATE = 5
NAMES = ("north", "east", "south")
SECRET = "s3cr3t-of-the-sink"
BACK_S = 10.0  # cameras of a machine that is gone stream again by then, from when Ray has noticed
GONE_S = 15.0  # nothing runs any more, from when the driver was killed

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two periods of a face that sways: no jump where it begins again."""
    path = tmp_path_factory.mktemp("portrait") / "portrait.mp4"
    write_video(path, count=63, size=(160, 120), rate=Fraction(RATE), picture_of=moving_portrait)
    return path


@pytest.mark.soak
def test_cameras_of_a_machine_that_dies_stream_again_from_another(portrait: Path, tmp_path: Path) -> None:
    tables = {name: camera(name, portrait, loop=True, sink=f"{name}.mp4", budget_ms=1000) for name in NAMES}
    with (
        nodes({"num_cpus": 1}, {"num_cpus": 1}) as cluster,
        WatchProcess(
            tmp_path / "cameras.toml", "".join(tables.values()), _settings(cluster.address), "--ray"
        ) as watch,
    ):
        before = watch.until(lambda now: all(_restored(now, name) > 5 for name in NAMES), 150)
        assert before["model"]["state"] == "ready" and before["model"]["error"] is None
        places = {name: before["by_name"][name]["node"] for name in NAMES}
        assert len(set(places.values())) == 2, "they are not spread"
        metrics = watch.get("metrics").decode()
        for name, place in places.items():
            assert f'camera="{name}"' in metrics and f'node="{place}"' in metrics
        assert _jpeg(watch, "north")

        lost = places["north"]
        staying = [name for name in NAMES if places[name] != lost]
        node_id = next(one for one in cluster.ids if one.startswith(lost.rpartition("/")[2]))
        cluster.kill(node_id)
        killed_at = time.time()
        watch.until(lambda now: now["by_name"]["north"]["state"] == "failed")
        after = watch.until(
            lambda now: all(
                camera["node"] not in (None, lost) and camera["state"] == "streaming"
                for camera in now["cameras"]
            )
        )
        noticed = next(line for line in watch.events("ray") if node_id in line["message"])
        print(f"Ray noticed {_time(noticed) - killed_at:.1f} s after the machine died")
        for name in set(NAMES) - set(staying):
            streams = [line for line in watch.events("camera_state") if line["camera"] == name][-1]
            assert streams["state"] == "streaming"
            took_s = _time(streams) - _time(noticed)
            print(f"{name} streams again {took_s:.1f} s after Ray noticed")
            assert took_s < BACK_S
            assert after["by_name"][name]["restarts"] == 1
        for name in staying:
            then, now = before["by_name"][name], after["by_name"][name]
            assert now["process_id"] == then["process_id"]
            assert (now["restarts"], now["node"]) == (0, then["node"])
            assert now["frames_out"] > then["frames_out"]
            # as good as none: here all machines share the processors, and two cameras start on them at once
            assert now["frames_dropped"] - then["frames_dropped"] <= RATE, "lost for another machine"
        then = watch.until(lambda now: now["model"]["state"] == "ready")
        assert then["model"]["restored"] >= before["model"]["restored"], "a count went back"
        watch.until(lambda now: all(_restored(now, name) > _restored(then, name) for name in NAMES))

        stay = staying[0]
        tables[stay] = ""
        gone = watch.status()["by_name"][stay]["process_id"]
        watch.configure("".join(tables.values()))
        watch.send(signal.SIGHUP)
        now = watch.until(lambda now: now["reloads"] == 1 and len(now["cameras"]) == 2)
        assert not runs(gone) and stay not in now["by_name"]
        written = times(tmp_path / f"{stay}.mp4")
        # a camera that began anew, or waited for the dead machine, would be gone for seconds
        assert max(later - earlier for earlier, later in itertools.pairwise(written)) < 1

        left = cluster.kept()
        assert len(left) >= 6  # two cameras, a model, and who keeps them
        assert watch.stop() == 0
        _gone(left, 5)
        assert cluster.kept() == set()
        assert [folder for node in cluster.ids for folder in folders(node)] == []
    # a machine may die between being chosen for an actor and being used
    died = [each for each in watch.events("actor_died") if "not schedulable" not in each["message"]]
    assert died == []


@pytest.mark.soak
def test_a_silent_machine_holds_up_nobody_and_nothing_outlives_the_driver(
    portrait: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SINK_USER", "ann")
    monkeypatch.setenv("SINK_PASSWORD", SECRET)
    nobody = f"rtsp://127.0.0.1:{free_port()}"
    given = {"loop": True, "sink_username_env": "SINK_USER", "sink_password_env": "SINK_PASSWORD"}
    text = "".join(
        camera(name, portrait, sink=[f"{name}.mp4", f"{nobody}/{name}"], **given) for name in NAMES
    )
    with nodes({"num_cpus": 1, "num_gpus": 1}) as cluster:
        settings = _settings(cluster.address) + "gpus_per_camera = 0.5\n"
        with WatchProcess(tmp_path / "cameras.toml", text, settings, "--ray") as watch:
            now = watch.until(lambda now: len(_streaming(now)) == 2 and _waiting(now))
            (waits,) = _waiting(now)
            assert waits["error"].endswith("a machine with 0.25 CPUs and 0.5 GPUs free"), waits
            silent, other = _streaming(now)
            assert silent["node"] == other["node"] and silent["node"].endswith("/gpu0")

            keeper = _parent(silent["process_id"])
            os.kill(keeper, signal.SIGSTOP)
            away = watch.until(lambda now: now["by_name"][silent["name"]]["state"] == "failed", 20)
            assert "has not answered" in away["by_name"][silent["name"]]["error"]
            frames = away["by_name"][other["name"]]["frames_out"]
            watch.until(lambda now: now["by_name"][other["name"]]["frames_out"] > frames, 10)
            os.kill(keeper, signal.SIGCONT)
            back = watch.until(lambda now: len(_streaming(now)) == 2, 20)["by_name"][silent["name"]]
            assert back["process_id"] == silent["process_id"] and back["restarts"] == 0

            os.kill(keeper, signal.SIGKILL)  # its room is for whoever comes first, that camera or the third
            watch.until(lambda now: now["by_name"][silent["name"]]["state"] != "streaming", 10)
            assert not runs(silent["process_id"])
            watch.until(lambda now: len(_streaming(now)) == 2, 30)

            assert SECRET not in "".join(watch.lines)
            logs = [path.read_bytes() for path in cluster.logs.rglob("*") if path.is_file()]
            assert len(logs) > 5 and not any(SECRET.encode() in log for log in logs)
            left = cluster.kept()
            assert len(left) >= 6  # two cameras, a model, and who keeps them
            watch.process.kill()
            killed_at = time.monotonic()
            _gone(left, GONE_S)
            print(f"nothing runs {time.monotonic() - killed_at:.1f} s after the driver was killed")
            assert cluster.kept() == set()


def test_without_a_cluster_it_says_so(portrait: Path, tmp_path: Path) -> None:
    path = tmp_path / "cameras.toml"
    path.write_text(_table(f'address = "127.0.0.1:{free_port()}"') + camera("gate", portrait, sink="out.mp4"))
    done = subprocess.run(
        [sys.executable, "-m", "streamsr", "watch", str(path), "--ray"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert "no Ray cluster at 127.0.0.1:" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ('address = "ray://head:10001"', "must match"),
        ('address = "head"', "must match"),
        ("cpus_per_camera = -1", "must be at least 0"),
        ("gpus_per_camera = 2", "must be at most 1"),
        ('gpus_per_camera = "half"', "must be a number"),
        ("gpus = 1", "is not a key here"),
    ],
)
def test_a_wrong_key_is_named_with_its_line(key: str, says: str, portrait: Path, tmp_path: Path) -> None:
    path = tmp_path / "cameras.toml"
    path.write_text(_table(key) + camera("gate", portrait, sink="out.mp4"))
    with pytest.raises(ConfigError) as caught:
        load(path)
    name = key.partition(" ")[0]
    assert str(caught.value).startswith(f"{path}:4: watch.ray.{name} {says}")


def test_another_version_on_a_machine_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"streamsr .* is installed there, and the driver's is 0\.0\.1"):
        CameraOnNode("0.0.1", "{}", "run")


def test_a_gpu_that_is_to_be_used_is_to_be_asked_for() -> None:
    with pytest.raises(ConfigError, match="gpus_per_camera must be above 0"):
        RayMachines(WatchSettings(device="cuda"))


def test_neither_watch_nor_its_configuration_loads_ray() -> None:
    code = (
        "import pkgutil, importlib, sys, streamsr.cli_watch, streamsr.watch as watch\n"
        "for found in pkgutil.iter_modules(watch.__path__, 'streamsr.watch.'):\n"
        "    if not found.name.startswith('streamsr.watch.ray_'):\n"
        "        importlib.import_module(found.name)\n"
        "assert 'streamsr.watch.supervisor' in sys.modules and 'ray' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _table(key: str) -> str:
    return f'[watch]\nlisten = ""\n[watch.ray]\n{key}\n'


def _settings(address: str) -> str:
    return f'threads = 1\n[watch.ray]\naddress = "{address}"\n'


def _restored(status: Status, name: str) -> int:
    return int(status["by_name"][name]["rungs"].get("restored", 0))


def _streaming(status: Status) -> list[dict[str, Any]]:
    return [camera for camera in status["cameras"] if camera["state"] == "streaming"]


def _waiting(status: Status) -> list[dict[str, Any]]:
    return [camera for camera in status["cameras"] if camera["node"] is None and camera["error"]]


def _jpeg(watch: WatchProcess, name: str) -> bool:
    deadline = time.monotonic() + 15
    while not (found := watch.get(f"api/cameras/{name}/after.jpg")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found.startswith(b"\xff\xd8")


def _time(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["time"]).timestamp()


def _parent(process_id: int) -> int:
    return int(Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[1])


def _gone(process_ids: set[int], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while left := {process_id for process_id in process_ids if runs(process_id)}:
        assert time.monotonic() < deadline, f"left: {[command(process_id) for process_id in left]}"
        time.sleep(0.1)
