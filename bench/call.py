"""Glass to glass through a call: a camera's peer, streamsr between, a viewer's peer, a process each.

    streamsr bench call [--data DIR] [--seconds 15] [--codec vp8|h264]

The camera is 640x360 at 25 fps with a clock in its pixels (call_marker.py), read again where the viewer
gets its pictures; a beep goes with every flash. Two calls after one another: one enhanced to 1280x720, one
relayed as it is. Both take the same rates, up and down; the second is enlarged by bicubic weights for the
measures. glass_to_glass_ms: from the camera's handing a picture over to the viewer's having it decoded.
added_ms: from a picture's arrival at streamsr to its leaving for the encoder.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

from streamsr.errors import ConfigError

from .call_address import call_address
from .call_figures import Taken, figures, split
from .call_processes import take_call
from .call_quality import measured
from .call_scene import CallScene
from .command import add_data, add_device, add_steps, add_weights, answer, parser
from .plots import call_split

__all__ = ["main", "run"]

SECONDS, SHORTEST_S = 15.0, 6.0
COLUMNS = (
    "call", "codec", "fps", "restored_share", "glass_p50_ms", "glass_p95_ms", "added_p50_ms", "added_p95_ms",
    "lip_sync_ms", "down_kbps", "psnr_y", "face_psnr_y", "haarpsi", "face_haarpsi",
)  # fmt: skip


def run(
    data: Path | None = None,
    seconds: float = SECONDS,
    codec: str = "vp8",
    upload_kbps: int | None = None,
    fidelity: float | None = None,
    steps: int | str | None = None,
    device: str = "auto",
    weights: Path | None = None,
    threads: int | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns (what the rows share, with the figures of the enhanced call; the rows of both calls).

    data: a folder with clips/; the packaged sample without. seconds: of each call. upload_kbps: the
    camera's rate, by default that of the profile of 640x360. Raises ConfigError, StreamSRError.
    """
    if not seconds >= SHORTEST_S:
        raise ConfigError(f"seconds must be at least {SHORTEST_S:g}, got {seconds:g}")
    if codec not in ("vp8", "h264"):
        raise ConfigError(f"codec must be vp8 or h264, got {codec!r}")
    scene = CallScene.of(data)
    calls: dict[str, Taken] = {}
    with tempfile.TemporaryDirectory() as folder, call_address() as address:
        for name in ("enhanced", "relayed"):
            calls[name] = take_call(
                seconds,
                address=address,
                codec=codec,
                scene=scene,
                enhance=name == "enhanced",
                upload_kbps=upload_kbps,
                fidelity=fidelity,
                steps=steps,
                device=device,
                weights=weights,
                threads=threads,
                kept=Path(folder) / f"{name}.npz",
            )
        quality = measured(scene, calls)
    rows = [
        {"call": name, "codec": codec, **figures(call, seconds), **quality[name]}
        for name, call in calls.items()
    ]
    enhanced, relayed = rows
    head = {
        "device": enhanced["device"],
        "address": address,
        "scene": scene.name,
        "seconds": seconds,
        "codec": codec,
        "fps": enhanced["fps"],
        "restored_share": enhanced["restored_share"],
        "glass_to_glass_ms": enhanced["glass_to_glass_ms"],
        "added_ms": enhanced["added_ms"],
        "split_ms": split(calls["enhanced"]),
        "lip_sync_ms": enhanced["lip_sync_ms"],
        "psnr_received": enhanced["psnr_y"],
        "gain_db": enhanced["psnr_y"] - relayed["psnr_y"],
        "face_gain_db": enhanced["face_psnr_y"] - relayed["face_psnr_y"],
    }
    return head, rows


def main(argv: Sequence[str] | None = None) -> int:
    """See command.answer."""
    words = parser("call", "Glass to glass through a WebRTC call.")
    add = words.add_argument
    add_data(words, "clips/; without it, the packaged sample", required=False)
    add("--seconds", type=float, default=SECONDS, help="of each of the two calls")
    add("--codec", choices=("vp8", "h264"), default="vp8")
    add("--upload-kbps", type=int, help="the camera's rate; by default that of its size")
    add("--fidelity", type=float, help="0..1, else the enhancer's default")
    add_steps(words)
    add_device(words)
    add_weights(words)
    add("--threads", type=int, help="of the CPU for the network; by default all")
    cv2.setNumThreads(1)
    return answer(words, argv, run, COLUMNS, plots=call_split)


if __name__ == "__main__":
    sys.exit(main())
