"""Against a real server, which is killed, frozen and brought back while the sink publishes."""

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from helpers import wait_until
from rtsp_server import RtspServer, free_port, publish_in, publish_out, publishers

from streamsr.errors import ConfigError, SinkError
from streamsr.frame import Colour, Frame, Matrix, Range, StreamInfo, Yuv420p
from streamsr.io.colour import from_rgb
from streamsr.io.rtsp import RtspSource
from streamsr.io.rtsp_sink import RtspSink

RECOVERY_S = 10
RTP = Fraction(1, 90_000)
INFO = StreamInfo(160, 120, Fraction(25), RTP, Colour(Matrix.BT709, Range.LIMITED))

pytest_plugins = ["shared_fixtures"]
pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def nothing_left():
    """No thread, process or descriptor outlives a test; the shared memory is but a descriptor."""
    threads, descriptors = set(threading.enumerate()), os.listdir("/proc/self/fd")
    yield
    assert not set(threading.enumerate()) - threads
    assert len(os.listdir("/proc/self/fd")) <= len(descriptors)
    assert not publishers()


@pytest.fixture
def server(gstreamer):
    with RtspServer({"/out": publish_out("a")}, {"/in": publish_in("a")}) as server:
        yield server


@pytest.fixture
def sink():
    with ExitStack() as sinks:

        def make(url, **options):
            made = RtspSink(url, **{"stall_timeout_s": 1.5} | options)
            sinks.callback(made.abort)
            return made

        yield make


