"""Ctrl-C while libraries load."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["ends_at_once"]


@contextmanager
def ends_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process as the system does by default, while nothing is open that it could harm.

    OpenCV and torch turn a KeyboardInterrupt that meets them in loading into an ImportError or an abort.
    """
    on_main = threading.current_thread() is threading.main_thread()
    if not on_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # someone else's to handle
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
