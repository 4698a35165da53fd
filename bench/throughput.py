"""Frames per second of the whole pipeline, the age of live frames, and memory over time.

    streamsr bench throughput --data DIR [--faces 1|4]          file -> nothing, as fast as it goes
    streamsr bench throughput --data DIR --live                 paced at 25 fps: age and drops
    streamsr bench throughput --data DIR --live --minutes 5     memory, once a second
    streamsr bench throughput --url rtsp://... --minutes 1      the same of a camera's stream

The input is a real face in motion, 640x360, x264-coded and decoded in the run; the sink takes
frames and throws them away, so encoding is not in the figure. Restored share stands beside fps.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from streamsr.clock import MONOTONIC, NS_PER_S, Clock
from streamsr.errors import ConfigError
from streamsr.frame import Frame, Source, StreamInfo
from streamsr.machine import resident_mb

from .call_clip import write_call_clip
from .command import add_data, add_device, add_steps, add_weights, answer, parser
from .row import peak_rss_mb

__all__ = ["NullSink", "main", "run"]

FRAMES, WARM_UP, RUNS = 300, 50, 3
LIVE_RATE = Fraction(25)
RSS_EVERY_S = 1.0
STAGES = ("decode", "read", "track", "align", "guide", "net", "restore", "composite", "encode")
COLUMNS = (
    "faces", "input_px", "live", "fps", "restored_share", "faces_seen", "nfe", "age_p50_ms", "age_p95_ms",
    "age_p99_ms", "dropped", "track_p50_ms", "restore_p50_ms", "restore_p95_ms", "restore_p99_ms",
    "net_p50_ms", "peak_rss_mb", "rss_growth_mb",
)  # fmt: skip


class NullSink:
    """Takes frames and keeps only when they came and how old they were."""

    url = "null"

    def __init__(self, clock: Clock = MONOTONIC) -> None:
        self._clock = clock
        self.taken_ns: list[int] = []
        self.age_ms: list[float] = []

    def open(self, info: StreamInfo) -> None:
        self.info = info

    def write(self, frame: Frame) -> None:
        now_ns = self._clock.now_ns()
        self.taken_ns.append(now_ns)
        self.age_ms.append((now_ns - frame.captured_ns) / 1e6)

    def close(self) -> None: ...

    def abort(self) -> None: ...

    def fps(self, warm_up: int) -> float:
        """Frames per second after the first ``warm_up``. Raises ConfigError if too few came."""
        times = self.taken_ns[warm_up:]
        if len(times) < 2:
            raise ConfigError(f"more than {warm_up + 1} frames are needed, {len(self.taken_ns)} came out")
        return (len(times) - 1) * NS_PER_S / (times[-1] - times[0])


def run(
    data: Path | None,
    faces: int = 1,
    scale: int = 2,
    frames: int = FRAMES,
    warm_up: int = WARM_UP,
    runs: int = RUNS,
    live: bool = False,
    minutes: float | None = None,
    fidelity: float | None = None,
    steps: int | str | None = None,
    device: str = "auto",
    weights: Path | None = None,
    url: str | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns (what the rows share, one row). Raises ConfigError, SourceError, ModelError.

    data: folder with clips/; or url: a live source, watched for ``minutes``.

    frames: length of the clip; in fps and age the first ``warm_up`` frames of a run do not count
    (stage times and shares are the pipeline's own, of all frames). live: paced at 25 fps, newest
    frame wins. minutes: repeat the clip for so long, once, and watch memory. The
    row is that of the run with the median fps; its "fps_runs" has all of them.
    """
    if not 0 <= warm_up < frames - 1:
        raise ConfigError(f"warm-up must be 0 to {frames - 2}, got {warm_up}")
    if runs < 1:
        raise ConfigError(f"runs must be at least 1, got {runs}")
    if (data is None) == (url is None):
        raise ConfigError("either --data or --url must be given")
    if url is not None and minutes is None:
        raise ConfigError("--url needs --minutes: a live source does not end")
    from streamsr import Enhancer  # torch loads here, not for --help
    from streamsr.io import open_source
    from streamsr.io.file import FileSource
    from streamsr.loop import run as run_loop

    enhancer = Enhancer(weights=weights, device=device)
    options = {"scale": scale, "fidelity": fidelity, "steps": steps}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "call.mkv"
        written = None if data is None else write_call_clip(data, clip, faces, frames)
        for _ in range(1 if minutes is not None else runs):
            source: Source = FileSource(str(clip), paced=live, loop=minutes is not None)
            if url is not None:
                source = open_source(url)
            sink = NullSink()
            report, rss = run_loop(_pipe(source, sink, enhancer, minutes, options))
            rows.append(_row(report, sink, rss, faces, source.live, warm_up))
    chosen = sorted(rows, key=lambda row: row["fps"])[(len(rows) - 1) // 2]
    chosen["fps_runs"] = [row["fps"] for row in rows]
    head = {
        "device": str(enhancer.device),
        "model_sha256": enhancer.model_sha256,
        "clip_frames": written,
        "warm_up": warm_up,
        **options,
    }
    return head, [chosen]


async def _pipe(
    source: Source, sink: NullSink, enhancer: Any, minutes: float | None, options: dict[str, Any]
) -> tuple[Any, list[float]]:
    """One run, for ``minutes`` or to the end of the source: its report and the memory each second."""
    from streamsr.pipeline import Pipeline

    rss: list[float] = []

    async def watch(pipeline: Pipeline) -> None:
        while minutes is None or len(rss) * RSS_EVERY_S < minutes * 60:
            rss.append(resident_mb())
            await asyncio.sleep(RSS_EVERY_S)
        pipeline.stop()

    async with Pipeline(source, sink, enhancer, **options) as pipeline:
        watcher = asyncio.create_task(watch(pipeline))
        try:
            report = await pipeline.run()
        finally:
            watcher.cancel()
    return report, rss


def rss_growth_mb(rss: Sequence[float]) -> float | None:
    """Median of the last minute minus that of the second one; None below three minutes.

    rss: resident memory in MB, one sample a second. The first minute is not looked at: caches fill.
    """
    minute = round(60 / RSS_EVERY_S)
    if len(rss) < 3 * minute:
        return None
    return median(rss[-minute:]) - median(rss[minute : 2 * minute])


def _row(
    report: Any, sink: NullSink, rss: list[float], faces: int, live: bool, warm_up: int
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "faces": faces,
        "input_px": "x".join(map(str, report.input_px)),
        "output_px": "x".join(map(str, report.output_px)),
        "live": live,
        "fps": sink.fps(warm_up),
        "n": report.frames_out,
        "restored_share_due": report.restored_share_due,
        "restored_share": report.restored_share,
        "faces_seen": report.faces / max(1, report.frames_out),
        "rungs": report.rungs,
        "nfe": report.nfe,
        "bypassed": report.bypassed,
        "dropped": report.frames_dropped,
        "certificate_rms": report.certificate_rms,
        "peak_rss_mb": peak_rss_mb(),
        "rss_growth_mb": rss_growth_mb(rss),
        "rss_mb": [round(value, 1) for value in rss],
        "stage_ms": {name: value.model_dump() for name, value in report.stage_ms.items()},
    }
    for name in STAGES:
        if name in report.stage_ms:
            row |= {f"{name}_{p}_ms": value for p, value in report.stage_ms[name].model_dump().items()}
    if live:  # the age of a file's frame is only how long it waited in a queue
        p50, p95, p99 = np.percentile(sink.age_ms[warm_up:], (50, 95, 99))
        row |= {"age_p50_ms": float(p50), "age_p95_ms": float(p95), "age_p99_ms": float(p99)}
    return row


def main(argv: Sequence[str] | None = None) -> int:
    """See command.answer."""
    words = parser("throughput", "Speed, age and memory of the whole pipeline.")
    add = words.add_argument
    add_data(words, "clips/", required=False)
    add("--url", help="a live source (rtsp://...) instead of a clip; needs --minutes")
    add("--faces", type=int, choices=(1, 4), default=1)
    add("--scale", type=int, choices=(1, 2, 4, 8), default=2)
    add("--frames", type=int, default=FRAMES, help="length of the clip")
    add("--warm-up", type=int, default=WARM_UP, help="first frames of a run that do not count")
    add("--runs", type=int, default=RUNS, help="the median run is reported")
    add("--live", action="store_true", help="paced at 25 fps: age and drops")
    add("--minutes", type=float, help="one run of this length, repeating the clip: memory over time")
    add("--fidelity", type=float, help="0..1, else the enhancer's default")
    add_steps(words)
    add_device(words)
    add_weights(words)
    return answer(words, argv, run, COLUMNS)


if __name__ == "__main__":
    sys.exit(main())
