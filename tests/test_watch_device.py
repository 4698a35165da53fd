"""The model process and what cameras get from it: real processes, small weights."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import wait_until
from model_process import ModelProcess, random_crop, soon, tiny_weights
from remote_client import camera_session, connected, portraits

from streamsr.enhancer import Enhancer
from streamsr.face.composite import upscale
from streamsr.interpreter import environment
from streamsr.memory import RECALL_FRAMES
from streamsr.model.crop import Crop
from streamsr.model.reading import GuideReading
from streamsr.model.restorer import Restorer
from streamsr.report import Outcome
from streamsr.session import Refused, Session
from streamsr.watch import device_queue
from streamsr.watch.device_connection import MOST_PASTS, PAST_S, Connection
from streamsr.watch.device_evaluator import Evaluator
from streamsr.watch.device_wire import (
    MEMORY_BYTES,
    VERSION,
    Face,
    FaceToRestore,
    Guide,
    Hello,
    ReadingMessage,
    Restore,
    SharedPictures,
    create_memory,
    from_device,
)
from streamsr.watch.remote_restorer import MOST_SKIPS, RemoteRestorer

CLIENT = Path(__file__).with_name("remote_client.py")
FRAMES = 8


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Iterator[ModelProcess]:
    path = tmp_path_factory.mktemp("model") / "socket"
    with ModelProcess(path, weights, fidelities=(0.4, 1.0)) as process:
        yield process.ready()


@pytest.fixture
def restorer(model: ModelProcess) -> Iterator[RemoteRestorer]:
    with closing(connected(model.path)) as made:
        yield made


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


def test_with_the_packaged_weights_too(tmp_path: Path) -> None:
    out = tmp_path / "packaged.npy"
    with ModelProcess(tmp_path / "socket") as model:
        model.ready(120)
        with _client(model, "alone", out, FRAMES, 3) as client:
            assert client.communicate(timeout=120)[0].split() == ["restored"] * FRAMES
    np.testing.assert_array_equal(np.load(out), _in_process(None, 3))


@pytest.fixture
def evaluator(weights: Path) -> Iterator[Evaluator]:
    """In this process, not started yet."""
    failures: list[BaseException] = []
    made = Evaluator(Restorer.load(weights, device="cpu", threads=1), (1.0,), failures.append)
    yield made
    made.close()
    assert failures == []


class _JoinedCamera:
    """A camera's side of a connection, and the connection, in one process. ``answers``: its socket."""

    def __init__(self, evaluator: Evaluator) -> None:
        self.answers, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.answers.settimeout(20)
        self.connection, fd = Connection(theirs, 0), create_memory("x")
        self.pictures = SharedPictures(fd)
        socket.send_fds(self.answers, [_hello()], [fd])
        os.close(fd)
        self._evaluator = evaluator
        self.connection.receive(evaluator.restorer.sizes)
        evaluator.join(self.connection)

    def ask(self, request: Guide | Restore) -> None:
        self.answers.send(request.model_dump_json().encode())
        message = self.connection.receive(self._evaluator.restorer.sizes)
        assert message == request
        self._evaluator.ask(self.connection, request)

    def leave(self) -> None:
        self._evaluator.leave(self.connection)
        self.answers.close()


