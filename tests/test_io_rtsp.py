"""Against a real server, which is killed, frozen and brought back while it serves."""

import os
import socket
import threading
import time
import traceback
from contextlib import ExitStack
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from helpers import wait_until
from rtsp_server import RtspServer, free_port, live_video, looped_pictures

from streamsr.clock import NS_PER_S
from streamsr.errors import ConfigError, SourceError
from streamsr.frame import Frame, Matrix
from streamsr.io.rtsp import RtspSource

RECOVERY_S = 10

pytest_plugins = ["shared_fixtures"]
pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def serve(gstreamer):
    with ExitStack() as servers:
        yield lambda *args, **kwargs: servers.enter_context(RtspServer(*args, **kwargs))


@pytest.fixture(autouse=True)
def nothing_left():
    """No thread and no descriptor outlives a test: once FFmpeg's own timeouts have ended hung calls."""
    av.open(os.devnull, format="rawvideo", options={"video_size": "2x2"}).close()  # loads what loads once
    threads, descriptors = set(threading.enumerate()), os.listdir("/proc/self/fd")
    yield
    wait_until(lambda: not set(threading.enumerate()) - threads, 8)
    assert len(os.listdir("/proc/self/fd")) <= len(descriptors)


@pytest.fixture
def source():
    """RtspSource with a short patience, closed at the end."""
    with ExitStack() as sources:

        def make(url, **options):
            made = RtspSource(url, **{"stall_timeout_s": 1.5, "open_timeout_s": 6} | options)
            sources.callback(made.close)
            return made

        yield make


def read(source, count):
    frames = [source.read() for _ in range(count)]
    assert all(frames)
    return frames


def assert_recovers(source, cause_ended_s):
    """The next new picture within 10 s of the end of its cause; returned."""
    while True:
        frame = source.read()
        if frame.discontinuity:
            assert time.monotonic() - cause_ended_s < RECOVERY_S
            return frame


def _pts_a_picture(frames: list[Frame]) -> set[float]:
    """A reader that is late misses pictures, which the index counts."""
    return {(late.pts - early.pts) / (late.index - early.index) for early, late in pairwise(frames)}


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_reads_live_video(serve, source, transport):
    server = serve({"/live": live_video(rate=Fraction(30000, 1001), pattern="red")})
    camera = source(server.url("/live"), transport=transport)
    info = camera.open()
    assert (info.width, info.height, info.frames) == (160, 120, None)
    assert (info.rate, info.time_base) == (Fraction(30000, 1001), Fraction(1, 90_000))
    frames = read(camera, 20)
    assert [frame.discontinuity for frame in frames] == [True] + [False] * 19
    assert _pts_a_picture(frames) == {3003}
    assert all(frame.duration in (3003, 3004) for frame in frames)
    assert all(frame.image.shape == (120, 160, 3) and frame.image.flags.c_contiguous for frame in frames)
    assert np.abs(frames[-1].image.astype(int) - (255, 0, 0)).max() <= 4
    assert camera.statistics().state == "streaming"
    assert camera.live


def test_hd_is_read_with_its_matrix(serve, source):
    server = serve({"/hd": live_video(1280, 720, 10, pattern="red")})
    camera = source(server.url("/hd"))
    assert camera.open().colour.matrix is Matrix.BT709
    assert np.abs(read(camera, 1)[0].image.astype(int) - (255, 0, 0)).max() <= 4


def test_a_picture_may_not_ask_for_the_whole_memory(serve, source, monkeypatch):
    monkeypatch.setattr("streamsr.io.rtsp_connection.MAX_PIXELS", 100 * 100)
    server = serve({"/live": live_video()})
    with pytest.raises(SourceError, match="Invalid argument"):
        source(server.url("/live")).open()


def test_b_frames_come_in_order(serve, source):
    server = serve({"/b": live_video(b_frames=2)})
    camera = source(server.url("/b"))
    camera.open()
    frames = read(camera, 20)
    assert _pts_a_picture(frames) == {3600}


def test_looped_pictures_go_on(serve, source, tmp_path):
    for index in range(20):
        level = np.full((48, 64, 3), 40 + 8 * index, np.uint8)
        av.VideoFrame.from_ndarray(level, format="rgb24").save(str(tmp_path / f"{index:05d}.png"))
    server = serve({"/pictures": looped_pictures(f"{tmp_path}/%05d.png")})
    camera = source(server.url("/pictures"))
    camera.open()
    frames = read(camera, 45)
    numbers = [round((float(frame.image.mean()) - 40) / 8) for frame in frames]
    assert set(numbers) == set(range(20))
    first = frames[0]
    for frame, number in zip(frames, numbers, strict=True):
        assert (frame.pts - first.pts) / 3600 % 20 == pytest.approx((number - numbers[0]) % 20, abs=0.01)


