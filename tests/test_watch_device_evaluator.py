"""The thread on which faces of all cameras are evaluated, with real connections, in this process."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import wait_until
from model_process import random_crop

from streamsr.model.crop import Crop
from streamsr.model.reading import GuideReading, Trace
from streamsr.model.restorer import Restorer
from streamsr.watch import device_queue
from streamsr.watch.device_connection import MOST_PASTS, PAST_S, Connection
from streamsr.watch.device_evaluator import Evaluator
from streamsr.watch.device_wire import (
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

pytest_plugins = ["model_fixtures"]


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
        hello = Hello(version=VERSION, name="x", priority=1)
        socket.send_fds(self.answers, [hello.model_dump_json().encode()], [fd])
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


def test_pasts_are_few_and_do_not_last() -> None:
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
