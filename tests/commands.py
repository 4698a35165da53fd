"""The command line, called as a user would: for the tests of whole commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamsr.cli import main


def enhance(source: object, sink: object, *options: object) -> int:
    """``streamsr enhance`` on the CPU, in this process: its exit status."""
    return main(["enhance", str(source), "-o", str(sink), "--device", "cpu", *map(str, options)])


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
