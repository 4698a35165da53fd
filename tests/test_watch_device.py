"""The model process and what cameras get from it: real processes, small weights."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import numpy as np
import pytest
from helpers import wait_until
from model_process import ModelProcess, random_crop, soon
from remote_client import camera_session, connected, portraits

from streamsr.enhancer import Enhancer
from streamsr.face.background import Background
from streamsr.interpreter import environment
from streamsr.memory import RECALL_FRAMES
from streamsr.report import Outcome
from streamsr.session import Refused, Session
from streamsr.watch.remote_restorer import MOST_SKIPS, RemoteRestorer

pytest_plugins = ["model_fixtures"]
CLIENT = Path(__file__).with_name("remote_client.py")
FRAMES = 8


def _client(model: ModelProcess, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(CLIENT), str(model.path), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def _in_process(weights: Path | None, seed: int) -> list[np.ndarray]:
    with (
        Enhancer(weights, device="cpu", threads=1) as enhancer,
        closing(enhancer.session(scale=2, seed=seed)) as session,
    ):
        return [session.process(picture)[0] for picture in portraits(FRAMES)]


# -- the same pictures ------------------------------------------------------------------------------------


def test_a_camera_process_gets_the_pictures_of_an_enhancer_bit_for_bit(
    model: ModelProcess, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "alone.npy"
    with _client(model, "alone", out, FRAMES, 3) as client:
        said, _ = client.communicate(timeout=60)
    assert client.returncode == 0
    assert said.split() == ["restored"] * FRAMES
    np.testing.assert_array_equal(np.load(out), _in_process(weights, 3))


def test_two_camera_processes_at_once_get_what_they_would_alone(
    model: ModelProcess, weights: Path, tmp_path: Path
) -> None:
    outs = {seed: tmp_path / f"{seed}.npy" for seed in (3, 4)}
    clients = [_client(model, f"camera{seed}", out, FRAMES, seed) for seed, out in outs.items()]
    for client in clients:
        with client:
            assert client.communicate(timeout=60)[0].split() == ["restored"] * FRAMES
    for seed, out in outs.items():
        gap = np.load(out).astype(int) - np.stack(_in_process(weights, seed))
        assert abs(gap).max() <= 1
    assert np.abs(np.load(outs[3]).astype(int) - np.load(outs[4])).max() > 1


@pytest.mark.soak
def test_with_the_packaged_weights_too(tmp_path: Path) -> None:
    out = tmp_path / "packaged.npy"
    with ModelProcess(tmp_path / "socket") as model:
        model.ready(120)
        with _client(model, "alone", out, FRAMES, 3) as client:
            assert client.communicate(timeout=120)[0].split() == ["restored"] * FRAMES
    np.testing.assert_array_equal(np.load(out), _in_process(None, 3))


def test_more_faces_than_a_request_holds(restorer: RemoteRestorer) -> None:
    crops = [random_crop(256, seed) for seed in range(6)]
    readings = restorer.guide(crops, soon(20))
    traces = restorer.restore(crops, readings, deadline_ns=soon(20))
    again = restorer.restore(crops, readings, traces, deadline_ns=soon(20))
    single = restorer.restore(crops[5:], readings[5:], deadline_ns=soon(20))
    np.testing.assert_allclose(traces[5].residual, single[0].residual, atol=0.51)
    assert np.abs(again[5].residual - traces[5].residual).max() > 1  # it builds on its past


def _together(calls: list[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# -- too much to do ---------------------------------------------------------------------------------------


def _ask_at_rate(
    restorer: RemoteRestorer, until_ns: int, period_s: float, steps: int, ages_ms: list[float]
) -> tuple[int, int]:
    """How many requests were done, of how many that a camera of that rate has: one refused too late to ask
    again in time counts as those it stood in the way of."""
    crop = random_crop(256)
    reading = restorer.guide([crop])[0]
    done = 0
    due = first = time.monotonic()
    while time.monotonic_ns() < until_ns:
        due = max(due + period_s, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
        began_ns = time.monotonic_ns()
        try:
            restorer.restore([crop], [reading], steps=steps, deadline_ns=began_ns + round(2.5e9 * period_s))
            done += 1
        except Refused:
            pass
        ages_ms.append((time.monotonic_ns() - began_ns) / 1e6)
    return done, round((time.monotonic() - first) / period_s)


@pytest.mark.soak
def test_under_real_pressure_priority_decides_and_nobody_waits_past_a_deadline(model: ModelProcess) -> None:
    with closing(connected(model.path)) as restorer:
        crop = random_crop(256)
        reading = restorer.guide([crop])[0]
        took = []
        for _ in range(5):
            began = time.monotonic()
            restorer.restore([crop], [reading], steps=16)
            took.append(time.monotonic() - began)
    period_s = 5 * float(np.median(took))  # one camera is a fifth of what there is; fifteen are thrice that
    priorities = [0, *([5] * 14)]
    cameras = [connected(model.path, f"p{priority}-{k}", priority) for k, priority in enumerate(priorities)]
    results: list[tuple[int, int]] = [(0, 0)] * len(cameras)
    ages: list[list[float]] = [[] for _ in cameras]
    before, until_ns = model.next_report().refused, soon(8)

    def run(index: int) -> None:
        results[index] = _ask_at_rate(cameras[index], until_ns, period_s, 16, ages[index])

    _together([lambda index=index: run(index) for index in range(len(cameras))])
    for camera in cameras:
        camera.close()
    (done, due), *others = results
    assert done >= 0.9 * due, results
    assert sum(one for one, _ in others) < 0.6 * sum(of for _, of in others), results
    assert sum(one for one, _ in others) > 0, results
    assert model.next_report().refused > before
    late = [age for found in ages for age in found if age > 2.5e3 * period_s + 50]
    assert len(late) <= 0.02 * sum(map(len, ages)), late


def test_a_model_process_that_stands_still_holds_nobody_up(
    model: ModelProcess, restorer: RemoteRestorer
) -> None:
    crop = random_crop(256)
    reading = restorer.guide([crop])[0]
    model.process.send_signal(signal.SIGSTOP)
    try:
        for _ in range(4):  # more than there are slots
            began = time.monotonic()
            with pytest.raises(Refused):
                restorer.restore([crop], [reading], deadline_ns=soon(0.1))
            assert time.monotonic() - began < 0.2
    finally:
        model.process.send_signal(signal.SIGCONT)
    time.sleep(0.2)
    restorer.restore([crop], [reading], deadline_ns=soon(5))


def test_a_camera_that_is_refused_again_and_again_asks_less(
    model: ModelProcess, restorer: RemoteRestorer
) -> None:
    crop = random_crop(512)
    reading = restorer.guide([crop])[0]
    restorer.restore([crop], [reading], steps=64)
    before = model.next_report().refused
    for _ in range(40):
        with pytest.raises(Refused):
            restorer.restore([crop], [reading], steps=64, deadline_ns=soon(0.05))
    model.next_report()
    assert 8 <= model.next_report().refused - before <= 14
    for _ in range(MOST_SKIPS + 1):
        with suppress(Refused):
            restorer.restore([crop], [reading], deadline_ns=soon(5))
            break
    else:
        pytest.fail("it never asks again")
    restorer.restore([crop], [reading], deadline_ns=soon(5))  # and then each time


def test_a_level_that_is_not_ready_is_made_so_while_others_go_on(
    model: ModelProcess, restorer: RemoteRestorer
) -> None:
    crop = random_crop(256)
    reading = restorer.guide([crop])[0]
    with pytest.raises(Refused):
        restorer.restore([crop], [reading], fidelity=0.7, deadline_ns=soon(0.5))
    patient = restorer.restore([crop], [reading], fidelity=0.7)[0]  # a file waits
    hurried = restorer.restore([crop], [reading], fidelity=0.7, deadline_ns=soon(5))[0]
    np.testing.assert_array_equal(patient.residual, hurried.residual)
    other = restorer.restore([crop], [reading], fidelity=1.0, deadline_ns=soon(5))[0]
    assert np.abs(other.residual - patient.residual).max() > 0.1


# -- coming and going -------------------------------------------------------------------------------------


def _outcomes(session: Session, picture: np.ndarray) -> list[Outcome]:
    return [face.outcome for face in session.process(picture)[1].faces]


def test_killed_in_the_middle_of_a_request_and_back_again(tmp_path: Path, weights: Path) -> None:
    path, picture = tmp_path / "socket", portraits(1)[0]
    with ExitStack() as stack:
        with ModelProcess(path, weights, fidelities=(0.4,)) as model:
            model.ready()
            restorer = connected(path)
            session = stack.enter_context(camera_session(restorer, steps=64))
            assert _outcomes(session, picture) == [Outcome.RESTORED]
            killing = threading.Timer(0.1, model.kill)
            killing.start()
            began, seen = time.monotonic(), []
            while Outcome.CACHED not in seen:
                seen += _outcomes(session, picture)
                assert time.monotonic() - began < 10
            killing.join()
        for _ in range(RECALL_FRAMES):
            seen += _outcomes(session, picture)
        assert seen[-1] is Outcome.SKIPPED
        with ModelProcess(path, weights, fidelities=(0.4,)) as model:
            model.ready()
            back = time.monotonic()
            wait_until(lambda: _outcomes(session, picture) == [Outcome.RESTORED], 5)
            assert time.monotonic() - back < 3
            assert 0 < session.process(picture)[1].faces[0].blend < 1  # it fades in: no flash


def test_without_a_model_process_pictures_pass(tmp_path: Path) -> None:
    picture, restorer = portraits(1)[0], RemoteRestorer(str(tmp_path / "nobody"), name="gate", priority=1)
    with camera_session(restorer) as session:
        out, report = session.process(picture)
        assert restorer.sha256 is None
    assert [face.outcome for face in report.faces] == [Outcome.SKIPPED]
    np.testing.assert_array_equal(out, Background(2).enlarge(picture))


def test_a_killed_camera_leaves_no_memory_and_no_file(model: ModelProcess) -> None:
    wait_until(model.is_idle, 5)
    with _client(model, "doomed", "-", 0, 0) as client:
        assert client.stdout is not None
        try:
            assert client.stdout.readline() == "connected\n"
            assert model.is_idle(cameras=1)
            model.next_report()
            assert "doomed" in model.next_report().cameras
        finally:
            client.kill()
    wait_until(model.is_idle, 5)
    model.next_report()
    assert "doomed" not in model.next_report().cameras


def test_a_camera_that_dies_with_a_request_in_work(model: ModelProcess) -> None:
    with closing(connected(model.path)) as restorer:
        crop = random_crop(512)
        reading = restorer.guide([crop])[0]
        for _ in range(2):
            with pytest.raises(Refused):  # given up here, in work there
                restorer.restore([crop], [reading], steps=64, deadline_ns=soon(0.02))
    with closing(connected(model.path, "next")) as restorer:
        restorer.restore([crop], [reading], deadline_ns=soon(5))
    wait_until(model.is_idle, 5)


def test_it_ends_with_its_supervisor_and_when_told(tmp_path: Path, weights: Path) -> None:
    for end in (ModelProcess.let_go, ModelProcess.terminate):
        with ModelProcess(tmp_path / "socket", weights) as model:
            model.ready()
            restorer = connected(model.path)
            end(model)
            assert model.process.wait(5) == 0
            assert not model.path.exists()
            with pytest.raises(Refused):
                restorer.guide([random_crop(256)])
            restorer.close()
            restorer.close()


def test_it_dies_with_a_supervisor_that_is_killed(tmp_path: Path, weights: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from model_process import ModelProcess;"
        f"model = ModelProcess(Path({str(tmp_path / 'socket')!r}), Path({str(weights)!r})).ready();"
        "print(model.process.pid, flush=True); time.sleep(100)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment(), cwd=CLIENT.parent
    ) as supervisor:
        assert supervisor.stdout is not None
        process_id = int(supervisor.stdout.readline())
        supervisor.kill()
    wait_until(lambda: not _alive(process_id), 5)


def _alive(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_it_says_why_it_cannot_begin(tmp_path: Path) -> None:
    with ModelProcess(tmp_path / "socket", tmp_path / "none.safetensors") as model:
        assert model.process.wait(60) == 2
        wait_until(lambda: bool(model.reports) and model.last.state == "stopped", 5)
        assert model.last.error == f"weights missing: {tmp_path / 'none.safetensors'}"
