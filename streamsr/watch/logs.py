"""Log lines on stderr: JSON, one object a line, or text. No credentials, no line without a level.

    {"time": "2026-03-01T12:00:00.123Z", "level": "warning", "event": "camera_died", "camera": "gate",
     "message": "killed by SIGSEGV", "logger": "streamsr.watch.supervisor", "restarts": 3}

time is UTC; camera is null where a line is about none of them. Warnings and exceptions that nobody caught
become such lines too. A child's own lines pass through ``ChildLines``: JSON ones keep their time, level
and event, others (of native libraries, say) get the level "info" and the event "stderr".
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import queue
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from ..clock import MONOTONIC, NS_PER_S, Clock
from ..errors import StreamSRError, redact

__all__ = ["ChildLines", "event", "logging_to", "redacted"]

LINE_BYTES = 16_384  # of a child; the rest of a longer one is left out
CHILD_LINES_PER_S = 50.0
CHILD_LINES_AT_ONCE = 200.0
WAITING_LINES = 4096  # for a reader of stderr that is slow; then the newest are left out, and counted
FIRST = ("time", "level", "event", "camera", "message")
END_S = 2.0  # for those that wait when the program ends

Form = Literal["json", "text"]
Document = dict[str, Any]

_log = logging.getLogger(__name__)


def event(
    logger: logging.Logger,
    level: int,
    name: str,
    message: str,
    /,
    *,
    camera: str | None = None,
    **fields: Any,
) -> None:
    """Log ``message`` as the event ``name``, a word in snake_case that programs look for."""
    logger.log(level, "%s", message, extra={"event": name, "camera": camera, "fields": fields})


@contextmanager
def logging_to(stream: TextIO, form: Form, *, level: int = logging.INFO) -> Iterator[None]:
    """All log lines of this process go to ``stream``, from a thread of its own: a reader that hangs stops
    nobody. level: of streamsr's lines; of other libraries' from WARNING on. An exception that is none of
    streamsr's own becomes a line and then SystemExit(1)."""
    root, ours = logging.getLogger(), logging.getLogger("streamsr")
    writer = _Writer(stream, form)
    kept, levels = root.handlers[:], (root.level, ours.level)
    hooks = threading.excepthook, sys.unraisablehook
    root.handlers[:] = [writer]
    root.setLevel(logging.WARNING)
    ours.setLevel(level)
    logging.captureWarnings(True)
    threading.excepthook = _uncaught_in_thread
    sys.unraisablehook = _unraisable
    try:
        yield
    except StreamSRError:
        raise
    except Exception as error:
        _uncaught(error)
        raise SystemExit(1) from None  # its traceback would stand there once more, as it is
    finally:
        root.handlers[:] = kept
        root.setLevel(levels[0])
        ours.setLevel(levels[1])
        threading.excepthook, sys.unraisablehook = hooks
        logging.captureWarnings(False)
        writer.close()


