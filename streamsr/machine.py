"""What processor this is, as far as choices depend on it."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cpu_flags", "usable_cpus"]


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
