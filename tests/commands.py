"""The command line, called as a user would: for the tests of whole commands."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import pytest

from streamsr import Enhancer
from streamsr.cli import main


def enhance(source: object, sink: object, *options: object) -> int:
    """``streamsr enhance`` on the CPU, in this process: its exit status."""
    _held()
    return main(["enhance", str(source), "-o", str(sink), "--device", "cpu", *map(str, options)])


@lru_cache(1)
def _held() -> Enhancer:
    """Ended, but what it has compiled is shared by those after it: they begin in no time."""
    enhancer = Enhancer(device="cpu")
    enhancer.close()
    return enhancer


def report_of(path: Path) -> dict:
    """The JSON that ``--report`` left at ``path``."""
    return json.loads(path.read_text())


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr; nothing on stdout."""
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert stderr.startswith("error: ")
    assert stderr.count("\n") == 1
    return stderr
