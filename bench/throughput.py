"""Frames per second of the whole pipeline, the age of live frames, and memory over time.

    streamsr bench throughput [--data DIR] [--faces 1,4]        file -> nothing, as fast as it goes
    streamsr bench throughput --streams 1,2,4,8                 so many at once, through one enhancer
    streamsr bench throughput --live                            paced at 25 fps: age and drops
    streamsr bench throughput --live --minutes 5                memory, once a second
    streamsr bench throughput --url rtsp://... --minutes 1      the same of a camera's stream

The input is a face in motion, 640x360, x264-coded and decoded in the run: of clips with --data, else of the
packaged sample (S = 256). The sink takes frames and throws them away, so encoding is not in the figure.
Restored share stands beside fps. A row for each number of faces and of streams.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from fractions import Fraction
from itertools import islice, product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from streamsr.clock import MONOTONIC, NS_PER_S, Clock
from streamsr.errors import ConfigError
from streamsr.frame import Frame, Source, StreamInfo
from streamsr.machine import resident_mb

from .call_clip import CALL_PX, CRF, write_call_clip
from .clips import Picture, write_clip
from .command import add_data, add_device, add_list, add_steps, add_weights, answer, parser
from .crowd import Crowd
from .plots import throughput_plots
from .row import peak_rss_mb
from .timing import percentiles

__all__ = ["NullSink", "main", "run"]

FRAMES, WARM_UP, RUNS = 300, 50, 3
LIVE_RATE = Fraction(25)
RSS_EVERY_S = 1.0
MOST_FACES = 4  # as a session's own tracker
PERCENTILES = ("p50", "p95", "p99")
STAGES = ("decode", "read", "track", "align", "guide", "net", "restore", "composite", "encode")
COLUMNS = (
    "faces", "streams", "input_px", "live", "fps", "fps_least", "restored_share", "faces_seen", "nfe",
    "age_p50_ms", "age_p95_ms", "age_p99_ms", "dropped", "track_p50_ms", "restore_p50_ms", "restore_p95_ms",
    "restore_p99_ms", "net_p50_ms", "peak_rss_mb", "rss_growth_mb",
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


def run(
    data: Path | None = None,
    faces: Sequence[int] = (1,),
    streams: Sequence[int] = (1,),
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
    """Returns (what the rows share, the rows). Raises ConfigError, SourceError, ModelError.

    data: folder with clips/, the packaged sample without; or url: a live source, watched for ``minutes``.

    faces: in a picture. streams: sources of the same pictures, each with a session of its own.
    frames: length of the clip; in fps and age the first ``warm_up`` frames of a stream do not count
    (stage times and shares are the pipeline's own, of all frames). live: paced at 25 fps, newest
    frame wins. minutes: repeat the clip for so long, once, and watch memory. A
    row is that of the run with the median fps; its "fps_runs" has all of them.
    """
    if not 0 <= warm_up < frames - 1:
        raise ConfigError(f"warm-up must be 0 to {frames - 2}, got {warm_up}")
    if runs < 1 or not streams or min(streams) < 1:
        raise ConfigError(f"runs and streams must be at least 1, got {runs} and {streams}")
    if not faces or not all(1 <= n <= MOST_FACES for n in faces):
        raise ConfigError(f"faces must be 1 to {MOST_FACES}, as many as a stream tracks, got {faces}")
    if url is not None and (data is not None or minutes is None or list(streams) != [1]):
        raise ConfigError("--url is one stream, without --data, and needs --minutes: it does not end")
    from streamsr import Enhancer  # torch loads here, not for --help
    from streamsr.io import open_source
    from streamsr.io.file import FileSource
    from streamsr.loop import run as run_loop

    options = {"scale": scale, "fidelity": fidelity, "steps": steps}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder, Enhancer(weights=weights, device=device) as enhancer:
        clips = {n: Path(folder) / f"call_{n}.mkv" for n in faces if url is None}
        written = {n: _write_clip(data, clip, n, frames, scale) for n, clip in clips.items()}
        for n, count in product(faces, streams):
            tried: list[dict[str, Any]] = []
            for _ in range(1 if minutes is not None else runs):
                sources: list[Source] = [
                    FileSource(str(clips[n]), paced=live, loop=minutes is not None)
                    if url is None
                    else open_source(url)
                    for _ in range(count)
                ]
                sinks = [NullSink() for _ in sources]
                reports, rss = run_loop(_pipe(sources, sinks, enhancer, minutes, options))
                tried.append(_row(reports, sinks, rss, n, sources[0].live, warm_up))
            chosen = sorted(tried, key=lambda row: row["fps"])[(len(tried) - 1) // 2]
            rows.append(chosen | {"fps_runs": [row["fps"] for row in tried]})
        head = {
            "device": str(enhancer.device),
            "model_sha256": enhancer.model_sha256,
            "scene": url or ("the packaged sample" if data is None else "clips"),
            "clip_frames": written,
            "warm_up": warm_up,
            **options,
        }
    return head, rows


def _write_clip(data: Path | None, target: Path, faces: int, frames: int, scale: int) -> int:
    if data is not None:
        return write_call_clip(data, target, faces, frames)
    crowd = Crowd(faces, 256, CALL_PX, scale).pictures()
    pictures = (Picture(image, k, 1 / LIVE_RATE) for k, image in enumerate(islice(crowd, frames)))
    return write_clip(target, pictures, LIVE_RATE, CRF)


async def _pipe(
    sources: Sequence[Source],
    sinks: Sequence[NullSink],
    enhancer: Any,
    minutes: float | None,
    options: dict[str, Any],
) -> tuple[list[Any], list[float]]:
    """All at once, for ``minutes`` or to the ends of the sources: their reports, the memory each second."""
    from streamsr.pipeline import Pipeline

    rss: list[float] = []
    pipelines = [Pipeline(*ends, enhancer, **options) for ends in zip(sources, sinks, strict=True)]

    async def watch() -> None:
        while minutes is None or len(rss) * RSS_EVERY_S < minutes * 60:
            rss.append(resident_mb())
            await asyncio.sleep(RSS_EVERY_S)
        for pipeline in pipelines:
            pipeline.stop()

    async with AsyncExitStack() as stack:
        for pipeline in pipelines:
            await stack.enter_async_context(pipeline)
        watcher = asyncio.create_task(watch())
        try:
            reports = await asyncio.gather(*(pipeline.run() for pipeline in pipelines))
        finally:
            watcher.cancel()
    return reports, rss


def together_fps(sinks: Sequence[NullSink], warm_up: int) -> float:
    """Frames per second of all sinks together, while every one is past its first ``warm_up`` frames.

    Raises ConfigError if too few came.
    """
    times = [sink.taken_ns[warm_up:] for sink in sinks]
    if min(map(len, times)) < 2:
        fewest = min(len(sink.taken_ns) for sink in sinks)
        raise ConfigError(f"more than {warm_up + 1} frames are needed, {fewest} came out")
    from_ns, until_ns = max(taken[0] for taken in times), min(taken[-1] for taken in times)
    if until_ns <= from_ns:
        raise ConfigError("the streams did not run side by side: more --frames are needed")
    return sum(from_ns < at <= until_ns for taken in times for at in taken) * NS_PER_S / (until_ns - from_ns)


def rss_growth_mb(rss: Sequence[float]) -> float | None:
    """Median of the last minute minus that of the second one; None below three minutes.

    rss: resident memory in MB, one sample a second. The first minute is not looked at: caches fill.
    """
    minute = round(60 / RSS_EVERY_S)
    if len(rss) < 3 * minute:
        return None
    return median(rss[-minute:]) - median(rss[minute : 2 * minute])


def _row(
    reports: Sequence[Any],
    sinks: Sequence[NullSink],
    rss: list[float],
    faces: int,
    live: bool,
    warm_up: int,
) -> dict[str, Any]:
    """Of all streams together; stage times are those of the slowest one, percentile by percentile."""
    out = sum(report.frames_out for report in reports)
    rungs: Counter[str] = sum((Counter(report.rungs) for report in reports), Counter())
    nfe: Counter[int] = sum((Counter(report.nfe) for report in reports), Counter())
    seen = sum(rungs.values())
    due = seen - rungs["bypassed"] - rungs["too_small"]
    row: dict[str, Any] = {
        "faces": faces,
        "streams": len(reports),
        "input_px": "x".join(map(str, reports[0].input_px)),
        "output_px": "x".join(map(str, reports[0].output_px)),
        "live": live,
        "fps": together_fps(sinks, warm_up),
        "fps_least": min(together_fps([sink], warm_up) for sink in sinks),
        "n": out,
        "restored_share_due": rungs["restored"] / due if due else None,
        "restored_share": rungs["restored"] / seen if seen else None,
        "faces_seen": seen / max(1, out),
        "rungs": dict(rungs),
        "nfe": dict(nfe),
        "restored_px": dict(sum((Counter(report.restored_px) for report in reports), Counter())),
        "bypassed": rungs["bypassed"],
        "dropped": sum(report.frames_dropped for report in reports),
        "certificate_rms": float(np.mean([report.certificate_rms for report in reports])),
        "peak_rss_mb": peak_rss_mb(),
        "rss_growth_mb": rss_growth_mb(rss),
        "rss_mb": [round(value, 1) for value in rss],
    }
    for name in STAGES:
        measured = [report.stage_ms[name].model_dump() for report in reports if name in report.stage_ms]
        row |= {f"{name}_{p}_ms": max(each[p] for each in measured) for p in PERCENTILES if measured}
    if live:  # the age of a file's frame is only how long it waited in a queue
        row |= percentiles([age for sink in sinks for age in sink.age_ms[warm_up:]], "age")
    return row


def main(argv: Sequence[str] | None = None) -> int:
    """See command.answer."""
    words = parser("throughput", "Speed, age and memory of the whole pipeline.")
    add = words.add_argument
    add_data(words, "clips/; without it, the packaged sample", required=False)
    add("--url", help="a live source (rtsp://...) instead of a clip; needs --minutes")
    add_list(words, "--faces", int, (1,), "in a picture; of clips 1 or 4")
    add_list(words, "--streams", int, (1,), "at once, through one enhancer")
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
    return answer(words, argv, run, COLUMNS, plots=throughput_plots)


if __name__ == "__main__":
    sys.exit(main())
