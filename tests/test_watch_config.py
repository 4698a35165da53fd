"""The configuration of ``streamsr watch``: what it takes, and what it says of each mistake, with its line."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from streamsr.errors import ConfigError
from streamsr.evidence.keys import make_key
from streamsr.watch.camera_job import CameraJob
from streamsr.watch.config import WatchConfig, load
from streamsr.watch.toml_lines import line_of

TOKEN = "watch-0123456789abcdef"
RIGHT = """\
[watch]
listen = ""

[[camera]]
name = "gate"
url = "rtsp://10.0.0.5/1"
sink = "rtsp://server/gate"

[[camera]]  # the second
name = "yard"
url = "rtsp://10.0.0.6/1"
KEY
sink = ["out.mp4", "rtsp://server/yard"]
recording = { folder = "rec/yard", segment_s = 10, max_bytes = 10_000_000_000 }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cameras.toml"


def _load(file: Path, text: str) -> WatchConfig:
    file.write_text(text)
    return load(file)


def _trouble(file: Path, text: str) -> str:
    """What is said, without the folder."""
    with pytest.raises(ConfigError) as error:
        _load(file, text)
    return str(error.value).replace(str(file), file.name)


def test_all_that_the_documentation_shows(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATE_USER", "ann")
    monkeypatch.setenv("STREAMSR_TOKEN", TOKEN)
    make_key(file.parent / "key.pem")
    config = _load(
        file,
        """
        [watch]
        listen = "127.0.0.1:9090"
        token_env = "STREAMSR_TOKEN"
        device = "auto"
        threads = 2
        log = "text"
        [[camera]]
        name = "gate"
        url = "rtsp://10.0.0.5/1"
        username_env = "GATE_USER"
        password_env = "GATE_USER"
        transport = "udp"
        sink = "rtsp://server/gate"
        scale = 4
        fidelity = 0.4
        steps = "auto"
        seed = 7
        roi = [0, 20, 300, 200]
        priority = 0
        enabled = false
        [camera.recording]
        folder = "rec/gate"
        segment_s = 60
        max_age_s = 86400
        max_bytes = 10_000_000_000
        [camera.evidence]
        folder = "evidence/gate"
        key_file = "key.pem"
        """,
    )
    (camera,) = config.cameras
    listen = config.watch.http()
    assert listen is not None and (listen.host, listen.port) == ("127.0.0.1", 9090)
    assert listen.token is not None and listen.token.get_secret_value() == TOKEN
    assert (camera.scale, camera.roi, camera.sinks) == (4, (0, 20, 300, 200), ("rtsp://server/gate",))
    assert camera.recording is not None and camera.recording.folder == file.parent / "rec" / "gate"
    assert camera.evidence is not None and camera.evidence.key_file == file.parent / "key.pem"


def test_what_need_not_be_said(file: Path) -> None:
    config = _load(file, RIGHT.replace("KEY", ""))
    gate, yard = config.cameras
    assert config.watch.http() is None and config.watch.log == "json"
    assert (gate.scale, gate.fidelity, gate.steps, gate.priority, gate.enabled) == (2, None, "auto", 1, True)
    assert yard.sinks == (str(file.parent / "out.mp4"), "rtsp://server/yard")
    assert yard.recording is not None and yard.recording.max_age_s is None


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("scale = 3", "12: camera.scale must be one of 1, 2, 4, 8, got 3"),
        ('scale = "2"', '12: camera.scale must be one of 1, 2, 4, 8, got "2"'),
        ("fidelity = 1.5", "12: camera.fidelity must be at most 1, got 1.5"),
        ("fidelity = true", "12: camera.fidelity must be a number, got true"),
        ("steps = 0", '12: camera.steps must be "auto" or in 1..64, got 0'),
        ("steps = true", '12: camera.steps must be "auto" or in 1..64, got True'),
        ("seed = -1", "12: camera.seed must be at least 0, got -1"),
        ("frozen_timeout_s = 0", "12: camera.frozen_timeout_s must be at least 1, got 0"),
        ("priority = true", "12: camera.priority must be a whole number, got true"),
        ("colour = 1", "12: camera.colour is not a key here"),
        ("roi = [\n 0,\n 0, 9,\n 100]", "12: camera.roi[2] must be at least 24, got 9"),
        ("roi = [0, 0, 100]", "12: camera.roi[3] is missing"),
        ("size = [640, 361]", "12: camera.size[1] must be even, got 361"),
        ("loop = true", "12: camera.loop is for a file, and url is an RTSP address"),
        ('transport = "http"', """12: camera.transport must be one of 'tcp', 'udp', got "http\""""),
        ('password_env = "NONE"', "9: camera.username_env is missing: it goes with the password"),
        ('username_env = "HOME"', "12: camera.username_env needs password_env or password_file"),
        (
            'username_env = "HOME"\npassword_env = "NO_SUCH"',
            "13: camera.password_env names NO_SUCH, which is not set",
        ),
        (
            'username_env = "HOME"\npassword_file = "none"',
            "13: camera.password_file names {folder}/none, which cannot be read: No such file or directory",
        ),
        ('evidence = { folder = "e" }', "12: camera.evidence.key_file is missing"),
        (
            'evidence = { folder = "e", key_file = "k" }',
            "12: camera.evidence.key_file cannot sign: cannot read the key {folder}/k: "
            "No such file or directory",
        ),
        ("= 3", "12: not TOML: Invalid statement"),
        ('sink = "a', "12: not TOML: Illegal character '\\n'"),
    ],
)
def test_a_wrong_value_is_named_with_its_line(key: str, says: str, file: Path) -> None:
    says = says.replace("{folder}", str(file.parent))
    assert _trouble(file, RIGHT.replace("KEY", key)) == f"cameras.toml:{says}"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"yard"', '"gate"', "10: camera.name 'gate' is taken by another camera"),
        ('"yard"', '"the yard"', '10: camera.name must match ^[A-Za-z0-9_-]{1,64}$, got "the yard"'),
        ("server/yard", "server/gate", "13: camera.sink 'rtsp://server/gate' is taken by camera 'gate'"),
        ("out.mp4", "out.txt", "13: camera.sink[0] as a file must end in one of .mp4, .m4v"),
        ("out.mp4", "http://a/b", "13: camera.sink[0] is an rtsp:// address or a file, got http://"),
        ('url = "rtsp://10.0.0.6/1"', "", "9: camera.url is missing"),
        ('"rtsp://10.0.0.6/1"', '"clip.mp4"', "11: camera.url names {folder}/clip.mp4, which is no file"),
        ('"rtsp://10.0.0.6/1"', '""', "11: camera.url is empty: name an rtsp:// address or a file"),
        ("segment_s = 10", "segment_s = 0", "14: camera.recording.segment_s must be at least 1, got 0"),
        ("segment_s = 10", "seconds = 10", "14: camera.recording.seconds is not a key here"),
        ('sink = "rtsp://server/gate"', "", "4: camera.sink is missing: a camera needs a sink"),
        ("[watch]", "[wotch]", "1: wotch is not a key here"),
        ('listen = ""', "listen = 9090", "2: watch.listen must be a string, got 9090"),
        ('listen = ""', 'listen = "9090"', "2: watch.listen must be HOST:PORT, got '9090'"),
        ('listen = ""', 'listen = "0.0.0.0:90"', "2: watch.listen cannot be used: 0.0.0.0 is open to others"),
        ('listen = ""', 'token_env = "NO_SUCH"', "2: watch.token_env names NO_SUCH, which is not set"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_named_with_its_line(old: str, new: str, says: str, file: Path) -> None:
    assert old in RIGHT
    says = says.replace("{folder}", str(file.parent))
    assert _trouble(file, RIGHT.replace("KEY", "").replace(old, new)).startswith(f"cameras.toml:{says}")


def test_no_camera_no_file_no_text(file: Path) -> None:
    assert _trouble(file, "[watch]\n") == "cameras.toml:1: camera is missing"
    assert _trouble(file, "camera = []\n") == "cameras.toml:1: camera must have at least 1 items"
    with pytest.raises(ConfigError, match=r"cannot read .*none.toml: No such file"):
        load(file.parent / "none.toml")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="it is not UTF-8"):
        load(file)


