"""Result rows: figures never travel without what made them, and tables end in a line of JSON."""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from streamsr.errors import ConfigError
from streamsr.version import __version__

__all__ = [
    "cell",
    "circumstances",
    "emit",
    "finite",
    "peak_rss_mb",
    "print_table",
    "write_lines",
    "write_text",
]

TABLE_WIDTH = 1000  # characters at most: a table is never cut to a terminal's width


def circumstances(bench: str, argv: Sequence[str], device: str) -> dict[str, Any]:
    """What every row of a run shares: commit, versions, device, machine and the command."""
    return {
        "bench": bench,
        "command": shlex.join(["streamsr", "bench", bench, *argv]),
        "commit": commit(),
        "version": __version__,
        "device": device,
        **({"gpu": gpu_name()} if device == "cuda" else {}),
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "openvino": metadata.version("openvino"),
    }


def emit(
    head: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    json_only: bool = False,
) -> None:
    """Print ``columns`` of ``rows`` as a Markdown table, then everything as one line of JSON."""
    if not json_only:
        print_table(rows, columns)
    print(json.dumps({**finite(head), "rows": [finite(row) for row in rows]}), flush=True)


def print_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """``columns`` of ``rows`` as a Markdown table."""
    table = Table(box=box.MARKDOWN)
    for name in columns:
        table.add_column(name, justify="left" if isinstance(rows[0].get(name), str) else "right")
    for row in rows:
        table.add_row(*(cell(row.get(name)) for name in columns))
    Console(width=TABLE_WIDTH, highlight=False).print(table)


def write_lines(
    path: Path, head: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], more: Sequence[str] = ()
) -> None:
    """JSON lines: each row on a line of its own, with all that the rows share.

    more: keys of the head that hold rows of further tables; such a row names its "table". Raises ConfigError.
    """
    shared = {key: value for key, value in head.items() if key not in more}
    lines = [{**shared, "table": key, **row} for key in more for row in head[key]]
    lines += [{**shared, **row} for row in rows]
    write_text(path, "".join(json.dumps(finite(line)) + "\n" for line in lines))


def write_text(path: Path, text: str) -> None:
    """Raises ConfigError."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


def commit() -> str:
    """Short hash of the checkout this file is part of, "+" if it has changes; "" outside of one."""
    here = Path(__file__).resolve()

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", "-C", str(here.parent), *arguments], capture_output=True, text=True, check=False
        )

    try:
        # an installed copy may lie inside somebody else's checkout
        if git("ls-files", "--error-unmatch", here.name).returncode:
            return ""
        changed = "+" if git("status", "--porcelain", "--untracked-files=no").stdout.strip() else ""
        return git("rev-parse", "--short=12", "HEAD").stdout.strip() + changed
    except FileNotFoundError:  # no git on this machine
        return ""


def gpu_name() -> str:
    import torch

    return torch.cuda.get_device_name()


def cpu_name() -> str:
    """The processor's model name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def peak_rss_mb() -> float:
    """Largest resident memory this process has had, in MB (10^6 bytes)."""
    import resource  # not on Windows, where the rest of the benchmarks runs

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def cell(value: Any) -> str:
    """A figure as tables show it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:.2f}"
    return str(value)


def finite(value: Any) -> Any:
    """``value`` with null for figures that are not finite: JSON has no word for them."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    return value
