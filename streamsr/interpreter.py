"""A fresh Python that runs one module of streamsr: how child processes are started, and end."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

__all__ = ["command", "dies_with_parent", "environment"]

PR_SET_PDEATHSIG = 1


def command(module: str, *arguments: str) -> list[str]:
    """``module``: of streamsr, such as "io.rtsp_publisher"."""
    return [sys.executable, "-m", f"{__package__}.{module}", *arguments]


def environment() -> dict[str, str]:
    """This process's own, and the way to streamsr also where it is not installed."""
    package = str(Path(__file__).parents[1])
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}


def dies_with_parent() -> None:
    """Ask the kernel for SIGKILL when the parent ends: also while a library holds the interpreter's lock."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
