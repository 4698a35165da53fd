"""What a process takes of the machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from streamsr.machine import GROUP_GAVE_WAY

GIVES_WAY = """
from pathlib import Path
from streamsr.machine import give_way_as_group
give_way_as_group()
print(Path("/proc/self/autogroup").read_text() if Path("/proc/self/autogroup").exists() else "")
"""


def test_a_session_gives_way_to_others_and_to_itself_nothing_changes() -> None:
    ours = Path("/proc/self/autogroup")
    before = ours.read_text() if ours.exists() else ""
    found = subprocess.run(
        [sys.executable, "-c", GIVES_WAY], capture_output=True, text=True, check=True, start_new_session=True
    )
    assert found.stdout.strip().endswith(f"nice {GROUP_GAVE_WAY}" if before else "")
    assert (ours.read_text() if ours.exists() else "") == before
