"""What one frame costs, stage by stage and end to end, and how that grows.

    streamsr bench latency [--sizes 256,512] [--steps 1,2,4] [--batches 1,2,4,8]
    streamsr bench latency --sizes 256 --steps 1 --faces 1,2,4,8,16 --inputs 1920x1080
    streamsr bench latency --sizes 256 --steps 1 --inputs 640x360,1280x720,1920x1080,3840x2160
    streamsr bench latency --inputs 960x540 --on-device          pictures that lie on the GPU, and stay there
    streamsr bench latency --engine inductor

A row for each combination: frames one after another through one session, decoded picture to enhanced one, by
``crowd.py``. The guide is asked about every fifth picture of a face, so it is in the p95 and not in the p50.
On a GPU guide and network are only queued, and composite waits for them: there the whole frame is the figure.
``engine`` is what served: one that is compiled first is waited for, unless it says why it does not serve.
The other table is the network without a frame around it: aligned crops to residuals, by batch, one call after
another; ``queued`` is a call's share of the time when all are asked for before the first is waited for, and
faces a second follow from it.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from itertools import count, islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from streamsr.errors import ConfigError
from streamsr.frame import Frame

from .command import add_device, add_engine, add_list, add_weights, answer, parser, px
from .crowd import SIZES, Crowd
from .latency_network import NETWORK_COLUMNS, network_row
from .plots import latency_plots
from .timing import percentiles

if TYPE_CHECKING:
    from streamsr.enhancer import Enhancer, Session
    from streamsr.model.restorer import Restorer
    from streamsr.report import FrameReport

__all__ = ["main", "run", "until_it_serves"]

STEPS, BATCHES = (1, 2, 4), (1, 2, 4, 8)
INPUT_PX = (640, 360)
FRAMES, RUNS = 60, 20
COMPILED = ("inductor", "tensorrt")  # while eager serves
ASK_S = 0.1  # between two frames of the wait for them: a build gives way to what never pauses
SEARCH, WARM_UP = 150, 15  # frames: at most until every face has been found; until caches have settled
COLUMNS = (
    "size", "steps", "faces", "input_px", "engine", "n", "restored_share", "faces_seen", "track_p50_ms",
    "align_p50_ms", "guide_p95_ms", "net_p50_ms", "net_p95_ms", "composite_p50_ms", "frame_p50_ms",
    "frame_p95_ms", "frame_p99_ms",
)  # fmt: skip


def run(
    sizes: Sequence[int] = SIZES,
    steps: Sequence[int] = STEPS,
    faces: Sequence[int] = (1,),
    inputs: Sequence[tuple[int, int]] = (INPUT_PX,),
    batches: Sequence[int] = BATCHES,
    scale: int = 2,
    frames: int = FRAMES,
    runs: int = RUNS,
    on_device: bool = False,
    device: str = "auto",
    engine: str = "auto",
    weights: Path | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns (what the rows share, a row for each combination); "network" of the first holds its rows.

    inputs: width, height. batches: crops in a call of the network. frames: measured for a row, after the
    warm-up. runs: of each batch. on_device: pictures are tensors on the GPU, and
    so is the output. engine: as of ``Enhancer``. Raises ConfigError, ModelError, DeviceError.
    """
    if not set(sizes) <= set(SIZES):
        raise ConfigError(f"--sizes must be of {SIZES}, got {sizes}")
    for name, values in (("--steps", steps), ("--faces", faces), ("--batches", batches)):
        if not values or min(values) < 1:
            raise ConfigError(f"{name} must be at least 1, got {values}")
    if frames < 2 or runs < 2:
        raise ConfigError(f"--frames and --runs must be at least 2, got {frames} and {runs}")
    points = [(Crowd(n, s, at, scale), k) for n, s, at, k in product(faces, sizes, inputs, steps)]
    for crowd, _ in points:
        crowd.pictures()  # what does not fit is refused before anything is measured
    from streamsr import Enhancer  # torch loads here, not for --help
    from streamsr.model.restorer import Restorer

    with Enhancer(weights, device=device, engine=engine) as enhancer:
        if on_device and enhancer.device == "cpu":
            raise ConfigError("--on-device is for a GPU, and this runs on the CPU")
        _ready(enhancer, engine)
        rows = [_frame_row(enhancer, engine, crowd, k, frames, on_device) for crowd, k in points]
        crops = {size: _crop(enhancer, size) for size in sizes}
        head: dict[str, Any] = {"device": enhancer.device, "model_sha256": enhancer.model_sha256}
        head |= {"scale": scale, "on_device": on_device}
    restorer = Restorer.load(weights, device=device, engine=engine)
    try:
        network = []
        for size, batch, k in product(sizes, batches, steps):
            _ready_for(restorer, engine, [crops[size]] * batch)
            network.append(network_row(restorer, crops[size], batch, k, runs))
        head |= {"precision": restorer.precision, "network": network}
    finally:
        restorer.close()
    return head, rows


def until_it_serves(model: Enhancer | Restorer, engine: str, ask: Callable[[], object]) -> None:
    """If ``engine`` is compiled: ``ask`` for what it is to evaluate until it does, or says why not."""
    if engine not in COMPILED:
        return
    ask()
    while model.engine != engine and not model.warnings:
        time.sleep(ASK_S)
        ask()


