"""What the command lines of all benchmarks share: common options, one line for what is wrong, the output."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from streamsr.errors import ConfigError, StreamSRError
from streamsr.session_options import EngineName

from .row import circumstances, emit, print_table, write_lines

if TYPE_CHECKING:
    from .plots import Plot

__all__ = [
    "Head",
    "Rows",
    "add_data",
    "add_device",
    "add_engine",
    "add_list",
    "add_steps",
    "add_weights",
    "answer",
    "parser",
    "px",
]

Head = dict[str, Any]  # what all rows of a run share, "device" among it
Rows = list[dict[str, Any]]
T = TypeVar("T")


def parser(bench: str, about: str | None) -> argparse.ArgumentParser:
    """Of ``streamsr bench BENCH``, with --json, --jsonl and --html. about: its first line is shown."""
    words = argparse.ArgumentParser(
        prog=f"streamsr bench {bench}", description=(about or "").partition("\n")[0]
    )
    words.add_argument("--json", action="store_true", help="print only the line of JSON")
    words.add_argument("--jsonl", type=Path, metavar="FILE", help="write the rows as JSON lines")
    words.add_argument("--html", type=Path, metavar="FILE", help="write a report with plots")
    return words


def add_data(words: argparse.ArgumentParser, holds: str, *, required: bool = True) -> None:
    words.add_argument("--data", type=Path, required=required, help=f"folder with {holds}")


def add_device(words: argparse.ArgumentParser) -> None:
    words.add_argument("--device", default="auto", help="auto, cpu or cuda")


def add_engine(words: argparse.ArgumentParser) -> None:
    about = "what evaluates the network; auto: openvino on a CPU, eager on a GPU"
    words.add_argument("--engine", choices=get_args(EngineName), default="auto", help=about)


def add_weights(words: argparse.ArgumentParser) -> None:
    words.add_argument("--weights", type=Path, help="a weights file instead of the packaged ones")


def add_steps(words: argparse.ArgumentParser, default: str | None = None) -> None:
    about = "auto or a number of network evaluations"
    if default is None:
        about += ", else the enhancer's default"
    words.add_argument("--steps", type=_steps, default=default, help=about)


def _steps(text: str) -> int | str:
    if text == "auto":
        return text
    if not text.isdigit():
        raise ConfigError(f"--steps must be auto or a number, got {text!r}")
    return int(text)


def add_list(
    words: argparse.ArgumentParser,
    option: str,
    kind: Callable[[str], T],
    default: Sequence[T] | None,
    about: str,
    each: str = "a number",
) -> None:
    """An option of several values, comma-separated. Parsing raises ConfigError where one is not ``each``."""

    def values(text: str) -> list[T]:
        found = []
        for part in text.split(","):
            try:
                found.append(kind(part))
            except ValueError:
                raise ConfigError(f"{option} must be {each}, got {part!r}") from None
        return found

    words.add_argument(option, type=values, default=default, help=about)


def px(text: str) -> tuple[int, int]:
    """A picture's size of ``add_list``: "640x360" is (640, 360). Raises ValueError."""
    width, _, height = text.partition("x")
    found = int(width), int(height)
    if min(found) < 1:
        raise ValueError(text)
    return found


def answer(
    words: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    run: Callable[..., tuple[Head, Rows]],
    columns: Sequence[str] | Callable[[Head, Rows], Sequence[str]],
    more: Mapping[str, Sequence[str]] | None = None,
    plots: Callable[[Head, Rows], list[Plot]] | None = None,
) -> int:
    """Call ``run`` with the options of ``argv`` by their names, and print and write what it returns.

    columns: of the table. more: keys of the head that may hold rows too, and the columns of their tables;
    "note" of the head is a line to read before the figures. plots: for --html.
    Returns the exit status: 0, or 2 after one line that says what is wrong.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        options = vars(words.parse_args(argv))
        json_only, jsonl, html = (options.pop(name) for name in ("json", "jsonl", "html"))
        for path in (jsonl, html):
            if path is not None and not path.parent.is_dir():
                raise ConfigError(f"cannot write {path}: no folder {path.parent}")
        head, rows = run(**options)
        head = circumstances(words.prog.rpartition(" ")[2], argv, head.pop("device")) | head
        shown = columns(head, rows) if callable(columns) else columns
        tables = {key: (names, head[key]) for key, names in (more or {}).items() if key in head}
        if jsonl is not None:
            write_lines(jsonl, head, rows, tuple(tables))
        if html is not None:
            from .report import write_report  # matplotlib loads here

            drawn = plots(head, rows) if plots is not None else []
            write_report(html, words.description or "", head, {"": (shown, rows), **tables}, drawn)
    except StreamSRError as error:
        print(f"{words.prog}: {error}", file=sys.stderr)
        return 2
    if not json_only:
        if "note" in head:
            print(head["note"])
        for names, members in tables.values():
            print_table(members, names)
    emit(head, rows, shown, json_only)
    return 0