def test_an_open_address_wants_a_token_and_tls(file: Path) -> None:
    text = RIGHT.replace("KEY", "").replace('listen = ""', 'listen = "0.0.0.0:90"\ninsecure = true')
    listen = _load(file, text).watch.http()
    assert listen is not None and listen.token is None
    (file.parent / "token").write_text("short\n")
    text = text.replace("insecure = true", 'token_file = "token"')
    assert "token must have at least 16 characters" in _trouble(file, text)


def test_secrets_are_read_and_never_shown(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YARD_USER", "ann/1")
    (file.parent / "yard.password").write_text("s3cr3t@:/\n")
    keys = 'username_env = "YARD_USER"\npassword_file = "yard.password"\n'
    keys += 'sink_username_env = "YARD_USER"\nsink_password_file = "yard.password"'
    text = RIGHT.replace("KEY", keys).replace("rtsp://10.0.0.5", "rtsp://bob:hidden@10.0.0.5")
    config = _load(file, text)
    gate, yard = config.cameras
    assert yard.source_url() == "rtsp://ann%2F1:s3cr3t%40%3A%2F@10.0.0.6/1"
    assert yard.sink_urls() == (
        str(file.parent / "out.mp4"),
        "rtsp://ann%2F1:s3cr3t%40%3A%2F@server/yard",
    )
    assert gate.source_url() == "rtsp://bob:hidden@10.0.0.5/1"
    assert "hidden" not in repr(config) and "s3cr3t" not in repr(config)
    wrong = _trouble(file, text.replace("bob:hidden@10.0.0.5/1", "bob:hidden@/1"))
    assert "hidden" not in wrong and wrong.startswith("cameras.toml:6: camera.url an RTSP URL must be")
    assert b"s3cr3t" not in pickle.dumps(config), "the configuration holds names of secrets only"

    told = CameraJob.of(yard, "/run/model")
    assert CameraJob.model_validate_json(told.line()) == told
    (file.parent / "yard.password").write_text("another\n")
    assert CameraJob.of(yard, "/run/model") != told, "a new password is a change"


LINES = '''\
[watch]
text = """
[[camera]]
"""
[[camera]]
a = 1

[[camera]]
roi = [  # px
  1, 2,
  3, 4]
[camera.b]
c = "\\u2028"\r
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("watch", "text"), 2),
        (("camera", 0), 5),
        (("camera", 0, "a"), 6),
        (("camera", 1, "none"), 8),
        (("camera", 1, "roi"), 9),
        (("camera", 1, "roi", 3), 9),
        (("camera", 1, "b", "c"), 13),
        (("camera", 2), 5),
        (("none",), 1),
    ],
)
def test_line_of_a_value(path: tuple[str | int, ...], line: int) -> None:
    assert line_of(LINES, path) == line