def test_a_slow_reader_gets_new_pictures_and_the_rest_is_counted(serve, source):
    server = serve({"/live": live_video()})
    camera = source(server.url("/live"))
    camera.open()
    frames, ages_s = [], []
    for _ in range(4):
        time.sleep(0.4)
        frames += read(camera, 1)
        ages_s.append((time.monotonic_ns() - frames[-1].captured_ns) / NS_PER_S)
    statistics = camera.statistics()
    assert max(ages_s) < 1.0  # a queue would hold it for longer
    assert frames[0].discontinuity  # handed on by the pictures that replaced the first
    assert frames[-1].index > 6  # most were not read
    assert statistics.drops >= frames[-1].index - 3
    assert statistics.frames >= statistics.drops + 4


def test_a_killed_server_comes_back(serve, source):
    server = serve({"/live": live_video()})
    camera = source(server.url("/live"))
    camera.open()
    before, began_s = read(camera, 5)[-1], time.monotonic()
    server.kill()
    wait_until(lambda: camera.statistics().state == "backoff", 2)
    assert camera.statistics().last_error
    time.sleep(1)
    server.start()
    after = assert_recovers(camera, time.monotonic())
    passed_s = time.monotonic() - began_s
    assert passed_s - 1 < after.time_s - before.time_s < passed_s + 1
    assert camera.statistics().reconnects == 1
    assert not any(frame.discontinuity for frame in read(camera, 5))


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_frozen_server_is_noticed_and_comes_back(serve, source, transport):
    server = serve({"/live": live_video()})
    camera = source(server.url("/live"), transport=transport)
    camera.open()
    before = read(camera, 5)[-1]
    server.freeze()
    wait_until(lambda: camera.statistics().state == "stalled", 2)
    wait_until(lambda: camera.statistics().stalls == 1, 3)
    time.sleep(1.5)
    server.thaw()
    after = assert_recovers(camera, time.monotonic())
    assert after.pts > before.pts
    assert (camera.statistics().reconnects, camera.statistics().stalls) == (1, 1)


def test_a_server_that_answers_but_sends_nothing_is_given_up(serve, source):
    server = serve({"/live": live_video()})
    camera = source(server.url("/live"))
    camera.open()
    read(camera, 5)
    server.stall()
    wait_until(lambda: camera.statistics().stalls == 1, 4)
    server.resume()
    assert_recovers(camera, time.monotonic())


def test_a_hiccup_shorter_than_the_timeout_is_sat_out(serve, source):
    server = serve({"/live": live_video()})
    camera = source(server.url("/live"))
    camera.open()
    read(camera, 5)
    server.freeze()
    time.sleep(1)
    server.thaw()
    assert not any(frame.discontinuity for frame in read(camera, 20))
    assert (camera.statistics().reconnects, camera.statistics().stalls) == (0, 0)


def test_another_size_is_a_discontinuity(serve, source):
    server = serve({"/live": live_video()})
    camera = source(server.url("/live"))
    camera.open()
    read(camera, 3)
    server.kill()
    server.set_play("/live", live_video(320, 176))
    server.start()
    after = assert_recovers(camera, time.monotonic())
    assert after.image.shape == (176, 320, 3)


def test_without_reconnect_a_hang_up_is_the_end(serve, source):
    server = serve({"/live": live_video()})
    camera = source(server.url("/live"), reconnect=False)
    camera.open()
    server.kill()
    while camera.read():
        pass
    assert camera.read() is None
    assert camera.statistics().last_error == "the server ended the stream"


def test_without_reconnect_silence_is_an_error(serve, source):
    server = serve({"/live": live_video()})
    camera = source(server.url("/live"), reconnect=False)
    camera.open()
    server.freeze()
    with pytest.raises(SourceError, match=r"no picture for 1\.5 s"):
        while camera.read():
            pass
    with pytest.raises(SourceError):
        camera.read()


def test_attempts_can_be_limited(serve, source):
    server = serve({"/live": live_video()})
    camera = source(server.url("/live"), max_attempts=2)
    camera.open()
    server.kill()
    with pytest.raises(SourceError, match=r"2 attempts to reconnect failed.*refused"):
        while camera.read():
            pass


@pytest.mark.parametrize("digest", [False, True], ids=["basic", "digest"])
def test_password(serve, source, digest):
    server = serve({"/live": live_video()}, user="ann", password="s3:cret", digest=digest)
    camera = source(server.url("/live", "ann:s3%3Acret"))
    camera.open()
    read(camera, 1)
    assert camera.url == f"rtsp://***@127.0.0.1:{server.port}/live"
    for userinfo, reason in (("ann:wr0ng", "wrong user or password"), ("", "wants a user and a password")):
        with pytest.raises(SourceError, match=reason) as failure:
            source(server.url("/live", userinfo)).open()
        assert "wr0ng" not in "".join(traceback.format_exception(failure.value)) + failure.value.url


