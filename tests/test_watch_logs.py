"""Log lines: what they hold, what they never hold, and what becomes of a child's own."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from helpers import FakeClock

from streamsr.errors import ConfigError
from streamsr.watch.logs import ChildLines, event, logging_to

_log = logging.getLogger("streamsr.watch.probe")
SECRET = "s3cret"
URL = f"rtsp://ann:{SECRET}@10.0.0.5/1"


class Lines:
    """A log and, once it has ended, its lines."""

    def __init__(self) -> None:
        self.text = io.StringIO()

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.getvalue().splitlines()]


@pytest.fixture
def lines() -> Iterator[Lines]:
    yield Lines()


def test_a_line_says_when_what_and_of_which_camera(lines: Lines) -> None:
    with logging_to(lines.text, "json"):
        event(_log, logging.WARNING, "camera_died", "killed by\nSIGSEGV", camera="gate", restarts=3)
        logging.getLogger("aiohttp").info("chatter of a library")
    (line,) = lines.documents
    assert list(line)[:5] == ["time", "level", "event", "camera", "message"]
    age_s = (datetime.now(UTC) - datetime.fromisoformat(line.pop("time"))).total_seconds()
    assert 0 <= age_s < 5
    assert line == {
        "level": "warning",
        "event": "camera_died",
        "camera": "gate",
        "message": "killed by SIGSEGV",
        "restarts": 3,
        "logger": "streamsr.watch.probe",
    }


def test_no_credentials_wherever_they_stand(lines: Lines) -> None:
    for form in ("json", "text"):
        with logging_to(lines.text, form):  # type: ignore[arg-type]
            event(
                _log,
                logging.INFO,
                "opened",
                f"opened {URL}",
                sink={"urls": [URL, (URL,)]},
                error=OSError(URL),
            )
            _log.info("%s and %s", URL, "rtsp://h/1?user=ann&password=" + SECRET)
            warnings.warn(f"old option in {URL}", stacklevel=1)
            ChildLines("gate").feed(f"cannot open {URL}\n".encode())
            try:
                raise OSError(URL)
            except OSError:
                _log.exception("failed")
    text = lines.text.getvalue()
    assert text.count("***@10.0.0.5/1") >= 10
    assert SECRET not in text and "ann:" not in text


def test_numbers_that_json_has_no_word_for(lines: Lines) -> None:
    with logging_to(lines.text, "json"):
        event(_log, logging.INFO, "odd", "odd", share=float("nan"), path={1: object}, level="mine")
    (line,) = lines.documents
    assert line["share"] == "nan" and line["path"]["1"] == "<class 'object'>" and line["level"] == "info"


def test_what_nobody_caught_is_a_line(lines: Lines) -> None:
    def fail() -> None:
        raise ZeroDivisionError(f"in a thread with {URL}")

    with pytest.raises(SystemExit) as exit_, logging_to(lines.text, "json"):
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        warnings.warn("take another", DeprecationWarning, stacklevel=1)
        raise KeyError(f"at the top with {URL}")
    in_thread, warning, at_top = lines.documents
    assert exit_.value.code == 1
    assert (in_thread["event"], in_thread["level"]) == ("uncaught_exception", "critical")
    assert "ZeroDivisionError" in in_thread["error"] and "in fail" in in_thread["traceback"]
    assert (warning["event"], warning["level"]) == ("warning", "warning")
    assert "DeprecationWarning: take another" in warning["message"]
    assert "KeyError" in at_top["error"] and SECRET not in lines.text.getvalue()


def test_an_error_for_the_user_stays_one(lines: Lines) -> None:
    with pytest.raises(ConfigError), logging_to(lines.text, "json"):
        raise ConfigError("listen must be HOST:PORT")
    assert lines.documents == []
    assert not any(thread.name == "streamsr-log" for thread in threading.enumerate())


def test_text_is_one_line_that_a_terminal_survives(lines: Lines) -> None:
    with logging_to(lines.text, "text"):
        event(_log, logging.WARNING, "camera_died", "killed \x1b[31mred", camera="gate", code=-9, why="a b")
        try:
            raise OSError("gone")
        except OSError:
            _log.exception("failed")
    first, second, *traceback = lines.text.getvalue().splitlines()
    assert first.endswith('WARNING  gate: killed \\x1b[31mred [camera_died] code=-9 why="a b"')
    assert second.endswith('ERROR    failed [log] error="OSError: gone"')
    assert all(line.startswith("    ") for line in traceback) and "OSError: gone" in traceback[-1]


def test_a_childs_lines_carry_its_camera(lines: Lines) -> None:
    own = {
        "time": "2026-03-01T12:00:00.000Z",
        "level": "error",
        "event": "sink_failed",
        "message": "full",
        "n": 1,
    }
    with logging_to(lines.text, "json"):
        child = ChildLines("gate")
        text = "\nW0000 native cough\n" + json.dumps(own) + '\n{"not": "a log line"}\nFatal Python'
        for byte in text.encode():
            child.feed(bytes([byte]))
        child.feed(b" error\xff: Aborted")
        child.end()
        ChildLines(None, process="model").feed(json.dumps({**own, "camera": "yard"}).encode() + b"\n")
    native, passed, odd, last, model = lines.documents
    assert (native["level"], native["event"], native["camera"]) == ("info", "stderr", "gate")
    assert native["message"] == "W0000 native cough" and native["process"] == "camera"
    assert passed == {**own, "camera": "gate", "process": "camera"}
    assert odd["message"] == '{"not": "a log line"}'
    assert last["message"] == "Fatal Python error\ufffd: Aborted"
    assert (model["camera"], model["process"]) == ("yard", "model")


def test_of_a_flood_some_lines_are_kept_and_the_others_counted(lines: Lines) -> None:
    clock = FakeClock()
    with logging_to(lines.text, "json"):
        child = ChildLines("gate", clock=clock)
        child.feed(b"again\n" * 1000 + b"x" * 100_000)
        clock.advance_ms(1000)
        child.feed(b"\nat last\n")
    found = lines.documents
    assert len(found) == 200 + 1 + 2
    assert found[200]["lines"] == 800 and found[200]["event"] == "lines_left_out"
    assert len(found[201]["message"]) == 16_384 and found[202]["message"] == "at last"


async def test_a_real_child_is_read_to_its_end(lines: Lines) -> None:
    code = (
        "import faulthandler, logging, os, sys\n"
        "from streamsr.watch.logs import event, logging_to\n"
        "faulthandler.enable()\n"
        "with logging_to(sys.stderr, 'json'):\n"
        f"    event(logging.getLogger('streamsr.x'), 30, 'opened', 'opened {URL}')\n"
        "os.write(2, b'half a line')\n"
        "os.kill(os.getpid(), 11)\n"
    )
    with logging_to(lines.text, "json"):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stderr=asyncio.subprocess.PIPE
        )
        assert child.stderr is not None
        await asyncio.wait_for(ChildLines("gate").read(child.stderr), 20)
        assert await child.wait() == -11
    documents = lines.documents
    assert (documents[0]["event"], documents[0]["message"]) == ("opened", "opened rtsp://***@10.0.0.5/1")
    assert documents[1]["message"] == "half a lineFatal Python error: Segmentation fault"
    assert {document["camera"] for document in documents} == {"gate"}


def test_a_reader_that_hangs_stops_nobody() -> None:
    """stderr is a pipe that nobody reads: more lines than fit cost no time, and the program ends."""
    code = (
        "import logging, sys, time\n"
        "from streamsr.watch.logs import logging_to\n"
        "with logging_to(sys.stderr, 'json'):\n"
        "    began = time.monotonic()\n"
        "    for number in range(20000):\n"
        "        logging.getLogger('streamsr.x').warning('line %d', number)\n"
        "    print(time.monotonic() - began, flush=True)\n"
    )
    read, write = os.pipe()
    try:
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=write, timeout=60, check=True
        )
        assert float(done.stdout) < 8 and time.monotonic() - began < 30
    finally:
        os.close(read)
        os.close(write)


def test_lines_left_out_are_counted(lines: Lines) -> None:
    gate = threading.Event()

    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            gate.wait(10)
            return lines.text.write(text)

    with logging_to(Slow(), "json"):
        for _ in range(5000):
            _log.info("again")
        gate.set()
    found = [line for line in lines.documents if "left out" in line["message"]]
    told = sum(int(line["message"].split()[0]) for line in found)
    assert len(found) == 1 and 900 <= told <= 5000 - 4096 and len(lines.documents) == 5000 - told + 1
