"""A real RTSP server (GStreamer's) for the tests, in a process that they may kill and freeze.

As a module: ``RtspServer`` starts, kills, freezes and restarts the server and the functions ending
in ``_video`` and ``publish_*`` write its pipelines. As a script it is the server; it needs the
system's Python, for which the distribution packages the bindings (``PACKAGES``).
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

PACKAGES = (
    "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good "
    "gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav"
)
SYSTEM_PYTHON = "/usr/bin/python3"
ELEMENTS = (
    *("videotestsrc", "multifilesrc", "pngdec", "appsrc", "x264enc", "h264parse", "rtph264pay"),
    *("rtph264depay", "x265enc", "h265parse", "rtph265pay", "jpegenc", "rtpjpegpay"),
)


ACCESS_UNITS = "video/x-h264,stream-format=byte-stream,alignment=au"
CHANNELS = ("a", "b", "c", "d")


def missing() -> str | None:
    """What stands in the way of running the server, in one line; None: nothing."""
    if not Path(SYSTEM_PYTHON).exists():
        return f"no {SYSTEM_PYTHON}; apt-get install {PACKAGES}"
    probe = subprocess.run(
        [SYSTEM_PYTHON, __file__, "--probe"], capture_output=True, text=True, timeout=60, check=False
    )
    if probe.returncode == 0:
        return None
    reason = (probe.stderr.strip().splitlines() or ["no GStreamer"])[-1]
    return f"{reason}; apt-get install {PACKAGES}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def publishers() -> list[int]:
    """Process ids of the publishers (of ``RtspSink``) that this process has started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            command = (status.parent / "cmdline").read_bytes()
            parent = int(status.read_text().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == os.getpid() and b"rtsp_publisher" in command:
            found.append(int(status.parent.name))
    return found


def _h264(encoder: str) -> str:
    return f"{encoder} ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=1"


def raw_video(width: int, height: int, rate: Fraction | int = 25) -> str:
    """Caps of the element "format" in ``live_video``."""
    rate = Fraction(rate)
    return (
        f"video/x-raw,format=I420,width={width},height={height},framerate={rate.numerator}/{rate.denominator}"
    )


def live_video(
    width: int = 160,
    height: int = 120,
    rate: Fraction | int = 25,
    pattern: str = "ball",
    b_frames: int = 0,
    codec: str = "h264",
) -> str:
    """A live test picture, a keyframe every ten pictures. codec: "h264", "h265" or "mjpeg"."""
    delay = "tune=zerolatency" if b_frames == 0 else f"bframes={b_frames} b-adapt=false rc-lookahead=4"
    coded = {
        "h264": _h264(f"x264enc {delay} speed-preset=ultrafast bitrate=600 key-int-max=10"),
        "h265": "x265enc tune=zerolatency speed-preset=ultrafast bitrate=600 key-int-max=10 "
        "! h265parse ! rtph265pay name=pay0 pt=97 config-interval=1",
        "mjpeg": "jpegenc ! rtpjpegpay name=pay0 pt=26",
    }[codec]
    return (
        f"( videotestsrc name=camera is-live=true pattern={pattern} ! valve name=valve "
        f"! capsfilter name=format caps={raw_video(width, height, rate)} ! {coded} )"
    )


def looped_pictures(pattern: str, rate: int = 25) -> str:
    """PNG files, ``folder/%05d.png``, over and over, in H264."""
    return (
        f"( multifilesrc location={pattern} loop=true caps=image/png,framerate={rate}/1 ! pngdec "
        "! valve name=valve ! videoconvert ! video/x-raw,format=I420 ! "
        + _h264("x264enc tune=zerolatency speed-preset=ultrafast bitrate=600 key-int-max=10")
        + " )"
    )


def publish_in(channel: str) -> str:
    """Takes in an H264 stream (RECORD) and lets ``publish_out`` of the same channel serve it as it is."""
    return (
        f"( rtph264depay name=depay0 ! h264parse config-interval=-1 ! {ACCESS_UNITS} "
        f"! appsink name=in_{channel} sync=false emit-signals=true )"
    )


def publish_out(channel: str) -> str:
    return (
        f"( appsrc name=out_{channel} is-live=true do-timestamp=true format=time caps={ACCESS_UNITS} "
        "! h264parse ! rtph264pay name=pay0 pt=96 config-interval=1 )"
    )


class RtspServer:
    """The server as a child process on 127.0.0.1; the port stays the same over restarts.

    play, record: path ("/live") -> pipeline. With ``user`` every path wants the password, by Basic
    or, with ``digest``, Digest authentication.
    """

    def __init__(
        self,
        play: Mapping[str, str],
        record: Mapping[str, str] | None = None,
        user: str | None = None,
        password: str = "",
        digest: bool = False,
    ) -> None:
        self.port = free_port()
        self._play = dict(play)
        self._record = dict(record or {})
        self._auth = [] if user is None else ["--user", user, "--password", password]
        self._auth += ["--digest"] if digest else []
        self._process: subprocess.Popen[str] | None = None

    def url(self, path: str, userinfo: str = "") -> str:
        return f"rtsp://{userinfo + '@' if userinfo else ''}127.0.0.1:{self.port}{path}"

    def set_play(self, path: str, pipeline: str) -> None:
        """Takes effect at the next start."""
        self._play[path] = pipeline

    def set_password(self, password: str) -> None:
        """Takes effect at the next start."""
        self._auth[self._auth.index("--password") + 1] = password

    def start(self) -> None:
        command = [SYSTEM_PYTHON, __file__, "--port", str(self.port), *self._auth]
        for path, pipeline in self._play.items():
            command += ["--play", f"{path}={pipeline}"]
        for path, pipeline in self._record.items():
            command += ["--record", f"{path}={pipeline}"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._expect("ready", 30.0)

    def kill(self) -> None:
        """SIGKILL, also of a frozen server. May be called twice."""
        if self._process is None:
            return
        self._process.kill()
        self._process.communicate()
        self._process = None

    def freeze(self) -> None:
        self._running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def stall(self) -> None:
        """No more pictures, while the server goes on answering."""
        self._command("stall")

    def resume(self) -> None:
        self._command("resume")

    def set(self, element: str, attribute: str, value: str) -> None:
        """An attribute of an element of the pipelines that run, found by its name."""
        self._command(f"set {element} {attribute} {value}")

    def __enter__(self) -> RtspServer:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()

    def _running(self) -> subprocess.Popen[str]:
        assert self._process is not None, "the server has not been started"
        return self._process

    def _command(self, word: str) -> None:
        stdin = self._running().stdin
        assert stdin is not None
        stdin.write(word + "\n")
        stdin.flush()
        self._expect(word, 5.0)

    def _expect(self, word: str, timeout_s: float) -> None:
        stdout = self._running().stdout
        assert stdout is not None
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if select.select([stdout], [], [], 0.1)[0]:
                line = stdout.readline().strip()
                assert line == word, f"the server should have said {word!r}, said {line!r}"
                return
        raise TimeoutError(f"the server did not say {word!r} within {timeout_s} s")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--probe", action="store_true", help="only say whether the server could run")
    parser.add_argument("--port", type=int, default=8554)
    parser.add_argument("--play", action="append", default=[], metavar="PATH=PIPELINE")
    parser.add_argument("--record", action="append", default=[], metavar="PATH=PIPELINE")
    parser.add_argument("--user")
    parser.add_argument("--password", default="")
    parser.add_argument("--digest", action="store_true")
    options = parser.parse_args()

    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtsp", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtsp, GstRtspServer

    Gst.init(None)
    absent = [name for name in ELEMENTS if Gst.ElementFactory.find(name) is None]
    if absent:
        print(f"GStreamer lacks {', '.join(absent)}", file=sys.stderr)
        return 1
    if options.probe:
        return 0

    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(options.port))
    server.get_thread_pool().set_max_threads(8)  # who waits for a relayed stream must not stop its sender
    elements = []
    outlets: dict[str, list[Gst.Element]] = {channel: [] for channel in CHANNELS}

    def relay(inlet: Gst.Element, channel: str) -> Gst.FlowReturn:
        picture = inlet.emit("pull-sample").get_buffer().copy()
        picture.pts = picture.dts = Gst.CLOCK_TIME_NONE  # the outlet has its own clock
        for outlet in outlets[channel]:
            outlet.emit("push-buffer", picture)
        return Gst.FlowReturn.OK

    def forget(_media: GstRtspServer.RTSPMedia, channel: str, outlet: Gst.Element) -> None:
        outlets[channel].remove(outlet)

    def configure(_factory: object, media: GstRtspServer.RTSPMedia) -> None:
        element = media.get_element()
        elements.append(element)
        media.connect("unprepared", lambda _media: elements.remove(element))
        for channel in CHANNELS:
            inlet, outlet = element.get_by_name(f"in_{channel}"), element.get_by_name(f"out_{channel}")
            if inlet is not None:
                inlet.connect("new-sample", relay, channel)
            if outlet is not None:
                outlets[channel].append(outlet)
                media.connect("unprepared", forget, channel, outlet)

    def mount(argument: str, mode: GstRtspServer.RTSPTransportMode) -> None:
        path, pipeline = argument.split("=", 1)
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(pipeline)
        factory.set_transport_mode(mode)
        factory.set_shared(mode == GstRtspServer.RTSPTransportMode.PLAY)
        factory.connect("media-configure", configure)
        if options.user:
            permissions = GstRtspServer.RTSPPermissions()
            permissions.add_permission_for_role("user", "media.factory.access", True)
            permissions.add_permission_for_role("user", "media.factory.construct", True)
            factory.set_permissions(permissions)
        server.get_mount_points().add_factory(path, factory)

    for argument in options.play:
        mount(argument, GstRtspServer.RTSPTransportMode.PLAY)
    for argument in options.record:
        mount(argument, GstRtspServer.RTSPTransportMode.RECORD)

    if options.user:
        auth = GstRtspServer.RTSPAuth()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "user")
        if options.digest:
            auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
            auth.add_digest(options.user, options.password, token)
        else:
            basic = GstRtspServer.RTSPAuth.make_basic(options.user, options.password)
            auth.add_basic(basic, token)
        server.set_auth(auth)

    if server.attach(None) == 0:
        print(f"cannot listen on port {options.port}", file=sys.stderr)
        return 1
    loop = GLib.MainLoop()

    def obey(_channel: object, condition: GLib.IOCondition) -> bool:
        word = sys.stdin.readline().strip() if condition & GLib.IOCondition.IN else ""
        if not word:  # the tests are gone
            loop.quit()
            return False
        change = {"stall": "set valve drop true", "resume": "set valve drop false"}.get(word, word)
        _, name, attribute, value = change.split()
        for element in elements:
            if (part := element.get_by_name(name)) is not None:
                Gst.util_set_object_arg(part, attribute, value)
        print(word, flush=True)
        return True

    GLib.io_add_watch(sys.stdin, GLib.IOCondition.IN | GLib.IOCondition.HUP, obey)
    print("ready", flush=True)
    loop.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
