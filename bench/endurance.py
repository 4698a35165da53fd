"""A call that lasts: the server's memory, and what the call does while something else wants a core.

    streamsr bench endurance --minutes 30
    streamsr bench endurance --minutes 3 --hog-s 60

Sender, server and viewer as in ``bench call``, enhanced only, and of each picture only the times kept. The
hog is a loop held to one core; it begins once HOG_AFTER_S have passed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from streamsr.errors import ConfigError
from streamsr.machine import resident_mb

from .call_address import call_address
from .call_figures import WARM_UP_S
from .call_processes import take_call
from .call_scene import CallScene
from .command import add_data, add_device, add_weights, answer, parser
from .plots import endurance_memory

__all__ = ["main", "memory_growth", "recovered_s", "run"]

MINUTE = 60  # samples of memory
SETTLES = 2  # minutes, which do not count
HOG_AFTER_S = 15.0
CALM = 1.25  # times the delay before the hog: as before
COLUMNS = (
    "fps", "restored_share", "glass_p50_ms", "glass_p95_ms", "rss_mb", "rss_growth",
    "hog_fps", "hog_p95_ms", "hog_recovers_s",
)  # fmt: skip


class _Hog:
    """Wants one core whole for ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None
        self.from_s = self.until_s = float("inf")
        self._begun_s: float | None = None

    def look(self, now_s: float) -> None:
        self._begun_s = now_s if self._begun_s is None else self._begun_s
        if self._process is None and now_s >= self._begun_s + HOG_AFTER_S and self._seconds > 0:
            self._process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            os.sched_setaffinity(self._process.pid, {min(os.sched_getaffinity(0))})
            self.from_s = now_s
        elif self._process is not None and now_s >= self.from_s + self._seconds and self.until_s > now_s:
            self.end()
            self.until_s = now_s

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def run(
    data: Path | None = None,
    minutes: float = 30.0,
    hog_s: float = 0.0,
    codec: str = "h264",
    device: str = "auto",
    weights: Path | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns what the rows share, and one row.

    data: a folder with clips/; the packaged sample without. hog_s: how long a core is taken. Raises
    ConfigError, StreamSRError.
    """
    seconds = 60 * minutes
    if seconds < 6 or (hog_s > 0 and seconds < HOG_AFTER_S + hog_s + 10):
        raise ConfigError(f"minutes must leave 6 s, and with a hog {HOG_AFTER_S + 10:g} s, got {seconds:g} s")
    memory: list[float] = []
    hog = _Hog(hog_s)

    def meanwhile(now_s: float, process_id: int) -> None:
        memory.append(resident_mb(process_id))
        hog.look(now_s)

    try:
        with call_address() as address:
            call = take_call(
                seconds,
                meanwhile,
                address=address,
                codec=codec,
                scene=CallScene.of(data),
                device=device,
                weights=weights,
            )
    finally:
        hog.end()
    report = call.server["report"]
    seen = np.array([(at, 1e3 * at - shown) for at, shown, _ in call.viewer["frames"]])
    seen = seen[seen[:, 0] >= seen[0, 0] + WARM_UP_S]
    under = seen[(seen[:, 0] >= hog.from_s) & (seen[:, 0] < hog.until_s)]
    calm = seen[seen[:, 0] < hog.from_s]
    row = {
        "fps": _fps(calm),
        "restored_share": report["restored_share"],
        "rungs": report["rungs"],
        "glass_p50_ms": float(np.percentile(calm[:, 1], 50)),
        "glass_p95_ms": float(np.percentile(calm[:, 1], 95)),
        "rss_mb": memory[-1],
        "rss_growth": memory_growth(memory),
        "rss_each_minute_mb": [median(memory[k : k + MINUTE]) for k in range(0, len(memory), MINUTE)],
        "hog_s": hog_s,
        "hog_fps": _fps(under) if len(under) else None,
        "hog_p95_ms": float(np.percentile(under[:, 1], 95)) if len(under) else None,
        "hog_recovers_s": recovered_s(seen, hog.until_s, CALM * float(np.median(calm[:, 1]))),
        "n": len(seen),
    }
    head = {"device": report["device"], "address": address, "minutes": minutes, "codec": codec}
    return head, [row]


def memory_growth(memory_mb: Sequence[float]) -> float | None:
    """What the last minute's median is over that of the third; None of a shorter run. One sample a second."""
    if len(memory_mb) < (SETTLES + 2) * MINUTE:
        return None
    settled = median(memory_mb[SETTLES * MINUTE : (SETTLES + 1) * MINUTE])
    return median(memory_mb[-MINUTE:]) / settled - 1


def recovered_s(seen: np.ndarray, from_s: float, calm_ms: float) -> float | None:
    """How long after ``from_s`` delays are calm again: the first second of two whose medians are below
    ``calm_ms``. seen (N, 2): when, in s, and delay in ms. None if never, or if nothing was seen.
    """
    after = seen[seen[:, 0] >= from_s]
    if not len(after):
        return None
    second = (after[:, 0] - from_s).astype(int)
    good = [np.median(after[second == k, 1]) <= calm_ms for k in range(second[-1]) if (second == k).any()]
    for k in range(len(good) - 1):
        if good[k] and good[k + 1]:
            return float(k)
    return None


def _fps(seen: np.ndarray) -> float:
    return (len(seen) - 1) / float(seen[-1, 0] - seen[0, 0]) if len(seen) > 1 else 0.0


def main(argv: Sequence[str] | None = None) -> int:
    """See command.answer."""
    words = parser("endurance", "A call that lasts: memory, and a core taken away.")
    add = words.add_argument
    add_data(words, "clips/; without it, the packaged sample", required=False)
    add("--minutes", type=float, default=30.0)
    add("--hog-s", type=float, default=0.0, help="so many seconds a loop takes one core")
    add("--codec", choices=("vp8", "h264"), default="h264")
    add_device(words)
    add_weights(words)
    return answer(words, argv, run, COLUMNS, plots=endurance_memory)


if __name__ == "__main__":
    sys.exit(main())
