"""A camera and the network to it, broken in every way: the source comes back within ten seconds."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from fault_relay import FaultRelay
from helpers import wait_until
from rtsp_server import RtspServer, live_video, looped_pictures, raw_video

from streamsr.frame import Frame
from streamsr.io.rtsp import RtspSource

RECOVERY_S = 10

pytest_plugins = ["shared_fixtures"]
pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def serve(gstreamer: None) -> Iterator[Callable[..., RtspServer]]:
    with ExitStack() as servers:
        yield lambda *args, **options: servers.enter_context(RtspServer(*args, **options))


@pytest.fixture
def relay() -> Iterator[Callable[[RtspServer], FaultRelay]]:
    with ExitStack() as relays:
        yield lambda server: relays.enter_context(FaultRelay(server.port))


class Viewer:
    """Reads a source on a thread of its own and remembers the frames, without their pictures."""

    def __init__(self, source: RtspSource) -> None:
        self.source = source
        self.frames: list[tuple[float, Frame, tuple[int, int]]] = []  # when it came, its size
        self.last: Frame | None = None
        source.open()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        wait_until(lambda: len(self.frames) >= 5, 5)

    def _run(self) -> None:
        while (frame := self.source.read()) is not None:
            self.last = frame
            self.frames.append(
                (time.monotonic(), frame.with_image(frame.image[:0]), frame.image.shape[1::-1])
            )

    def seconds(self, seconds: float) -> list[Frame]:
        """What comes in so many seconds from now."""
        seen = len(self.frames)
        time.sleep(seconds)
        return [frame for _, frame, _ in self.frames[seen:]]

    def comes_back(self) -> float:
        """Wait for the first picture of a new connection from now on; how long that took."""
        began, seen = time.monotonic(), len(self.frames)
        wait_until(lambda: any(frame.discontinuity for _, frame, _ in self.frames[seen:]), RECOVERY_S)
        return time.monotonic() - began

    def close(self) -> None:
        self.source.close()
        self._thread.join()


@pytest.fixture
def view() -> Iterator[Callable[..., Viewer]]:
    """Afterwards: threads and descriptors as before, and pts that increased with the time that passed."""
    av.open(os.devnull, format="rawvideo", options={"video_size": "2x2"}).close()  # loads what loads once
    threads = set(threading.enumerate())
    descriptors: list[str] = []
    viewers: list[Viewer] = []

    def make(url: str, **options: object) -> Viewer:
        descriptors[:] = os.listdir("/proc/self/fd")  # those of server and relay are among them
        timeouts = {"stall_timeout_s": 1.5, "open_timeout_s": 4.0}
        viewers.append(Viewer(RtspSource(url, **timeouts | options)))  # type: ignore[arg-type]
        return viewers[-1]

    yield make
    for viewer in viewers:
        viewer.close()
        for (came, early, _), (went, late, _) in pairwise(viewer.frames):
            assert 0 < late.time_s - early.time_s < went - came + 2.5
    wait_until(lambda: not set(threading.enumerate()) - threads, 8)
    assert len(os.listdir("/proc/self/fd")) <= len(descriptors)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.soak)])
def test_a_black_hole(serve, relay, view, transport: str, seconds: float) -> None:  # type: ignore[no-untyped-def]
    network = relay(serve({"/live": live_video()}))
    viewer = view(network.url("/live"), transport=transport)
    network.black_hole()
    wait_until(lambda: viewer.source.statistics().state == "stalled", 3)
    wait_until(lambda: viewer.source.statistics().stalls == 1, 3)
    assert len(viewer.seconds(seconds)) == 0
    network.heal()
    assert viewer.comes_back() < RECOVERY_S
    assert len(viewer.seconds(1)) > 15
    statistics = viewer.source.statistics()
    assert (statistics.state, statistics.reconnects, statistics.stalls) == ("streaming", 1, 1)


@pytest.mark.soak
def test_a_connection_of_which_one_direction_is_dead(serve, relay, view) -> None:  # type: ignore[no-untyped-def]
    network = relay(serve({"/live": live_video()}))
    viewer = view(network.url("/live"))
    network.half_open("up")  # what the client says gets lost: it does not have to say anything
    assert not any(frame.discontinuity for frame in viewer.seconds(3))
    network.half_open("down")
    wait_until(lambda: "did not answer" in (viewer.source.statistics().last_error or ""), 8)
    network.heal()
    assert viewer.comes_back() < RECOVERY_S


def test_a_cut_and_a_slow_network(serve, relay, view) -> None:  # type: ignore[no-untyped-def]
    network = relay(serve({"/live": live_video()}))
    viewer = view(network.url("/live"))
    network.cut()
    wait_until(lambda: viewer.source.statistics().state == "backoff", 2)
    time.sleep(2)
    network.heal()
    assert viewer.comes_back() < RECOVERY_S
    network.delay(0.3)
    frames = viewer.seconds(3)
    assert len(frames) > 50 and not any(frame.discontinuity for frame in frames)


@pytest.mark.parametrize(("share", "least"), [(0.05, 0.7), pytest.param(0.2, 0.3, marks=pytest.mark.soak)])
def test_lost_datagrams(serve, relay, view, share: float, least: float) -> None:  # type: ignore[no-untyped-def]
    network = relay(serve({"/live": live_video()}))
    viewer = view(network.url("/live"), transport="udp")
    network.lose(share)
    frames = viewer.seconds(6)
    assert least * 150 < len(frames) < (1 - share / 4) * 150
    assert viewer.source.statistics().reconnects == 0
    network.heal()
    time.sleep(0.5)  # until the next keyframe
    frames = viewer.seconds(2)
    assert len(frames) > 40 and viewer.source.statistics().reconnects == 0
    assert not any(frame.discontinuity for frame in frames)


def test_damaged_datagrams(serve, relay, view) -> None:  # type: ignore[no-untyped-def]
    network = relay(serve({"/live": live_video(pattern="red")}))
    viewer = view(network.url("/live"), transport="udp")
    network.garble(0.7)
    wait_until(lambda: viewer.source.statistics().damaged > 5, 12)
    network.heal()
    began, seen = time.monotonic(), len(viewer.frames)
    wait_until(lambda: (160, 120) in [size for *_, size in viewer.frames[seen + 5 :]], RECOVERY_S)
    wait_until(lambda: np.abs(viewer.last.image[60, 80].astype(int) - (255, 0, 0)).max() <= 6, 3)
    assert time.monotonic() - began < RECOVERY_S


def test_a_camera_whose_clock_is_set(serve, relay, view) -> None:  # type: ignore[no-untyped-def]
    network = relay(serve({"/live": live_video()}))
    viewer = view(network.url("/live"), transport="udp")
    for jumps, seconds in enumerate((5, -30, 3600), start=1):
        network.leap(seconds)
        frames = viewer.seconds(2)
        assert len(frames) > 35 and not any(frame.discontinuity for frame in frames)
        assert 1.5 < frames[-1].time_s - frames[0].time_s < 2.5
        assert viewer.source.statistics().jumps == jumps
    assert viewer.source.statistics().reconnects == 0


@pytest.mark.parametrize("codec", ["h265", pytest.param("mjpeg", marks=pytest.mark.soak)])
def test_a_camera_that_comes_back_as_another(serve, view, codec: str) -> None:  # type: ignore[no-untyped-def]
    server = serve({"/live": live_video()})
    viewer = view(server.url("/live"))
    server.kill()
    server.set_play("/live", live_video(320, 176, 10, codec=codec))
    server.start()
    assert viewer.comes_back() < RECOVERY_S
    frames = viewer.seconds(2)
    assert 15 < len(frames) < 25
    assert {round(late.time_s - early.time_s, 3) for early, late in pairwise(frames)} == {0.1}
    assert viewer.frames[-1][2] == (320, 176)
    statistics = viewer.source.statistics()
    assert statistics.codec == {"h265": "hevc"}.get(codec, codec)
    assert (statistics.recoded, statistics.resized, statistics.reconnects) == (1, 1, 1)


@pytest.mark.parametrize(
    "codec", ["h264", *(pytest.param(name, marks=pytest.mark.soak) for name in ("h265", "mjpeg"))]
)
def test_a_camera_that_changes_its_size_while_it_streams(serve, view, codec: str) -> None:  # type: ignore[no-untyped-def]
    server = serve({"/live": live_video(codec=codec)})
    viewer = view(server.url("/live"))
    for count, (width, height) in enumerate([(320, 176), (96, 64), (160, 120)], start=1):
        server.set("format", "caps", raw_video(width, height))
        assert viewer.comes_back() < 2
        assert viewer.frames[-1][2] == (width, height)
        assert viewer.source.statistics().resized == count
    assert viewer.source.statistics().reconnects == 0


def test_a_frozen_camera_that_a_new_connection_cures(serve, view) -> None:  # type: ignore[no-untyped-def]
    server = serve({"/live": live_video()})
    viewer = view(server.url("/live"), frozen_timeout_s=2.0)
    server.set("camera", "pattern", "red")
    viewer.comes_back()  # the server, whose last client had left, began anew
    wait_until(lambda: viewer.source.statistics().state == "streaming", 2)
    statistics = viewer.source.statistics()
    assert (statistics.frozen, statistics.reconnects, statistics.stalls) == (1, 1, 0)
    assert statistics.last_error == "the same picture for 2 s"


@pytest.mark.soak
def test_a_frozen_camera_is_shown_as_such_and_not_left_again_and_again(serve, view) -> None:  # type: ignore[no-untyped-def]
    server = serve({"/live": live_video()})
    view(server.url("/live"))  # keeps the server's pipeline running
    viewer = view(server.url("/live"), frozen_timeout_s=2.0)
    server.set("camera", "pattern", "red")
    viewer.comes_back()
    wait_until(lambda: viewer.source.statistics().state == "frozen", 1)
    frames = viewer.seconds(4)
    assert len(frames) > 80 and not any(frame.discontinuity for frame in frames)
    server.set("camera", "pattern", "ball")
    wait_until(lambda: viewer.source.statistics().state == "streaming", 2)
    server.set("camera", "pattern", "red")
    wait_until(lambda: viewer.source.statistics().state == "frozen", 4)
    assert not any(frame.discontinuity for frame in viewer.seconds(1))
    statistics = viewer.source.statistics()
    assert (statistics.frozen, statistics.reconnects, statistics.stalls) == (2, 1, 0)


def test_a_still_scene_is_not_frozen(serve, view, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    random = np.random.default_rng(0)
    for index in range(20):
        noisy = np.clip(random.normal(120, 2, (48, 64, 3)), 0, 255).astype(np.uint8)
        av.VideoFrame.from_ndarray(noisy, format="rgb24").save(str(tmp_path / f"{index:05d}.png"))
    viewer = view(
        serve({"/still": looped_pictures(f"{tmp_path}/%05d.png")}).url("/still"), frozen_timeout_s=2
    )
    viewer.seconds(5)
    statistics = viewer.source.statistics()
    assert (statistics.state, statistics.frozen, statistics.reconnects) == ("streaming", 0, 0)


@pytest.mark.soak
def test_a_password_that_is_changed_and_changed_back(serve, view) -> None:  # type: ignore[no-untyped-def]
    server = serve({"/live": live_video()}, user="ann", password="s3cret")
    viewer = view(server.url("/live", "ann:s3cret"))
    server.kill()
    server.set_password("another")
    server.start()
    wait_until(lambda: viewer.source.statistics().last_error == "wrong user or password (401)", 8)
    time.sleep(3)
    server.kill()
    server.set_password("s3cret")
    server.start()
    assert viewer.comes_back() < RECOVERY_S


class GarbageServer:
    """Speaks RTSP up to PLAY as a camera would, and then sends noise on the connection."""

    SDP = (
        b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
        b"a=rtpmap:96 H264/90000\r\na=control:track1\r\n"
    )

    def __init__(self, port: int, noise: bytes) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        self._noise = noise
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.played = 0

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # shut down
                return
            with client:
                client.settimeout(0.2)
                try:
                    self._serve(client)
                except OSError:
                    continue

    def _serve(self, client: socket.socket) -> None:
        while request := client.recv(4096):
            sequence = request.partition(b"CSeq: ")[2].split(b"\r\n")[0]
            head = b"RTSP/1.0 200 OK\r\nCSeq: " + sequence + b"\r\n"
            verb = request.split(b" ")[0]
            if verb == b"DESCRIBE":
                head += b"Content-Type: application/sdp\r\nContent-Length: %d\r\n" % len(self.SDP)
                client.sendall(head + b"\r\n" + self.SDP)
            elif verb == b"SETUP":
                head += b"Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
                client.sendall(head + b"\r\n")
            elif verb == b"PLAY":
                client.sendall(head + b"Session: 1\r\n\r\n")
                self.played += 1
                while True:
                    client.sendall(self._noise)
                    time.sleep(0.05)
            else:
                client.sendall(head + b"Public: DESCRIBE, SETUP, PLAY\r\n\r\n")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


RANDOM = np.random.default_rng(0).bytes(20_000)
FRAMED = b"".join(  # RTP by its header, noise inside
    b"$\0\2\0" + b"\x80\x60" + index.to_bytes(2, "big") + RANDOM[508 * index : 508 * index + 508]
    for index in range(20)
)


@pytest.mark.parametrize("noise", [RANDOM, FRAMED], ids=["bytes", "RTP"])
def test_garbage_after_the_description(serve, view, noise: bytes) -> None:  # type: ignore[no-untyped-def]
    server = serve({"/live": live_video()})
    viewer = view(server.url("/live"))
    server.kill()
    garbage = GarbageServer(server.port, noise)
    wait_until(lambda: garbage.played >= 2, 20)
    assert viewer.source.statistics().hung <= 2
    garbage.close()
    server.start()
    assert viewer.comes_back() < RECOVERY_S
    assert viewer.seconds(1) and viewer.frames[-1][2] == (160, 120)