def test_faces_of_many_cameras_share_an_evaluation(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_queue, "MOST_MS", 1e6)  # however slow this machine is
    crops = [random_crop(256, index) for index in range(6)]
    readings = evaluator.restorer.guide(crops)
    cameras = []
    for index in range(3):
        cameras.append(_JoinedCamera(evaluator))
        faces = []
        for k in (0, 1):
            crop = crops[2 * index + k]
            cameras[-1].pictures.write(1, k, crop)
            reading = ReadingMessage.of(readings[2 * index + k])
            at = tuple(crop.camera.ravel().tolist())
            faces.append(
                FaceToRestore(camera=at, patch=crop.patch.shape, reading=reading, key=k, recent=False)  # type: ignore[arg-type]
            )
        asked = {"id": index, "slot": 1, "size": 256, "deadline_ns": None, "faces": tuple(faces)}
        cameras[-1].ask(Restore(**asked, steps=1, seed=0, fidelity=1.0))
    evaluator.start()
    for index, camera in enumerate(cameras):
        answer = from_device(camera.answers.recv(16_384))
        assert (answer.type, answer.id) == ("restored", index)
        for k in (0, 1):
            at = 2 * index + k
            alone = evaluator.restorer.restore([crops[at]], [readings[at]])[0].residual
            np.testing.assert_allclose(camera.pictures.residual(1, k, 256), alone, atol=0.51)
        assert len(camera.connection.pasts) == 2
        camera.leave()
    batches, restored, refused, waiting = evaluator.statistics()
    assert (batches, restored, refused, waiting) == ({6: 1}, 6, 0, 0)


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
    """How many requests were done, of how many."""
    crop = random_crop(256)
    reading = restorer.guide([crop])[0]
    done = asked = 0
    due = time.monotonic()
    while time.monotonic_ns() < until_ns:
        due = max(due + period_s, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
        began_ns, asked = time.monotonic_ns(), asked + 1
        try:
            restorer.restore([crop], [reading], steps=steps, deadline_ns=began_ns + round(2.5e9 * period_s))
            done += 1
        except Refused:
            pass
        ages_ms.append((time.monotonic_ns() - began_ns) / 1e6)
    return done, asked


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
    (done, asked), *others = results
    assert done >= 0.9 * asked, results
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
    np.testing.assert_array_equal(out, upscale(picture, 2))


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


# -- what is no message -----------------------------------------------------------------------------------


def _connected(model: ModelProcess) -> socket.socket:
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link.settimeout(10)
    link.connect(str(model.path))
    return link


def _hello(**changes: object) -> bytes:
    return json.dumps({"type": "hello", "version": VERSION, "name": "x", "priority": 1, **changes}).encode()


def _greeted(model: ModelProcess) -> socket.socket:
    link, fd = _connected(model), create_memory("x")
    socket.send_fds(link, [_hello()], [fd])
    os.close(fd)
    assert from_device(link.recv(16_384)).type == "welcome"
    return link


def _answer(link: socket.socket) -> str | None:
    """Its type; None: the connection has ended."""
    try:
        packet = link.recv(16_384)
    except ConnectionResetError:
        return None
    return from_device(packet).type if packet else None


def _is_ended(link: socket.socket) -> bool:
    while (answer := _answer(link)) is not None:
        assert answer in ("refused", "read")
    return True


def _mutated(rng: random.Random, message: bytes) -> bytes:
    choice = rng.randrange(5)
    if choice == 0:
        return rng.randbytes(rng.randrange(1, 300))
    if choice == 1:
        return message[: rng.randrange(1, len(message))]
    if choice == 2:
        at = rng.randrange(len(message))
        return message[:at] + rng.randbytes(rng.randrange(1, 5)) + message[at + 1 :]
    document = json.loads(message)
    key = rng.choice(sorted(document))
    wrong = [None, -1, 2**70, 1e308, "x" * 100, [], {}, [[[]]], True, 3.7]
    document[key] = rng.choice(wrong)
    if choice == 4:
        document[rng.choice(["extra", "type", "slot"])] = rng.choice(wrong)
    return json.dumps(document).encode()


def test_two_thousand_malformed_messages_end_their_connections_only(
    model: ModelProcess, restorer: RemoteRestorer
) -> None:
    crop = random_crop(256)
    reading = restorer.guide([crop])[0]
    rng = random.Random(1)
    face = Face(camera=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0), patch=(16, 16))
    good = Guide(id=1, slot=0, size=256, deadline_ns=None, faces=(face,)).model_dump_json().encode()
    link, malformed = _greeted(model), 0
    for index in range(2000):
        link.send(_mutated(rng, good))
        if _answer(link) is None:
            link.close()
            link, malformed = _greeted(model), malformed + 1
        if index % 200 == 0:
            restorer.restore([crop], [reading], deadline_ns=soon(5))
    link.close()
    assert 1500 < malformed < 2000  # some changes leave a message a message
    restorer.restore([crop], [reading], deadline_ns=soon(5))
    assert model.process.poll() is None
    wait_until(lambda: model.is_idle(cameras=1), 5)


def test_what_may_not_be_asked_ends_the_connection(model: ModelProcess) -> None:
    face = Face(camera=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0), patch=(16, 16))
    guide = {"id": 1, "slot": 0, "size": 256, "deadline_ns": None, "faces": (face,)}
    same = Guide(**guide).model_dump_json().encode()
    for packets in (
        [Guide(**{**guide, "size": 300}).model_dump_json().encode()],
        [same.replace(b'"slot":0', b'"slot":2')],
        [same.replace(b"16,16", b"16,257")],
        [same.replace(b"1.0", b"NaN")],
        [same] * 40,  # a slot that is in use
        [_hello()],
        [b"{" * 16_000],
        [b" " * 20_000 + same],
    ):
        with _greeted(model) as link:
            try:
                for packet in packets:
                    link.send(packet)
            except (BrokenPipeError, ConnectionResetError):
                continue
            assert _is_ended(link), packets[0]


