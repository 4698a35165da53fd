"""What a server may be told, on the command line and in TOML; and that it stops as it should."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aioice import stun
from commands import error_line

from streamsr.cli import main
from streamsr.doctor_serve import examine_serve
from streamsr.errors import ConfigError
from streamsr.serve import ServeConfig, media_loop

pytest_plugins = ["rtc_fixtures"]

TOKEN = "0123456789abcdefgh"


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """For 127.0.0.1, self-signed, and its key."""
    paths = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-out", paths[0], "-keyout", paths[1]], check=True, capture_output=True)
    return paths


def test_the_default_is_this_machine_alone() -> None:
    config = ServeConfig.of()
    assert (config.host, config.port, config.token) == ("127.0.0.1", 8080, None)
    assert config.loopback and config.ice_servers == () and config.tls() is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "calls.example"])
def test_an_open_address_needs_token_and_tls(host: str) -> None:
    with pytest.raises(ConfigError, match=r"open to others: give --token and --tls-cert and --tls-key"):
        ServeConfig.of(host=host)
    with pytest.raises(ConfigError, match="open to others: give --tls-cert and --tls-key, or --insecure"):
        ServeConfig.of(host=host, token=TOKEN)
    with pytest.raises(ConfigError, match="open to others: give --token, or --insecure"):
        ServeConfig.of(host=host, tls_certificate="a", tls_key="b")
    assert not ServeConfig.of(host=host, insecure=True).loopback
    assert ServeConfig.of(host=host, token=TOKEN, tls_certificate="a", tls_key="b").host == host


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"token": "short"}, "token must have at least 16 characters"),
        ({"token": "with a space inside it"}, "printable ASCII without spaces"),
        ({"view_token": TOKEN}, "view_token without token"),
        ({"tls_key": "a"}, "tls_certificate and tls_key go together"),
        ({"udp_ports": (2000, 1999)}, "udp_ports must rise"),
        ({"udp_ports": (80, 90)}, "udp_ports.0: .*1024"),
        ({"port": 70_000}, "port: .*65535"),
        ({"scale": 3}, "scale: "),
        ({"colour": 1}, "colour: Extra inputs"),
        ({"limits": {"sessions": 0}}, "limits.sessions: "),
        ({"ice_servers": [{"url": "http://stun.example"}]}, "ice_servers.0.url: "),
        ({"ice_servers": [{"url": "turn:turn.example"}]}, "needs username and credential"),
        (
            {"ice_servers": [{"url": "stun:a", "username": "b", "credential": "c"}]},
            "takes no username or credential",
        ),
        ({"ice_servers": [{"url": "stun:a"}, {"url": "stun:b"}]}, "at most one STUN and one TURN server"),
    ],
)
def test_wrong_values_are_one_clear_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ServeConfig.of(**options)


def test_secrets_are_not_shown() -> None:
    servers = [{"url": "turn:turn.example", "username": "ann", "credential": "turn-password"}]
    config = ServeConfig.of(token=TOKEN, ice_servers=servers)
    assert TOKEN not in repr(config) and "turn-password" not in repr(config) + config.model_dump_json()


def test_toml_and_flags(tmp_path: Path) -> None:
    path = tmp_path / "serve.toml"
    path.write_text(
        f'port = 9000\ntoken = "{TOKEN}"\nudp_ports = [40000, 40100]\n[limits]\nstreams = 2\n'
        '[[ice_servers]]\nurl = "stun:stun.example:3478"\n'
    )
    config = ServeConfig.load(path, {"port": 9001})
    assert (config.port, config.limits.streams, config.udp_ports) == (9001, 2, (40_000, 40_100))
    assert config.ice_servers[0].url == "stun:stun.example:3478"
    path.write_text("port = ")
    with pytest.raises(ConfigError, match=r"serve\.toml is not TOML"):
        ServeConfig.load(path, {})
    with pytest.raises(ConfigError, match=r"cannot read .*none\.toml: No such file"):
        ServeConfig.load(tmp_path / "none.toml", {})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "0.0.0.0 is open to others"),
        (["--udp-ports", "one-two"], "'one-two' is not FIRST-LAST"),
        (["--turn-user", "ann"], "--turn-user and --turn-password go with --turn"),
        (["--turn", "turn:turn.example"], "needs username and credential"),
        (["--tls-cert", "none.pem", "--tls-key", "none.pem"], "cannot use none.pem and none.pem"),
        (["--config", "none.toml"], "cannot read none.toml"),
        (["--steps", "0"], "'0' is neither 'auto' nor in"),
        (["--device", "cpu", "--engine", "tensorrt"], "engine must be auto or openvino on cpu, got tensorrt"),
    ],
)
def test_the_command_refuses(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STREAMSR_TOKEN", raising=False)
    assert main(["serve", *arguments]) == 2
    assert message in error_line(capsys)


def test_a_port_that_is_taken(untuned: None, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port), "--device", "cpu"]) == 2
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in error_line(capsys)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_a_signal(signum: int, certificate: tuple[Path, Path]) -> None:
    certificate_path, key_path = map(str, certificate)
    command = [sys.executable, "-m", "streamsr", "serve", "--port", "0", "--device", "cpu"]
    tls = signum == signal.SIGTERM
    if tls:
        command += ["--tls-cert", certificate_path, "--tls-key", key_path]
    environment = {**os.environ, "STREAMSR_TOKEN": TOKEN}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(f"streamsr serves http{'s' if tls else ''}://127.0.0.1:"), line
        context = ssl.create_default_context(cafile=certificate_path) if tls else None
        with urllib.request.urlopen(line.split()[2] + "health", timeout=10, context=context) as answer:
            assert b'"status": "ok"' in answer.read()
        process.send_signal(signum)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (0, "", "stopped\n")


def test_media_keeps_to_its_ports_and_addresses() -> None:
    config = ServeConfig.of(udp_ports=(41_500, 41_501), ice_addresses=["127.0.0.1"])

    async def bind(address: str) -> asyncio.DatagramTransport:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=(address, 0))
        return transport

    async def run() -> None:
        two = [await bind("127.0.0.1") for _ in range(2)]
        assert {one.get_extra_info("sockname")[1] for one in two} == {41_500, 41_501}
        with pytest.raises(OSError, match="udp_ports 41500-41501 are all taken"):
            await bind("127.0.0.1")
        with pytest.raises(OSError, match="not one of ice_addresses"):
            await bind("127.0.0.2")
        for one in two:
            one.close()
        await asyncio.sleep(0.05)
        (await bind("127.0.0.1")).close()

    with asyncio.Runner(loop_factory=media_loop(config)) as runner:
        runner.run(run())


class StunServer(asyncio.DatagramProtocol):
    """Answers every binding request with where it came from."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        request = stun.parse_message(data)
        answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, request.transaction_id)
        answer.attributes["XOR-MAPPED-ADDRESS"] = ("203.0.113.9", addr[1])
        self.transport.sendto(bytes(answer), addr)  # type: ignore[attr-defined]


