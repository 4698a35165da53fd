"""A relay between an RTSP client and its server that breaks the network on command.

As a module: ``FaultRelay`` starts it and tells it what to do. As a script it is the relay, in a process of
its own, so that its sockets do not count among those of the tests.

TCP is passed on as it comes. Of RTSP over UDP the relay writes its own ports into SETUP and its answer, and
passes on, or loses, the datagrams between the ports that both sides had named.
"""

from __future__ import annotations

import argparse
import random
import re
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field

from rtsp_server import free_port

CHUNK = 65_536
BACKLOG = 1 << 20  # bytes held back for a receiver that is slow, before the relay stops reading
TICK_S = 0.01
CLIENT_PORT = re.compile(rb"client_port=(\d+)-(\d+)")
SERVER_PORT = re.compile(rb"server_port=(\d+)-(\d+)")


class FaultRelay:
    """Listens on 127.0.0.1 and connects to ``port`` there for everyone who comes."""

    def __init__(self, port: int) -> None:
        self.port = free_port()
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(self.port), str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._expect("ready")

    def url(self, path: str, userinfo: str = "") -> str:
        return f"rtsp://{userinfo + '@' if userinfo else ''}127.0.0.1:{self.port}{path}"

    def black_hole(self) -> None:
        """Connections stay, new ones are accepted, nothing comes through."""
        self._do("hole both")

    def half_open(self, lost: str = "down") -> None:
        """What goes "down" to clients, or "up" to the server, gets lost; the other way is open."""
        self._do(f"hole {lost}")

    def cut(self) -> None:
        """Every connection is reset, and new ones are reset at once."""
        self._do("cut")

    def delay(self, seconds: float) -> None:
        self._do(f"delay {seconds}")

    def lose(self, share: float) -> None:
        """Of the datagrams, both ways, at random."""
        self._do(f"lose {share}")

    def garble(self, share: float) -> None:
        """Random bytes take the place of the pictures in this share of the RTP datagrams."""
        self._do(f"garble {share}")

    def leap(self, seconds: float) -> None:
        """The camera's clock is set: RTP timestamps of datagrams to come."""
        self._do(f"leap {seconds}")

    def heal(self) -> None:
        """All but the camera's clock is well again."""
        self._do("heal")

    def close(self) -> None:
        """May be called twice."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> FaultRelay:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _do(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        self._expect(command)

    def _expect(self, line: str) -> None:
        assert self._process.stdout is not None
        said = self._process.stdout.readline().strip()
        assert said == line, f"the relay should have said {line!r}, said {said!r}"


@dataclass
class Faults:
    up: bool = False  # lost on the way to the server
    down: bool = False
    cut: bool = False
    delay_s: float = 0.0
    lose: float = 0.0
    garble: float = 0.0
    leap: int = 0  # in units of RTP timestamps


@dataclass
class Pair:
    """A client's connection and the one to the server in its name; what is on its way between them."""

    client: socket.socket
    server: socket.socket
    media: list[socket.socket] = field(default_factory=list)  # RTP and RTCP
    client_ports: tuple[int, int] = (0, 0)
    server_ports: tuple[int, int] = (0, 0)
    up: deque[tuple[float, bytes]] = field(default_factory=deque)  # when it came
    down: deque[tuple[float, bytes]] = field(default_factory=deque)


