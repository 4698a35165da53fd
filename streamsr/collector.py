"""The garbage collector, kept away from what libraries have loaded."""

from __future__ import annotations

import gc

__all__ = ["spare_what_is_loaded"]


def spare_what_is_loaded() -> None:
    """Full collections no longer walk what is alive now: for a process that serves, once it has loaded.

    torch, OpenVINO and MediaPipe leave 300,000 objects; a collection of these stops every thread that runs
    Python for 150 ms. What is garbage now is collected first; what becomes so later by reference counts alone
    still goes, cycles of it stay.
    """
    gc.collect()
    gc.freeze()