def test_wrong_path(serve, source):
    server = serve({"/live": live_video()})
    with pytest.raises(SourceError, match=r"no stream at path '/nope' \(404\)"):
        source(server.url("/nope")).open()


@pytest.fixture
def listener():
    """A TCP server on 127.0.0.1 that sends what it is given to every client; None: it is silent."""
    with ExitStack() as stack:

        def listen(greeting):
            server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            stack.callback(server.shutdown, socket.SHUT_RDWR)  # wakes ``accept``
            if greeting is not None:
                threading.Thread(target=greet, args=(server, greeting), daemon=True).start()
            return f"rtsp://127.0.0.1:{server.getsockname()[1]}/live"

        def greet(server, greeting):
            while True:
                try:
                    client, _ = server.accept()
                except OSError:  # shut down
                    return
                with client:
                    client.recv(1024)
                    client.sendall(greeting)

        yield listen


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        (None, "accepted the connection but did not answer within 1.5 s"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak RTSP: it answered 'HTTP/1.1 400 Bad Request'"),
        (b"SSH-2.0-OpenSSH_9.7\r\n", "does not speak RTSP"),
        (b"\r\n", "closed the connection"),
        (b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n", "127.0.0.1|server"),
    ],
    ids=["silent", "http", "ssh", "empty", "half"],
)
def test_not_a_server(listener, source, greeting, reason):
    began_s = time.monotonic()
    with pytest.raises(SourceError, match=reason):
        source(listener(greeting)).open()
    assert time.monotonic() - began_s < 4


def test_nobody_there(source):
    with pytest.raises(SourceError, match="refused the connection"):
        source(f"rtsp://127.0.0.1:{free_port()}/live").open()
    with pytest.raises(SourceError, match=r"host name 'camera\.invalid' is unknown"):
        source("rtsp://camera.invalid/live").open()


@pytest.mark.parametrize(
    "url", ["http://host/x", "rtsp:///x", "rtsp://u:s3cret@host:port/x", "rtsp://[::1/x", "x"]
)
def test_refuses_what_is_no_rtsp_url(url):
    with pytest.raises(ConfigError, match="an RTSP URL must be") as failure:
        RtspSource(url)
    assert "s3cret" not in str(failure.value)


def test_credentials_in_the_query_are_not_shown():
    source = RtspSource("rtsp://camera/live?channel=1&user=ann&password=s3cret&subtype=0")
    assert source.url == "rtsp://camera/live?channel=1&user=***&password=***&subtype=0"


@pytest.mark.parametrize("stop", ["interrupt", "close"])
def test_stops_while_connecting(listener, source, stop):
    camera = source(listener(None), stall_timeout_s=30)
    stopper = threading.Timer(0.3, getattr(camera, stop))
    stopper.start()
    began_s = time.monotonic()
    with pytest.raises(SourceError, match="interrupted"):
        camera.open()
    assert time.monotonic() - began_s < 0.3 + 1
    stopper.join()
    assert camera.statistics().state == "closed"


@pytest.mark.parametrize(
    ("state", "stop"),
    [
        ("streaming", "interrupt"),
        ("streaming", "close"),
        ("stalled", "interrupt"),
        ("backoff", "close"),
        ("connecting", "interrupt"),
    ],
)
def test_stops_from_any_state(serve, source, state, stop):
    server = serve({"/live": live_video()})
    camera = source(server.url("/live"), stall_timeout_s=3 if state == "stalled" else 1)
    camera.open()
    if state in ("stalled", "connecting"):
        server.freeze()
    elif state == "backoff":
        server.kill()
    wait_until(lambda: camera.statistics().state == state, 6)
    ended = []

    def drain():
        while camera.read() is not None:
            pass
        ended.append(time.monotonic())

    reader = threading.Thread(target=drain)
    reader.start()
    time.sleep(0.1)
    began_s = time.monotonic()
    getattr(camera, stop)()
    camera.close()
    camera.close()
    reader.join(2)
    assert ended[0] - began_s < 1
    assert time.monotonic() - began_s < 1.5
    assert camera.statistics().state == "closed"
    assert camera.read() is None


def test_closed_without_open_and_opened_once(serve, source):
    source("rtsp://127.0.0.1/live").close()
    server = serve({"/live": live_video()})
    camera = source(server.url("/live"))
    camera.open()
    with pytest.raises(SourceError, match="opened once"):
        camera.open()