class Relay:
    def __init__(self, port: int, server_port: int) -> None:
        self.selector = selectors.DefaultSelector()
        self.server_port = server_port
        self.faults = Faults()
        self.pairs: list[Pair] = []
        self.random = random.Random(0)
        self.listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self.listener.setblocking(False)
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.selector.register(sys.stdin, selectors.EVENT_READ)

    def run(self) -> None:
        print("ready", flush=True)
        while True:
            for key, _ in self.selector.select(TICK_S):
                if key.fileobj is self.listener:
                    self.accept()
                elif key.fileobj is sys.stdin:
                    line = sys.stdin.readline()
                    if not line:  # the tests are gone
                        return
                    self.obey(line.split())
                    print(line.strip(), flush=True)
            for pair in list(self.pairs):
                if not self.pump(pair):
                    self.drop(pair)

    def obey(self, words: list[str]) -> None:
        faults = self.faults
        match words:
            case ["hole", way]:
                faults.up, faults.down = way in ("up", "both"), way in ("down", "both")
            case ["cut"]:
                faults.cut = True
                for pair in list(self.pairs):
                    self.drop(pair, reset=True)
            case ["delay" | "lose" | "garble" as what, value]:
                setattr(faults, "delay_s" if what == "delay" else what, float(value))
            case ["leap", seconds]:
                faults.leap += round(90_000 * float(seconds))
            case ["heal"]:
                self.faults = Faults(leap=faults.leap)

    def accept(self) -> None:
        client, _ = self.listener.accept()
        server = socket.socket()
        pair = Pair(client, server)
        self.pairs.append(pair)
        if self.faults.cut or server.connect_ex(("127.0.0.1", self.server_port)) != 0:
            self.drop(pair, reset=True)
            return
        for each in (client, server):
            each.setblocking(False)

    def drop(self, pair: Pair, reset: bool = False) -> None:
        if reset:
            pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for each in (pair.client, pair.server, *pair.media):
            each.close()
        self.pairs.remove(pair)

    def pump(self, pair: Pair) -> bool:
        """Whether both ends are still there. What is lost stays unread, as if never acknowledged."""
        faults, now = self.faults, time.monotonic()
        try:
            if not faults.up:
                self.read(pair.client, pair.up, pair, now)
            if not faults.down:
                self.read(pair.server, pair.down, pair, now)
            if not faults.up:
                self.send(pair.server, pair.up, now)
            if not faults.down:
                self.send(pair.client, pair.down, now)
            for index, media in enumerate(pair.media):
                self.pass_datagrams(pair, media, index)
        except (EOFError, OSError):
            return False
        return True

    def read(self, source: socket.socket, queue: deque[tuple[float, bytes]], pair: Pair, now: float) -> None:
        if sum(len(data) for _, data in queue) > BACKLOG:
            return
        try:
            data = source.recv(CHUNK)
        except BlockingIOError:
            return
        if not data:
            raise EOFError
        queue.append((now, self.with_own_ports(pair, data, request=source is pair.client)))

    def send(self, target: socket.socket, queue: deque[tuple[float, bytes]], now: float) -> None:
        while queue and now - queue[0][0] >= self.faults.delay_s:
            came, data = queue.popleft()
            try:
                sent = target.send(data)
            except BlockingIOError:
                sent = 0
            if sent < len(data):
                queue.appendleft((came, data[sent:]))
                return

    def with_own_ports(self, pair: Pair, data: bytes, *, request: bool) -> bytes:
        """Requests and answers of RTSP come in one piece each: they are small, and this is one host."""
        if request:
            if found := CLIENT_PORT.search(data):
                pair.client_ports = (int(found[1]), int(found[2]))
                pair.media = pair.media or media_sockets()
                return CLIENT_PORT.sub(b"client_port=" + ports_of(pair.media), data)
        elif pair.media and (found := SERVER_PORT.search(data)):
            pair.server_ports = (int(found[1]), int(found[2]))
            own = ports_of(pair.media)
            data = CLIENT_PORT.sub(b"client_port=%d-%d" % pair.client_ports, data)
            return SERVER_PORT.sub(b"server_port=" + own, data)
        return data

    def pass_datagrams(self, pair: Pair, media: socket.socket, index: int) -> None:
        """index: 0 for RTP, 1 for RTCP."""
        while True:
            try:
                data, (_, port) = media.recvfrom(CHUNK)
            except (BlockingIOError, ConnectionRefusedError):
                return
            down = port == pair.server_ports[index]
            lost = self.faults.down if down else self.faults.up
            if lost or self.random.random() < self.faults.lose:
                continue
            if down and index == 0:
                data = self.changed(data)
            to = (pair.client_ports if down else pair.server_ports)[index]
            media.sendto(data, ("127.0.0.1", to))

    def changed(self, rtp: bytes) -> bytes:
        header, payload = bytearray(rtp[:12]), rtp[12:]
        stamp = int.from_bytes(header[4:8], "big") + self.faults.leap
        header[4:8] = (stamp % 2**32).to_bytes(4, "big")
        if self.random.random() < self.faults.garble:
            payload = payload[:2] + self.random.randbytes(max(0, len(payload) - 2))
        return bytes(header) + payload


def media_sockets() -> list[socket.socket]:
    """Two UDP sockets on neighbouring ports, the first even."""
    while True:
        first = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        second = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        first.bind(("127.0.0.1", 0))
        port = first.getsockname()[1]
        try:
            if port % 2 == 0:
                second.bind(("127.0.0.1", port + 1))
                first.setblocking(False)
                second.setblocking(False)
                return [first, second]
        except OSError:  # taken
            pass
        first.close()
        second.close()


def ports_of(media: list[socket.socket]) -> bytes:
    return b"%d-%d" % tuple(each.getsockname()[1] for each in media)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("server_port", type=int)
    Relay(**{name: int(value) for name, value in vars(parser.parse_args()).items()}).run()
