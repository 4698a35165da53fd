"""What a call's three processes measured, put together."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from streamsr.errors import ConfigError

from .call_tracks import BEEP_EVERY_S

__all__ = ["WARM_UP_S", "Taken", "figures", "split"]

WARM_UP_S = 3.0  # of a call's pictures, which do not count: encoders and caches settle
STAGES = ("track", "restore", "composite", "encode")


@dataclass(frozen=True, slots=True)
class Taken:
    """The results of the server, the camera and the viewer. kept: file with the viewer's pictures."""

    server: dict[str, Any]
    camera: dict[str, Any]
    viewer: dict[str, Any]
    kept: Path | None


def figures(call: Taken, seconds: float) -> dict[str, Any]:
    """One row: rates, delays, lip-sync, and what the pipeline says of itself. Raises ConfigError."""
    seen = _counted(call.viewer["frames"])
    glass = [1e3 * seen_s - shown_ms for seen_s, shown_ms, _ in seen]
    from_s = seen[0][0]
    added = [ms for left_s, ms in call.server["added_ms"] if left_s >= from_s]
    report = call.server["report"] or {}
    row: dict[str, Any] = {
        "device": report.get("device", ""),
        "model_sha256": report.get("model_sha256", ""),
        "fps": (len(seen) - 1) / (seen[-1][0] - from_s),
        "n": len(seen),
        "unread": call.viewer["unread"],
        "restored_share": report.get("restored_share"),
        "rungs": report.get("rungs"),
        "nfe": report.get("nfe"),
        "restored_px": report.get("restored_px"),
        "dropped": report.get("frames_dropped"),
        "glass_to_glass_ms": _percentiles(glass),
        "added_ms": _percentiles(added),
        "stage_ms": report.get("stage_ms"),
        "codec_ms": {f"{who}_{what}": ms for who, what, ms in _codecs(call)},
        "up_kbps": call.camera["sent_bytes"] * 8e-3 / seconds,
        "down_kbps": call.server["sent_bytes"] * 8e-3 / seconds,
        **_lip_sync(call),
    }
    for name, short in (("glass_to_glass_ms", "glass"), ("added_ms", "added")):
        row |= {f"{short}_{p}_ms": row[name][p] for p in ("p50", "p95")}
    return row


def split(call: Taken) -> dict[str, float]:
    """Where the median delay goes, in ms; it adds up to that of glass to glass.

    algorithmic: pictures that a picture waits for: none. compute: streamsr's stages. waiting: between
    them, for threads and earlier pictures. codec: both encoders, both decoders. transport: the rest, that
    is packets, jitter buffers and event loops.
    """
    seen = _counted(call.viewer["frames"])
    glass = median(1e3 * seen_s - shown_ms for seen_s, shown_ms, _ in seen)
    added = median(ms for _, ms in call.server["added_ms"])
    stages = (call.server["report"] or {}).get("stage_ms", {})
    compute = sum(stages[name]["p50"] for name in STAGES if name in stages)
    codec = sum(ms for _, _, ms in _codecs(call))
    return {
        "algorithmic": 0.0,
        "compute": compute,
        "waiting": added - compute,
        "codec": codec,
        "transport": glass - added - codec,
    }


def _counted(frames: list[tuple[float, int, bool]]) -> list[tuple[float, int, bool]]:
    counted = [frame for frame in frames if frame[0] >= frames[0][0] + WARM_UP_S]
    if len(counted) < 10:
        raise ConfigError(f"only {len(counted)} of {len(frames)} pictures came after {WARM_UP_S:g} s")
    return counted


def _percentiles(values: list[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(values, (50, 95, 99))
    return {"p50": float(p50), "p95": float(p95), "p99": float(p99)}


def _codecs(call: Taken) -> list[tuple[str, str, float]]:
    """(process, method, median ms) of the four codecs."""
    who = {"camera": call.camera, "server": call.server, "viewer": call.viewer}
    return [
        (name, method, median(taken))
        for name, result in who.items()
        for method, taken in result["codec_ms"].items()
        if taken
    ]


def _lip_sync(call: Taken) -> dict[str, float | None]:
    """How much later a beep sounds than its flash is seen, in ms: the median, and the largest either way."""
    frames = call.viewer["frames"]
    flashes = [now[0] for last, now in pairwise(frames) if now[2] and not last[2]]
    errors = []
    for seen_s in flashes:
        beep_s = min(call.viewer["beeps_s"], key=lambda heard_s: abs(heard_s - seen_s), default=None)
        if (
            beep_s is not None
            and abs(beep_s - seen_s) < BEEP_EVERY_S / 2
            and seen_s > frames[0][0] + WARM_UP_S
        ):
            errors.append(1e3 * (beep_s - seen_s))
    if not errors:
        return {"lip_sync_ms": None, "lip_sync_worst_ms": None}
    return {"lip_sync_ms": median(errors), "lip_sync_worst_ms": max(errors, key=abs)}
