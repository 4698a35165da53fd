"""What the network costs without a frame around it: aligned crops to residuals, by batch and steps."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from .timing import percentiles, wall_ms

if TYPE_CHECKING:
    from streamsr.model.restorer import Restorer

__all__ = ["NETWORK_COLUMNS", "network_row"]

NETWORK_COLUMNS = (
    "size", "steps", "batch", "engine", "n", "guide_p50_ms", "restore_p50_ms", "restore_p95_ms",
    "restore_p99_ms", "queued_ms", "faces_per_s",
)  # fmt: skip
NO_HURRY_NS = 2**62  # a deadline, with which a GPU's work is waited for


def network_row(restorer: Restorer, crop: Any, batch: int, steps: int, runs: int) -> dict[str, Any]:
    """Of ``batch`` crops alike: the guide, and what restores them. crop: of the kind that sessions cut."""
    crops = [crop] * batch
    readings = restorer.guide(crops)
    before = restorer.restore(crops, readings, steps=steps, deadline_ns=NO_HURRY_NS)
    restore = partial(restorer.restore, crops, readings, before, steps=steps)
    done = partial(restore, deadline_ns=NO_HURRY_NS)
    guided, restored = (wall_ms(does, runs) for does in (partial(restorer.guide, crops), done))
    began = time.perf_counter()
    for _ in range(runs - 1):
        restore()
    done()
    queued_ms = (time.perf_counter() - began) * 1e3 / runs
    return {
        "size": crop.size,
        "steps": steps,
        "batch": batch,
        "engine": restorer.engine,
        "n": runs,
        **percentiles(guided, "guide"),
        **percentiles(restored, "restore"),
        "queued_ms": queued_ms,
        "faces_per_s": 1e3 * batch / queued_ms,
    }