def two_colours(width=160, height=120):
    image = np.empty((height, width, 3), np.uint8)
    image[:, : width // 2], image[:, width // 2 :] = (200, 40, 40), (30, 60, 200)
    return image


def in_planes(image):
    planes = from_rgb(image, INFO.colour, "yuv420p", VideoReformatter()).to_ndarray()
    return Yuv420p(planes, INFO.colour)


def noise(height, width):
    return list(np.random.default_rng(0).integers(0, 256, (8, height, width, 3), np.uint8))


class Writer:
    """Writes ``images`` in turn, 25 a second, on its own thread; remembers the longest ``write``."""

    def __init__(self, sink, *images):
        self.sink, self.images = sink, images
        self.slowest_s = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self._stop.set()
        self._thread.join()

    def _run(self):
        index = 0
        while not self._stop.wait(0.04):
            began_s = time.monotonic()
            self.sink.write(Frame(self.images[index % len(self.images)], 3600 * index, RTP, 0, index))
            self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
            index += 1


@pytest.mark.parametrize(
    "images", [[two_colours()], [in_planes(two_colours())], [in_planes(two_colours()), two_colours()]]
)
def test_what_is_published_can_be_read_back(server, sink, images):
    output = sink(server.url("/in"))
    assert not output.takes_yuv420p
    output.open(INFO)
    assert output.takes_yuv420p
    with Writer(output, *images):
        source = RtspSource(server.url("/out"))
        try:
            assert source.open().colour == INFO.colour
            frames = [source.read() for _ in range(30)]
        finally:
            source.close()
        statistics = output.statistics()
    image = frames[-1].image.astype(int)
    assert np.abs(image[60, 20] - (200, 40, 40)).max() <= 6
    assert np.abs(image[60, 140] - (30, 60, 200)).max() <= 6
    assert statistics.state == "publishing"
    assert statistics.published > 25
    assert statistics.frames - statistics.published - statistics.drops in (0, 1)  # one may be waiting
    began_s = time.monotonic()
    output.close()
    output.close()
    assert time.monotonic() - began_s < 2
    assert output.statistics().state == "closed"
    with pytest.raises(SinkError, match="not open"):
        output.write(Frame(two_colours(), 10**9, RTP, 0))


def test_a_killed_server_comes_back(server, sink):
    output = sink(server.url("/in"))
    output.open(INFO)
    with Writer(output, two_colours()) as writer:
        time.sleep(0.5)
        server.kill()
        wait_until(lambda: output.statistics().state == "backoff", 5)
        time.sleep(1)
        server.start()
        wait_until(lambda: output.statistics().reconnects == 1, RECOVERY_S)
        published = output.statistics().published
        wait_until(lambda: output.statistics().published > published + 10, 2)
        assert output.statistics().drops > 10
        assert output.statistics().last_error
    assert writer.slowest_s < 0.2


def test_a_frozen_server_never_holds_up_write(server, sink):
    """Noise at a high rate, so that the sockets' buffers are full soon."""
    output = sink(server.url("/in"), crf=1)
    output.open(replace(INFO, width=320, height=240))
    with Writer(output, *noise(240, 320)) as writer:
        time.sleep(0.5)
        server.freeze()
        wait_until(lambda: "took nothing, for 1.5 s" in (output.statistics().last_error or ""), 30)
        server.thaw()
        wait_until(lambda: output.statistics().reconnects == 1, RECOVERY_S)
    assert writer.slowest_s < 0.2


def test_close_does_not_wait_for_a_frozen_server(server, sink):
    output = sink(server.url("/in"), stall_timeout_s=20)
    output.open(INFO)
    with Writer(output, two_colours()):
        time.sleep(0.3)
        server.freeze()
        time.sleep(0.3)
    began_s = time.monotonic()
    output.close()
    assert time.monotonic() - began_s < 2
    assert not publishers()


def test_a_dead_publisher_is_replaced(server, sink):
    output = sink(server.url("/in"))
    output.open(INFO)
    with Writer(output, two_colours()):
        (process_id,) = publishers()
        assert process_id == output.statistics().process_id
        os.kill(process_id, signal.SIGKILL)
        wait_until(lambda: output.statistics().reconnects == 1, RECOVERY_S)
        assert "status -9" in output.statistics().last_error
        assert publishers() != [process_id]


def test_another_size_is_a_new_connection(server, sink):
    output = sink(server.url("/in"))
    output.open(INFO)
    output.write(Frame(two_colours(), 0, RTP, 0))
    wait_until(lambda: output.statistics().published == 1, 5)
    output.write(Frame(two_colours(161, 91), 3600, RTP, 0))  # odd sides: padded to 162 x 92
    wait_until(lambda: output.statistics().reconnects == 1, RECOVERY_S)
    for index in range(2, 40):
        output.write(Frame(two_colours(161, 91), 3600 * index, RTP, 0))
        time.sleep(0.02)
    wait_until(lambda: output.statistics().published > 10, 5)
    assert output.statistics().last_error is None


def test_pts_that_do_not_increase_are_dropped(server, sink):
    output = sink(server.url("/in"))
    output.open(INFO)
    for pts in (3600, 3600, 0):
        output.write(Frame(two_colours(), pts, RTP, 0))
    wait_until(lambda: output.statistics().published == 1, 5)
    assert output.statistics().drops == 2


def test_without_reconnect_a_loss_is_an_error(server, sink):
    output = sink(server.url("/in"), reconnect=False)
    output.open(INFO)
    server.kill()
    with pytest.raises(SinkError):
        for index in range(300):
            output.write(Frame(two_colours(), 3600 * index, RTP, 0))
            time.sleep(0.02)


def test_errors_of_open(server, sink):
    cases = [
        (server.url("/nope"), r"no stream at path '/nope' \(404\)"),
        (f"rtsp://127.0.0.1:{free_port()}/in", "refused the connection"),
    ]
    for url, reason in cases:
        with pytest.raises(SinkError, match=reason):
            sink(url).open(INFO)
    server.freeze()
    with pytest.raises(SinkError, match=r"did not answer within 1\.5 s"):
        sink(server.url("/in")).open(INFO)


def test_the_password_is_used_and_never_seen(gstreamer, sink):
    with RtspServer({}, {"/in": publish_in("a")}, user="ann", password="s3cret") as server:
        output = sink(server.url("/in", "ann:s3cret"))
        output.open(INFO)
        process = Path(f"/proc/{output.statistics().process_id}")
        assert b"s3cret" not in (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        assert "libtorch" not in (process / "maps").read_text()
        assert output.url == server.url("/in", "***")
        password = "wr" + "0ng"  # in a traceback this file's own lines are shown
        with pytest.raises(SinkError, match="wrong user or password") as failure:
            sink(server.url("/in", f"ann:{password}")).open(INFO)
        assert password not in "".join(traceback.format_exception(failure.value)) + failure.value.url


def test_the_publisher_ends_with_a_killed_parent(server):
    program = (
        "import sys, time\n"
        "from fractions import Fraction\n"
        "from streamsr.frame import StreamInfo\n"
        "from streamsr.io.rtsp_sink import RtspSink\n"
        "sink = RtspSink(sys.argv[1])\n"
        "sink.open(StreamInfo(160, 120, Fraction(25), Fraction(1, 90000)))\n"
        "print(sink.statistics().process_id, flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, server.url("/in")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        process_id = int(parent.stdout.readline())
        assert Path(f"/proc/{process_id}").exists()
        parent.kill()
    wait_until(lambda: not Path(f"/proc/{process_id}").exists(), 3)


@pytest.mark.parametrize(
    "options",
    [
        {"transport": "http"},
        {"codec": "ffv1"},
        {"crf": 60},
        {"bit_rate": 0},
        {"crf": 20, "bit_rate": 10**6},
        {"stall_timeout_s": 0},
    ],
)
def test_refuses_options_that_make_no_sense(options):
    with pytest.raises(ConfigError):
        RtspSink("rtsp://127.0.0.1/in", **options)


def test_closed_without_open():
    output = RtspSink("rtsp://127.0.0.1/in")
    output.close()
    output.abort()
    with pytest.raises(SinkError, match="opened once"):
        output.open(INFO)


def published_packets(server, count):
    with av.open(server.url("/out"), options={"rtsp_transport": "tcp"}, timeout=10) as stream:
        return list(islice(stream.demux(video=0), count))


def test_keyframes_come_every_two_seconds(server, sink):
    output = sink(server.url("/in"))
    output.open(INFO)
    with Writer(output, two_colours()):
        packets = published_packets(server, 110)
    keyframes = [index for index, packet in enumerate(packets) if packet.is_keyframe]
    assert len(keyframes) >= 2
    assert {late - early for early, late in pairwise(keyframes)} <= {48, 49, 50}  # some may be dropped


def test_the_bit_rate_is_kept(server, sink):
    output = sink(server.url("/in"), bit_rate=300_000)
    output.open(INFO)
    with Writer(output, *noise(120, 160)):
        packets = published_packets(server, 80)[30:]
    seconds = float((packets[-1].pts - packets[0].pts) * packets[0].time_base)
    assert 200_000 < sum(packet.size for packet in packets[1:]) * 8 / seconds < 400_000