@contextmanager
def stun_server() -> Iterator[int]:
    """On a thread of its own: its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    started = loop.create_datagram_endpoint(StunServer, local_addr=("127.0.0.1", 0))
    transport, _ = asyncio.run_coroutine_threadsafe(started, loop).result(5)
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        loop.call_soon_threadsafe(transport.close)
        loop.call_soon_threadsafe(loop.call_later, 0.1, loop.stop)
        thread.join(5)
        loop.close()


def test_the_doctor_tries_what_is_configured(call_address: None) -> None:
    with stun_server() as port:
        config = ServeConfig.of(port=0, ice_servers=[{"url": f"stun:127.0.0.1:{port}"}])
        rows = {check.name: check for check in examine_serve(config)}
    assert [name for name, row in rows.items() if not row.ok] == []
    assert rows["serve: http"].found == "127.0.0.1 port 0 is free"
    assert "203.0.113.9" in rows["serve: stun"].found


def test_the_doctor_says_what_is_wrong(call_address: None, tmp_path: Path) -> None:
    nothing = tmp_path / "none.pem"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = ServeConfig.of(
            port=taken.getsockname()[1],
            tls_certificate=nothing,
            tls_key=nothing,
            ice_addresses=["192.0.2.99"],
            ice_servers=[{"url": "stun:127.0.0.1:9"}],
        )
        rows = {check.name: check for check in examine_serve(config)}
    assert not any(row.ok for row in rows.values()) and all(row.fix for row in rows.values())
    assert "Address already in use" in rows["serve: http"].found
    assert "ip address add" in rows["serve: media"].fix