def redacted(value: Any) -> Any:
    """``value`` as JSON can say it, every text in it without credentials."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): redacted(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redacted(one) for one in value]
    return redact(str(value))


class ChildLines:
    """What a child process writes to its stderr, as log lines. camera: whose it is; None: no camera's.

    Of a flood, some lines a second are kept and the others counted.
    """

    def __init__(self, camera: str | None, *, process: str = "camera", clock: Clock = MONOTONIC) -> None:
        self._camera, self._process, self._clock = camera, process, clock
        self._part = bytearray()
        self._room, self._room_ns = CHILD_LINES_AT_ONCE, clock.now_ns()
        self._left_out = 0

    async def read(self, stream: asyncio.StreamReader) -> None:
        """Until its end."""
        while data := await stream.read(65_536):
            self.feed(data)
        self.end()

    def feed(self, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._part += line[: LINE_BYTES - len(self._part)]
            self._line()
        self._part += rest[: LINE_BYTES - len(self._part)]

    def end(self) -> None:
        """The child is gone: what it did not finish is a line too."""
        self._line()
        self._tell_left_out()

    def _line(self) -> None:
        text = self._part.decode("utf-8", "replace").strip()
        self._part.clear()
        if not text:
            return
        if not self._admit():
            self._left_out += 1
            return
        self._tell_left_out()
        document = _document_in(text)
        if document is None:
            document = {"level": "info", "event": "stderr", "message": text}
        document.setdefault("process", self._process)
        self._log(document)

    def _admit(self) -> bool:
        now_ns = self._clock.now_ns()
        self._room += (now_ns - self._room_ns) / NS_PER_S * CHILD_LINES_PER_S
        self._room, self._room_ns = min(self._room, CHILD_LINES_AT_ONCE), now_ns
        if self._room < 1:
            return False
        self._room -= 1
        return True

    def _tell_left_out(self) -> None:
        left_out, self._left_out = self._left_out, 0
        if left_out:
            message = f"{left_out} lines left out"
            self._log({"level": "warning", "event": "lines_left_out", "message": message, "lines": left_out})

    def _log(self, document: Document) -> None:
        level = logging.getLevelNamesMapping().get(document["level"].upper(), logging.INFO)
        extra = {"document": {**document, "camera": self._camera or document.get("camera")}}
        _log.log(level, "%s", document["message"], extra=extra)


def _document_in(text: str) -> Document | None:
    """The line of a child that logs as this module does; None for any other."""
    if not text.startswith("{"):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    is_ours = all(isinstance(found.get(key), str) for key in ("time", "level", "event", "message"))
    return found if is_ours else None


def _document(record: logging.LogRecord) -> Document:
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    document: Document = {
        "time": time.replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "event": getattr(record, "event", "warning" if record.name == "py.warnings" else "log"),
        "camera": getattr(record, "camera", None),
        "message": " ".join(record.getMessage().split()),
        "logger": record.name,
    }
    if relayed := getattr(record, "document", None):
        del document["logger"]
        return redacted({**document, **relayed})  # type: ignore[no-any-return]
    document = {**getattr(record, "fields", {}), **document}
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        document["error"] = f"{type(error).__name__}: {error}"
        document["traceback"] = logging.Formatter().formatException(record.exc_info)
    return redacted({key: document.pop(key) for key in FIRST} | document)  # type: ignore[no-any-return]


def _as_text(document: Document) -> str:
    """One line, the traceback after it."""
    rest = dict(document)
    time, level, name, camera, message = (rest.pop(key) for key in FIRST)
    traceback = rest.pop("traceback", None)
    fields = "".join(f" {key}={_word(value)}" for key, value in rest.items() if key != "logger")
    about = f"{camera}: " if camera else ""
    line = _printable(f"{time} {level.upper():8} {about}{message} [{name}]{fields}")
    if traceback is None:
        return line
    return "\n    ".join([line, *map(_printable, str(traceback).splitlines())])


def _word(value: object) -> str:
    return value if isinstance(value, str) and value and " " not in value else json.dumps(value)


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


class _Writer(logging.Handler):
    """Lines into a bounded queue, from there to the stream by a thread."""

    def __init__(self, stream: TextIO, form: Form) -> None:
        super().__init__()
        self._stream, self._form = stream, form
        self._waiting: queue.Queue[str | None] = queue.Queue(WAITING_LINES)
        self._left_out = 0
        self._thread = threading.Thread(target=self._write, name="streamsr-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self._line(_document(record))
        except Exception as error:  # a line that cannot be formatted must not end what it tells of
            line = json.dumps(
                {"level": "error", "event": "log", "message": redact(f"not a log line: {error}")}
            )
        try:
            self._waiting.put_nowait(line)
        except queue.Full:
            self._left_out += 1

    def close(self) -> None:
        with suppress(queue.Full):
            self._waiting.put(None, timeout=END_S)
        self._thread.join(END_S)
        super().close()

    def _line(self, document: Document) -> str:
        return json.dumps(document) if self._form == "json" else _as_text(document)

    def _write(self) -> None:
        while (line := self._waiting.get()) is not None:
            left_out, self._left_out = self._left_out, 0
            try:
                self._stream.write(line + "\n")
                if left_out:
                    message = f"{left_out} lines left out: stderr was read too slowly"
                    record = _log.makeRecord(_log.name, logging.WARNING, "", 0, message, (), None)
                    self._stream.write(self._line(_document(record)) + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # nobody reads, or it is closed: then there is nobody to tell
                continue


def _uncaught(error: BaseException) -> None:
    _log.critical("%s", error, exc_info=error, extra={"event": "uncaught_exception"})


def _uncaught_in_thread(found: threading.ExceptHookArgs) -> None:
    if found.exc_value is not None and found.exc_type is not SystemExit:
        _uncaught(found.exc_value)


def _unraisable(found: sys.UnraisableHookArgs) -> None:
    if found.exc_value is not None:
        _uncaught(found.exc_value)
