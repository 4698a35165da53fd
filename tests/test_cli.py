"""The command line: what it accepts, what it refuses and how, and how jobs end early."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
import rtsp_server
from media import write_video

from streamsr import doctor
from streamsr.cli import BENCH_NAMES, app, main
from streamsr.console import live_figures, summary
from streamsr.run_report import Percentiles, RunReport
from streamsr.version import __version__

STREAMSR = (sys.executable, "-m", "streamsr")


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "in.mp4"
    write_video(path, count=12, size=(64, 48))
    return path


def _times(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return sorted(float(frame.time) for frame in container.decode(video=0))


def _size(path: Path) -> tuple[int, int]:
    with av.open(str(path)) as container:
        return container.streams.video[0].width, container.streams.video[0].height


def _error(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr; nothing on stdout."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err.strip()


# -- what it says of itself


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"streamsr {__version__}\n"


def test_no_command_shows_help_and_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Usage: streamsr" in capsys.readouterr().err


def test_commands_are_those_that_work(capsys: pytest.CaptureFixture[str]) -> None:
    names = {
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    }
    assert sorted(names) == [
        *("bench", "demo", "doctor", "enhance", "make-key", "serve", "train", "verify", "watch")
    ]
    for name in names:
        assert main([name, "--help"]) == 0
        assert f"Usage: streamsr {name}" in capsys.readouterr().out


def test_light_commands_load_no_library() -> None:
    code = (
        "import sys; from streamsr.cli import main; main(['--version'])\n"
        "print(*{'av', 'cv2', 'mediapipe', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"streamsr {__version__}\n\n"


# -- what it refuses


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nope"], "No such command 'nope'"),
        (["enhance"], "Missing argument 'SRC'"),
        (["enhance", "a.mp4"], "'--output'"),
        (["enhance", "a.mp4", "-o", "b.mp4", "--what"], "No such option: --what"),
        (["enhance", "a.mp4", "-o", "b.mp4", "--scale", "3"], "'--scale'"),
        (["enhance", "a.mp4", "-o", "b.mp4", "--fidelity", "1.5"], "'--fidelity'"),
        (["enhance", "a.mp4", "-o", "b.mp4", "--fidelity", "-0.1"], "'--fidelity'"),
        (["enhance", "a.mp4", "-o", "b.mp4", "--fidelity", "nan"], "'--fidelity'"),
        (["enhance", "a.mp4", "-o", "b.mp4", "--steps", "many"], "'many' is neither 'auto' nor in 1..64"),
        (["enhance", "a.mp4", "-o", "b.mp4", "--steps", "0"], "'--steps'"),
        (["enhance", "a.mp4", "-o", "b.mp4", "--steps", "65"], "'--steps'"),
        (["enhance", "a.mp4", "-o", "b.mp4", "--device", "tpu"], "'--device'"),
        (["enhance", "a.mp4", "-o", "b.mp4", "--codec", "av1"], "'--codec'"),
        (["enhance", "a.mp4", "-o", "b.mp4", "--crf", "52"], "'--crf'"),
        (["enhance", "a.mp4", "-o", "b.mp4", "--seed", "-1"], "'--seed'"),
        (["enhance", "a.mp4", "-o", "b.mp4", "--rtsp-transport", "sctp"], "'--rtsp-transport'"),
        (["enhance", "a.mp4", "-o", "b.mp4", "--rtsp-transport", "tcp"], "for rtsp:// sources, got a.mp4"),
        (["enhance", "a.mp4", "-o", "b.mp4", "--duration", "0"], "'--duration'"),
        (["enhance", "a.mp4", "-o", "b.mp4", "--duration", "inf"], "'--duration'"),
        (["enhance", "a.mp4", "-o", "b.mp4", "--duration", "2"], "--duration is for live sources"),
        (["enhance", "a.mp4", "-o", "b.mp4", "--report", "no/such/r.json"], "--report must name a file"),
        (["enhance", "gopher://a/b", "-o", "b.mp4"], "gopher://"),
        (["bench"], "Missing argument 'NAME'"),
        (["bench", "nope"], f"no benchmark 'nope'; there are: {', '.join(BENCH_NAMES)}"),
        (["demo", "--seconds", "1e9"], "seconds must be in"),
    ],
)
def test_bad_options_are_one_line_and_status_2(
    arguments: list[str],
    says: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert says in _error(capsys)
    assert list(tmp_path.iterdir()) == []


def test_source_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert (
        main(["enhance", str(tmp_path / "no.mp4"), "-o", str(tmp_path / "out.mp4"), "--report", str(report)])
        == 2
    )
    assert "no.mp4" in _error(capsys)
    assert list(tmp_path.iterdir()) == [report]
    document = json.loads(report.read_text())
    assert (document["status"], document["frames_out"]) == ("failed", 0)
    assert "no.mp4" in document["error"]


def test_source_that_is_no_video(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    source.write_text("these are words")
    assert main(["enhance", str(source), "-o", str(tmp_path / "out.mp4")]) == 2
    assert "in.mp4" in _error(capsys)
    assert list(tmp_path.iterdir()) == [source]


def test_output_of_an_unknown_kind(video: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["enhance", str(video), "-o", "gopher://host/path"]) == 2
    assert "gopher://" in _error(capsys)


def test_cuda_asked_for_where_there_is_none(
    video: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = subprocess.run(
        [*STREAMSR, "enhance", str(video), "-o", str(video.with_name("out.mp4")), "--device", "cuda"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*cuda.*\n", done.stderr)
    assert not video.with_name("out.mp4").exists()


def test_password_of_a_source_is_never_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    url = f"rtsp://user:secret@127.0.0.1:{rtsp_server.free_port()}/live"
    report = tmp_path / "report.json"
    arguments = ["enhance", url, "-o", str(tmp_path / "out.mp4"), "--duration", "5", "--report", str(report)]
    assert main(arguments) == 2
    assert "secret" not in _error(capsys) + report.read_text()


# -- faults and interruptions


def test_fault_of_the_program_keeps_its_traceback() -> None:
    code = (
        "import sys; from streamsr import doctor\n"
        "def fault(): raise ZeroDivisionError('a fault')\n"
        "doctor.PROBES = (fault,)\n"
        "from streamsr.cli import main; sys.exit(main(['doctor']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert done.stderr.endswith("ZeroDivisionError: a fault\n")


def test_ctrl_c_outside_a_run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> Iterator[doctor.Check]:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "PROBES", (interrupted,))
    assert main(["doctor"]) == 130
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signal_on_a_file_leaves_nothing(signum: signal.Signals, tmp_path: Path) -> None:
    source, out = tmp_path / "in.mp4", tmp_path / "out"
    write_video(source, count=900, size=(320, 240), options={"preset": "ultrafast"})
    out.mkdir()
    process = _start(source, "-o", out / "out.mp4", "--report", tmp_path / "report.json")
    _wait_for(lambda: any(out.iterdir()), process)
    process.send_signal(signum)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + signum
    assert (stdout, stderr) == ("", f"interrupted by {signum.name}: nothing was written\n")
    assert list(out.iterdir()) == []
    assert json.loads((tmp_path / "report.json").read_text())["status"] == "cancelled"


def _start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*STREAMSR, "enhance", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _wait_for(happened: object, process: subprocess.Popen[str], timeout_s: float = 60.0) -> None:
    assert callable(happened)
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


# -- jobs that are done


def test_file_to_file(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, report = tmp_path / "out.mp4", tmp_path / "report.json"
    assert main(["enhance", str(video), "-o", str(out), "--report", str(report), "--device", "cpu"]) == 0
    assert _times(out) == pytest.approx(_times(video))
    assert _size(out) == (128, 96)
    stdout, stderr = capsys.readouterr()
    assert stdout.startswith(f"{out}: 12 frames of 128x96, ")
    assert stdout.count("\n") == 1
    assert stderr == ""
    document = json.loads(report.read_text())
    assert (document["status"], document["frames_in"], document["frames_out"]) == ("done", 12, 12)
    wanted = {"age_ms", "certificate_max", "certificate_rms", "device", "faces", "fps", "frames_dropped"}
    wanted |= {
        "model_sha256",
        "nfe",
        "restored_share",
        "rungs",
        "stage_ms",
        "t0_mean",
        "versions",
        "bypassed",
    }
    assert wanted <= document.keys()
    assert document["age_ms"].keys() == {"p50", "p95", "p99"}


def test_output_that_exists_is_kept(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.mp4"
    out.write_bytes(b"mine")
    assert main(["enhance", str(video), "-o", str(out)]) == 2
    assert "--overwrite" in _error(capsys)
    assert out.read_bytes() == b"mine"
    assert main(["enhance", str(video), "-o", str(out), "--overwrite", "--scale", "1"]) == 0
    assert _size(out) == (64, 48)


def test_options_reach_the_run(video: Path, tmp_path: Path) -> None:
    out, report = tmp_path / "out.mkv", tmp_path / "report.json"
    options = [
        "--scale",
        "4",
        "--fidelity",
        "0.7",
        "--steps",
        "2",
        "--seed",
        "5",
        "--codec",
        "ffv1",
        "--device",
        "cpu",
    ]
    assert main(["enhance", str(video), "-o", str(out), "--report", str(report), *options]) == 0
    document = json.loads(report.read_text())
    got = {name: document[name] for name in ("scale", "fidelity", "steps", "seed", "device")}
    assert got == {"scale": 4, "fidelity": 0.7, "steps": 2, "seed": 5, "device": "cpu"}
    with av.open(str(out)) as container:
        assert container.streams.video[0].codec_context.name == "ffv1"


def test_same_seed_same_pictures(video: Path, tmp_path: Path) -> None:
    films = [tmp_path / f"{run}.mkv" for run in "ab"]
    for film in films:
        assert main(["enhance", str(video), "-o", str(film), "--codec", "ffv1", "--seed", "3"]) == 0
    with av.open(str(films[0])) as first, av.open(str(films[1])) as second:
        for a, b in zip(first.decode(video=0), second.decode(video=0), strict=True):
            assert (a.to_ndarray(format="rgb24") == b.to_ndarray(format="rgb24")).all()


@pytest.fixture(scope="module")
def rtsp() -> Iterator[rtsp_server.RtspServer]:
    reason = rtsp_server.missing()
    if reason:
        pytest.skip(reason)
    with rtsp_server.RtspServer({"/live": rtsp_server.live_video()}) as server:
        yield server


def test_duration_finishes_a_live_stream(
    rtsp: rtsp_server.RtspServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report = tmp_path / "out.mp4", tmp_path / "report.json"
    assert (
        main(["enhance", rtsp.url("/live"), "-o", str(out), "--duration", "2", "--report", str(report)]) == 0
    )
    document = json.loads(report.read_text())
    assert (document["status"], document["live"]) == ("stopped", True)
    assert len(_times(out)) == document["frames_out"] > 0
    assert "age p50" in capsys.readouterr().out


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_signal_on_a_live_stream_finishes_the_recording(
    rtsp: rtsp_server.RtspServer, tmp_path: Path, signum: signal.Signals
) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    process = _start(rtsp.url("/live"), "-o", folder / "out.mp4", "--report", tmp_path / "report.json")
    _wait_for(lambda: any(folder.iterdir()), process)
    time.sleep(2.0)
    process.send_signal(signum)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert list(folder.iterdir()) == [folder / "out.mp4"]
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["status"] == "stopped"
    assert len(_times(folder / "out.mp4")) == document["frames_out"] > 0


# -- what a run looks like


def _report(**figures: object) -> RunReport:
    return RunReport(
        **{
            "source": "in",
            "sink": "out.mp4",
            "live": True,
            "status": "running",
            "scale": 2,
            "output_px": (1280, 720),
            "elapsed_s": 61.2,
            "frames_out": 1500,
            "fps": 24.96,
            **figures,
        }
    )


def test_live_figures() -> None:
    assert live_figures(_report()) == "61 s, 1500 frames, 25.0 fps, dropped 0"
    age = Percentiles(p50=41.4, p95=66.0, p99=90.0)
    assert live_figures(_report(age_ms=age, frames_dropped=3, restored_share=0.975)) == (
        "61 s, 1500 frames, 25.0 fps, age p50 41 ms, p95 66 ms, dropped 3, restored 98 %"
    )


def test_summary() -> None:
    assert summary(_report(live=False, faces=7, restored_share=0.5)) == (
        "out.mp4: 1500 frames of 1280x720, 61.2 s, 25.0 fps, 7 face-frames, restored 50 %"
    )


def test_progress_bar_in_a_terminal(video: Path, tmp_path: Path) -> None:
    import pty

    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*STREAMSR, "enhance", str(video), "-o", str(tmp_path / "out.mp4")],
        stdout=subprocess.DEVNULL,
        stderr=follower,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            chunk = os.read(leader, 65536)
        except OSError:  # Linux: the other side is closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(leader)
    assert process.wait(timeout=60) == 0
    assert b"12/12" in shown
