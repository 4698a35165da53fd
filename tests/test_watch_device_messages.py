"""What cameras may say to the model process, and what becomes of those that say something else."""

from __future__ import annotations

import json
import os
import random
import socket
from contextlib import closing, suppress
from dataclasses import replace

import numpy as np
import pytest
from helpers import wait_until
from model_process import ModelProcess, random_crop, soon
from remote_client import connected

from streamsr.session import Refused
from streamsr.watch.device_wire import (
    MEMORY_BYTES,
    VERSION,
    Face,
    Guide,
    Hello,
    SharedPictures,
    create_memory,
    from_device,
)
from streamsr.watch.remote_restorer import RemoteRestorer

pytest_plugins = ["model_fixtures"]


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


def test_hello_says_who_it_is() -> None:
    with pytest.raises(ValueError, match="name"):
        Hello(version=VERSION, name="x" * 65, priority=0)


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
