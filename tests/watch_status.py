"""A status of ``streamsr watch`` for tests, its cameras in whatever states they are to be."""

from __future__ import annotations

from typing import Any

from streamsr.run_report import Percentiles
from streamsr.watch.status import CameraStatus, DeviceStatus, SinkStatus, SourceStatus, WatchStatus

RUNGS = {"restored": 900, "bypassed": 40, "too_small": 20, "unsure": 10, "cached": 20, "skipped": 10}


def camera(name: str, **changes: Any) -> CameraStatus:
    """One that streams well, but for ``changes``."""
    source = SourceStatus(
        url=f"rtsp://10.0.0.5/{name}", frames=2000, drops=5, late=1, damaged=2, codec="h264"
    )
    sinks = (
        SinkStatus(url=f"rtsp://server/{name}", state="writing", written=1990, dropped=4),
        SinkStatus(url=f"rec/{name}", state="writing", written=1994),
    )
    usual: dict[str, Any] = {
        "priority": 1,
        "state": "streaming",
        "since_s": 200.0,
        "process_id": 100,
        "input_px": (640, 360),
        "output_px": (1280, 720),
        "fps": 10.0,
        "age_ms": Percentiles(p50=61.0, p95=92.0, p99=121.0),
        "frames_in": 2000,
        "frames_out": 1994,
        "frames_dropped": 6,
        "faces": 1000,
        "restored_share": 0.9,
        "rungs": RUNGS,
        "bypassed": 40,
        "nfe": {0: 100, 1: 900},
        "t0_mean": 0.71,
        "certificate_rms": 1.21,
        "certificate_max": 9.4,
        "source": source,
        "sinks": sinks,
        "rss_mb": 212.0,
        "cpu_s": 31.5,
    }
    return CameraStatus(name=name, **{**usual, **changes})


def model(**changes: Any) -> DeviceStatus:
    usual: dict[str, Any] = {
        "state": "ready",
        "since_s": 210.0,
        "process_id": 99,
        "device": "cpu",
        "batches": {1: 500, 2: 200},
        "restored": 900,
        "refused": 12,
        "queue": 1,
        "busy_share": 0.61,
        "rss_mb": 740.0,
        "cpu_s": 130.0,
    }
    return DeviceStatus(**{**usual, **changes})


def status(*cameras: CameraStatus, **changes: Any) -> WatchStatus:
    usual: dict[str, Any] = {
        "version": "0.2.0",
        "uptime_s": 215.0,
        "model": model(),
        "model_sha256": "ab" * 32,
        "rss_mb": 61.0,
        "cpu_s": 4.0,
    }
    return WatchStatus(cameras=cameras, **{**usual, **changes})