def test_numbers_that_are_none_harm_nobody(model: ModelProcess, restorer: RemoteRestorer) -> None:
    crop = random_crop(256)
    reading = restorer.guide([crop])[0]
    before = restorer.restore([crop], [reading])[0].residual
    with closing(connected(model.path, "wrong")) as other, suppress(Refused):
        for wrong in (
            replace(crop, patch=np.full((16, 16), np.nan, np.float32)),
            replace(crop, patch=np.full((16, 16), 3e38, np.float32)),
            replace(crop, camera=np.zeros((2, 3))),
            replace(crop, camera=np.full((2, 3), 1e9)),
        ):
            other.guide([wrong], soon(5))
            other.restore([wrong], [replace(reading, log_bands=np.full(7, 1e9, np.float32))], None)
    np.testing.assert_array_equal(restorer.restore([crop], [reading])[0].residual, before)


def test_a_guide_that_makes_no_sense_of_a_face_ends_the_connection_that_asked(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = evaluator.restorer.guide

    def senseless(crops: list[Crop]) -> list[GuideReading]:
        return [replace(reading, log_sigma_y=float("nan")) for reading in guide(crops)]

    monkeypatch.setattr(evaluator.restorer, "guide", senseless)
    camera = _JoinedCamera(evaluator)
    face = Face(camera=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0), patch=(16, 16))
    camera.ask(Guide(id=1, slot=0, size=256, deadline_ns=None, faces=(face,)))
    evaluator.start()
    wait_until(lambda: camera.connection.broken, 10)
    camera.leave()


def test_a_camera_that_brings_no_memory_or_a_wrong_one_is_sent_away(model: ModelProcess) -> None:
    small = os.memfd_create("small", os.MFD_ALLOW_SEALING)
    unsealed = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)  # could be cut short under its reader
    os.ftruncate(unsealed, MEMORY_BYTES)
    pipe = os.pipe()
    memory = create_memory("x")
    for packet, fds in (
        (_hello(), []),
        (_hello(), [small]),
        (_hello(), [unsealed]),
        (_hello(), [pipe[0]]),
        (_hello(), [memory, memory]),
        (_hello(version=2), [memory]),
        (_hello(priority=-1), [memory]),
        (_hello(name=""), [memory]),
    ):
        with _connected(model) as link:
            socket.send_fds(link, [packet], fds)
            assert _is_ended(link), packet
    for fd in (small, unsealed, *pipe, memory):
        os.close(fd)
    wait_until(model.is_idle, 5)


# -- parts ------------------------------------------------------------------------------------------------


def test_pictures_pass_through_the_memory_as_they_are() -> None:
    fd = create_memory("test")
    ours, theirs = SharedPictures(fd), SharedPictures(fd)
    os.close(fd)
    for slot, face, size in ((0, 0, 512), (1, 3, 512), (1, 2, 256)):
        crop = random_crop(size, slot + face)
        ours.write(slot, face, crop)
        told = Face(camera=tuple(crop.camera.ravel().tolist()), patch=crop.patch.shape)  # type: ignore[arg-type]
        read = theirs.read(slot, face, size, told)
        for name in ("x_in", "y", "camera", "patch"):
            np.testing.assert_array_equal(getattr(read, name), getattr(crop, name))
        theirs.residual(slot, face, size)[:] = np.float32(slot + 0.5)
        np.testing.assert_array_equal(ours.residual(slot, face, size), np.float32(slot + 0.5))
        np.testing.assert_array_equal(theirs.read(slot, face, size, told).x_in, crop.x_in)
    ours.write(0, 1, random_crop(512, 9))
    assert (ours.residual(1, 3, 512) == 1.5).all()  # what lies elsewhere stays


def test_pasts_are_few_and_do_not_last() -> None:
    from streamsr.model.reading import Trace

    ours, theirs = socket.socketpair()
    with ours, closing(Connection(theirs, 0)) as connection:
        crop = random_crop(256)
        for key in range(3 * MOST_PASTS):
            connection.pasts.keep(key, Trace(crop, np.ones((256, 256, 3), np.float32), "past"), key)
        assert len(connection.pasts) == MOST_PASTS
        kept = connection.pasts.find(3 * MOST_PASTS - 1, 256)
        assert kept is not None and kept.past == "past" and kept.residual.size == 0
        assert connection.pasts.find(0, 256) is None
        assert connection.pasts.find(3 * MOST_PASTS - 1, 512) is None
        connection.pasts.forget(round(1e9 * PAST_S) + 2 * MOST_PASTS + 3)
        assert len(connection.pasts) == MOST_PASTS - 4
        connection.pasts.forget(round(1e9 * PAST_S) + 4 * MOST_PASTS)
        assert len(connection.pasts) == 0


def test_hello_says_who_it_is() -> None:
    with pytest.raises(ValueError, match="name"):
        Hello(version=VERSION, name="x" * 65, priority=0)
