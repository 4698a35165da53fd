"""What runs below a process, by Linux' own books."""

from __future__ import annotations

from pathlib import Path

shared: set[int] = set()  # process ids, of fixtures that last as long as the session


def descendants(process_id: int) -> set[int]:
    """Process ids of all children and their children."""
    found: set[int] = set()
    for tasks in Path(f"/proc/{process_id}/task").glob("*/children"):
        try:
            children = {int(child) for child in tasks.read_text().split()}
        except (FileNotFoundError, ProcessLookupError):
            continue
        found |= children
        for child in children:
            found |= descendants(child)
    return found


def runs(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def command(process_id: int) -> str:
    """Its command line; "" for one that is gone."""
    try:
        return Path(f"/proc/{process_id}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
