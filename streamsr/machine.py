"""What processor this is, as far as choices depend on it; and what this process takes of the machine."""

from __future__ import annotations

import os
import resource
from pathlib import Path

__all__ = ["cpu_flags", "resident_mb", "usable_cpus", "used_cpu_s"]


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


def resident_mb(process_id: int | None = None) -> float:
    """Memory of a process, by default this one, in MB (10^6 bytes). Linux only."""
    pages = int(Path(f"/proc/{process_id or 'self'}/statm").read_text(encoding="ascii").split()[1])
    return round(pages * resource.getpagesize() / 1e6, 1)


def used_cpu_s() -> float:
    """CPU time of this process in s; of its children none."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return round(used.ru_utime + used.ru_stime, 2)