def _ready(enhancer: Enhancer, engine: str) -> None:
    """For a single face of either S, of which an enhancer asks as it begins."""
    if engine not in COMPILED:
        return
    with ExitStack() as sessions:
        streams = [_stream(enhancer, Crowd(1, size, INPUT_PX, 2), 1, False) for size in SIZES]
        for session, _ in streams:
            sessions.callback(session.close)
        until_it_serves(enhancer, engine, lambda: [_shown(*each) for each in streams])


def _ready_for(restorer: Restorer, engine: str, crops: Sequence[Any]) -> None:
    until_it_serves(restorer, engine, lambda: restorer.restore(crops, restorer.guide(crops)))


def _stream(enhancer: Enhancer, crowd: Crowd, steps: int, on_device: bool) -> tuple[Session, Iterator[Frame]]:
    """A session that looks for as many faces as there are, and its frames."""
    from streamsr.face.tracker import MediaPipeTracker

    tracker = MediaPipeTracker(max_faces=crowd.faces)
    session = enhancer.session(scale=crowd.scale, steps=steps, tracker=tracker)
    pictures = map(_on_device, crowd.pictures()) if on_device else crowd.pictures()
    return session, map(_frame, pictures, count())


def _shown(session: Session, frames: Iterator[Frame]) -> FrameReport:
    """Of the next frame."""
    return session.composite(session.restore(session.track(next(frames))))[1]


def _frame_row(
    enhancer: Enhancer, engine: str, crowd: Crowd, steps: int, frames: int, on_device: bool
) -> dict[str, Any]:
    session, stream = _stream(enhancer, crowd, steps, on_device)
    taken: dict[str, list[float]] = {}
    reports: list[FrameReport] = []
    try:
        for frame in islice(stream, SEARCH):
            if len(session.track(frame).faces) == crowd.faces:
                break
        until_it_serves(enhancer, engine, lambda: _shown(session, stream))
        for index in range(WARM_UP + frames):
            frame = next(stream)
            began = time.perf_counter()
            _, report = session.composite(session.restore(session.track(frame)))
            whole_ms = (time.perf_counter() - began) * 1e3
            if index < WARM_UP:
                continue
            for name, ms in {**report.stage_ms, "frame": whole_ms}.items():
                taken.setdefault(name, []).append(ms)
            reports.append(report)
    finally:
        session.close()
    seen_faces = [face for report in reports for face in report.faces]
    row: dict[str, Any] = {
        "size": crowd.size,
        "steps": steps,
        "faces": crowd.faces,
        "input_px": "x".join(map(str, crowd.input_px)),
        "engine": enhancer.engine,
        "n": frames,
        "restored_share": sum(face.nfe > 0 for face in seen_faces) / max(1, len(seen_faces)),
        "faces_seen": len(seen_faces) / frames,
        "sizes_seen": dict(Counter(face.size_px for face in seen_faces)),
        "nfe": sum(face.nfe for face in seen_faces) / max(1, len(seen_faces)),
    }
    for name, values in taken.items():
        row |= percentiles(values, name)
    return row


def _on_device(picture: np.ndarray) -> Any:
    import torch

    there = torch.from_numpy(picture).to("cuda")
    torch.cuda.synchronize()
    return there


def _frame(picture: Any, index: int) -> Frame:
    return Frame(picture, index, Fraction(1, 25), 0, index, discontinuity=index == 0)


def _crop(enhancer: Enhancer, size: int) -> Any:
    """Of a face as ``crowd`` shows it, of the kind that sessions cut. Raises ConfigError if there is none."""
    session = enhancer.session(scale=2)
    try:
        for frame in map(_frame, Crowd(1, size, INPUT_PX, 2).pictures(), range(WARM_UP)):
            for face in session.track(frame).faces:
                if face.crop is not None:
                    return face.crop
    finally:
        session.close()
    raise ConfigError("no face was found in the packaged sample")


def main(argv: Sequence[str] | None = None) -> int:
    """See command.answer."""
    words = parser("latency", __doc__)
    add = words.add_argument
    add_list(words, "--sizes", int, SIZES, "S of the faces, of 256, 512")
    add_list(words, "--steps", int, STEPS, "network evaluations a face")
    add_list(words, "--faces", int, (1,), "in a picture")
    add_list(words, "--inputs", px, (INPUT_PX,), "pictures, WIDTHxHEIGHT", "WIDTHxHEIGHT")
    add_list(words, "--batches", int, BATCHES, "crops in one call of the network")
    add("--scale", type=int, choices=(1, 2, 4, 8), default=2)
    add("--frames", type=int, default=FRAMES, help="measured for each row of frames")
    add("--runs", type=int, default=RUNS, help="of each row of the network")
    add("--on-device", action="store_true", help="pictures lie on the GPU before, and stay there")
    add_device(words)
    add_engine(words)
    add_weights(words)
    return answer(words, argv, run, COLUMNS, more={"network": NETWORK_COLUMNS}, plots=latency_plots)


if __name__ == "__main__":
    sys.exit(main())
