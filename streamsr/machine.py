"""What processor this is, as far as choices depend on it; and what this process takes of the machine."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import threading
from pathlib import Path

__all__ = ["cpu_flags", "give_way", "give_way_as_group", "resident_mb", "usable_cpus", "used_cpu_s"]

GAVE_WAY = 10  # niceness: a tenth of the usual share, where threads compete
GROUP_GAVE_WAY = 5  # the same between sessions: a third
_thread = threading.local()


def cpu_flags() -> set[str]:
    """Names of instruction sets, as Linux gives them; empty where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    named = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return set(next(named, "").split())


def usable_cpus() -> int:
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def give_way() -> None:
    """From now on the calling thread, and those that it starts, take the CPU after others. Linux only."""
    if sys.platform == "linux" and not getattr(_thread, "gave_way", False):
        own = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, own, max(GAVE_WAY, os.getpriority(os.PRIO_PROCESS, own)))
        _thread.gave_way = True


def give_way_as_group() -> None:
    """``give_way`` for a process that leads a session of its own, against other sessions.

    Linux may share the CPU out between sessions first (autogroups), and the niceness of threads then counts
    only within each. Does nothing where it does not.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(GROUP_GAVE_WAY), encoding="ascii")


def resident_mb(process_id: int | None = None) -> float:
    """Memory of a process, by default this one, in MB (10^6 bytes). Linux only."""
    pages = int(Path(f"/proc/{process_id or 'self'}/statm").read_text(encoding="ascii").split()[1])
    return round(pages * resource.getpagesize() / 1e6, 1)


def used_cpu_s() -> float:
    """CPU time of this process in s; of its children none."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return round(used.ru_utime + used.ru_stime, 2)
