"""Cameras, their networks, what takes their pictures, and all that may happen to them, for ``soak``."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fault_relay import FaultRelay
from rtsp_server import RtspServer, live_video, publish_in, publish_out, raw_video
from watch_process import Status, WatchProcess, camera

RATE = 10
SIZE = (320, 180)
CHANNELS = ("a", "b")  # of the server that takes pictures: so many cameras publish
PASSWORD = "s3cret"
DISK_BYTES = 200_000_000


class Scene:
    """``names``: of the cameras. Each has a server and a relay before it; every second one sends UDP.

    All are recorded on a small disk, the first two published too, by way of a relay of their own.
    """

    def __init__(self, folder: Path, cameras: int) -> None:
        self.names = [f"camera{index}" for index in range(cameras)]
        self.folder = folder
        self.disk: Path | None = None  # where a full disk can be tried
        self.servers: dict[str, RtspServer] = {}
        self.relays: dict[str, FaultRelay] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Scene:
        with ExitStack() as stack:
            self.disk = stack.enter_context(_disk(self.folder / "disk"))
            for name in self.names:
                server = RtspServer({"/live": live_video(*SIZE, RATE)}, user="ann", password=PASSWORD)
                self.servers[name] = stack.enter_context(server)
                self.relays[name] = stack.enter_context(FaultRelay(server.port))
            self.taker = stack.enter_context(
                RtspServer(
                    {f"/out_{channel}": publish_out(channel) for channel in CHANNELS},
                    {f"/in_{channel}": publish_in(channel) for channel in CHANNELS},
                )
            )
            self.taker_relay = stack.enter_context(FaultRelay(self.taker.port))
            text = "".join(self._table(index, name) for index, name in enumerate(self.names))
            self.watch = stack.enter_context(WatchProcess(self.folder / "cameras.toml", text))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    @property
    def publishing(self) -> list[str]:
        return self.names[: len(CHANNELS)]

    def is_udp(self, name: str) -> bool:
        return self.names.index(name) % 2 == 1

    def _table(self, index: int, name: str) -> str:
        keys: dict[str, object] = {"transport": "udp" if self.is_udp(name) else "tcp", "scale": 1}
        if index < len(CHANNELS):
            keys["sink"] = self.taker_relay.url(f"/in_{CHANNELS[index]}")
        url = self.relays[name].url("/live", f"ann:{PASSWORD}")
        recording = f'[camera.recording]\nfolder = "{self.folder / "disk" / name}"\nsegment_s = 10\n'
        return camera(name, url, **keys) + recording + "max_bytes = 8_000_000\n"


@contextmanager
def _disk(folder: Path) -> Iterator[Path | None]:
    """A small file system, or None where one may not be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@dataclass(frozen=True)
class Fault:
    """happens: a context; when it is left, the cause has ended. of: the cameras that may be hit.

    lasts_s: how long. harmless: the stream goes on meanwhile, so there is nothing to recover from.
    """

    name: str
    happens: Callable[[Scene, str, Status], Iterator[None]]
    lasts_s: float
    harmless: bool = False
    of: Callable[[Scene], list[str]] = lambda scene: scene.names

    @contextmanager
    def on(self, scene: Scene, name: str, now: Status) -> Iterator[None]:
        yield from self.happens(scene, name, now)


def _network(break_it: Callable[[FaultRelay], None]) -> Callable[[Scene, str, Status], Iterator[None]]:
    def happens(scene: Scene, name: str, _: Status) -> Iterator[None]:
        break_it(scene.relays[name])
        yield
        scene.relays[name].heal()

    return happens


def _server_away(scene: Scene, name: str, _: Status) -> Iterator[None]:
    scene.servers[name].kill()
    yield
    scene.servers[name].start()


def _another_camera(codec: str) -> Callable[[Scene, str, Status], Iterator[None]]:
    def happens(scene: Scene, name: str, _: Status) -> Iterator[None]:
        server = scene.servers[name]
        server.kill()
        width, height = SIZE if codec == "h264" else (400, 224)
        server.set_play("/live", live_video(width, height, RATE, codec=codec))
        yield
        server.start()

    return happens


def _another_password(scene: Scene, name: str, _: Status) -> Iterator[None]:
    server = scene.servers[name]
    server.kill()
    server.set_password("another")
    server.start()
    yield
    server.kill()
    server.set_password(PASSWORD)
    server.start()


def _frozen_picture(scene: Scene, name: str, _: Status) -> Iterator[None]:
    scene.servers[name].set("camera", "pattern", "red")
    yield
    scene.servers[name].set("camera", "pattern", "ball")


def _another_size(scene: Scene, name: str, _: Status) -> Iterator[None]:
    scene.servers[name].set("format", "caps", raw_video(240, 136, RATE))
    yield
    scene.servers[name].set("format", "caps", raw_video(*SIZE, RATE))


def _killed(which: Callable[[Status, str], int]) -> Callable[[Scene, str, Status], Iterator[None]]:
    def happens(scene: Scene, name: str, now: Status) -> Iterator[None]:
        os.kill(which(now, name), signal.SIGKILL)
        yield

    return happens


def _taker_away(scene: Scene, name: str, _: Status) -> Iterator[None]:
    scene.taker.kill()
    yield
    scene.taker.start()


def _taker_hangs(scene: Scene, name: str, _: Status) -> Iterator[None]:
    scene.taker_relay.black_hole()
    yield
    scene.taker_relay.heal()


def _disk_full(scene: Scene, name: str, _: Status) -> Iterator[None]:
    ballast = scene.folder / "disk" / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:  # until nothing more goes in
        while True:
            file.write(bytes(1_000_000))
    yield
    ballast.unlink()


def _tcp(scene: Scene) -> list[str]:
    return [name for name in scene.names if not scene.is_udp(name)]


def _udp(scene: Scene) -> list[str]:
    return [name for name in scene.names if scene.is_udp(name)]


FAULTS = [
    Fault("server killed", _server_away, 4),
    Fault("camera process killed", _killed(lambda now, name: now["by_name"][name]["process_id"]), 0),
    Fault("black hole", _network(FaultRelay.black_hole), 8),
    Fault("sink server killed", _taker_away, 4, of=lambda scene: scene.publishing),
    Fault("model process killed", _killed(lambda now, _: now["model"]["process_id"]), 0, harmless=True),
    Fault("another size", _another_size, 3, harmless=True),
    Fault("half-open", _network(lambda relay: relay.half_open("down")), 8, of=_tcp),
    Fault("datagrams lost, 20 %", _network(lambda relay: relay.lose(0.2)), 8, harmless=True, of=_udp),
    Fault("disk full", _disk_full, 5, of=lambda scene: scene.names if scene.disk else []),
    Fault("codec h265", _another_camera("h265"), 2),
    Fault("connections cut", _network(FaultRelay.cut), 4),
    Fault("sink hangs", _taker_hangs, 8, of=lambda scene: scene.publishing),
    Fault("wrong password", _another_password, 6),
    Fault("clock leaps", _network(lambda relay: relay.leap(100)), 1, harmless=True, of=_udp),
    Fault("frozen picture", _frozen_picture, 12, harmless=True),
    Fault("codec mjpeg", _another_camera("mjpeg"), 2),
    Fault("datagrams lost, 5 %", _network(lambda relay: relay.lose(0.05)), 8, harmless=True, of=_udp),
    Fault("slow network", _network(lambda relay: relay.delay(0.5)), 5, harmless=True, of=_tcp),
    Fault("codec h264", _another_camera("h264"), 2),
    Fault("datagrams garbled", _network(lambda relay: relay.garble(0.5)), 5, harmless=True, of=_udp),
]
