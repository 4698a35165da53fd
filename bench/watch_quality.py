"""What ``streamsr watch`` makes of a camera's clip, against what ``streamsr enhance`` makes of the same file.

    streamsr bench watch_quality --data DIR [--clips talk_a] [--conditions cctv,infrared] [--frames 24]

The camera shows the degraded clip over and over, so slowly that nothing has to be left out; of its output
the round counts that began after the model process was ready. Both outputs are H.264 files of equal quality.
Figures are of the face, against the clean clip; identity: the distance of dlib's embedding.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from streamsr.errors import StreamSRError
from streamsr.face.alignment import native_side
from streamsr.watch.status import WatchStatus

from .clips import CLIPS, CONDITIONS, DegradedClip, chosen, clip_path, degrade, read_clip
from .command import add_data, add_list, answer, parser
from .entrants import Entrants
from .face_truth import face_box, face_region, face_tracks
from .fidelity import psnr_y
from .identity import embedder_if_installed
from .tally import Tally, add_gain
from .watch_process import watching

__all__ = ["main", "run"]

SCALE, RATE = 4, 5  # pictures a second
FIDELITY = 1.0
IDENTITY_EVERY = 4  # frames
COLUMNS = ("clip", "condition", "method", "face_psnr_y", "face_gain_db", "identity", "n")


def run(
    data: Path,
    clips: Sequence[str] = CLIPS[:1],
    conditions: Sequence[str] = ("cctv", "infrared"),
    frames: int = 24,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns (what the rows share, rows). Raises ConfigError, SourceError, StreamSRError."""
    from streamsr import Enhancer

    chosen(conditions, "--conditions", CONDITIONS)
    paths = [clip_path(data, name) for name in clips]
    rows: list[dict[str, Any]] = []
    with Enhancer() as enhancer:
        entrants = Entrants(data, enhancer)
        for path in paths:
            for condition in conditions:
                with tempfile.TemporaryDirectory() as folder:
                    degraded = degrade(path, condition, SCALE, Path(folder), frames)
                    rows += _compared(degraded, entrants, Path(folder))
        return {"device": enhancer.device, "scale": SCALE, "fidelity": FIDELITY}, rows


def _compared(degraded: DegradedClip, entrants: Entrants, folder: Path) -> list[dict[str, Any]]:
    slow = folder / "slow.mkv"
    _slowed(degraded.camera, slow)
    outputs = {"enhance": _enhanced(slow, folder, entrants), "watch": _watched(slow, folder, degraded.frames)}
    faces = face_tracks(degraded.clean, SCALE, degraded.frames, folder)
    embedder, tally = embedder_if_installed(), Tally()
    for index, (truth, camera) in enumerate(degraded.pairs()):
        region = face_region(faces[index], truth.image.shape)
        if not region.any():
            continue
        box = face_box(region)
        pictures = {"bicubic": entrants.enlarged(camera.image, SCALE, faces[index])["bicubic"]}
        pictures |= {name: found[index] for name, found in outputs.items()}
        for name, picture in pictures.items():
            tally.add((name,), {"face_psnr_y": psnr_y(picture[box], truth.image[box], region[box])})
            if embedder is not None and index % IDENTITY_EVERY == 0:
                matrix = max(faces[index], key=lambda face: native_side(face.matrix)).matrix
                place = embedder.locate(truth.image, matrix)
                tally.add((name,), {"identity": embedder.distance(picture, truth.image, place)})
    rows = [
        {
            "clip": degraded.clean.stem,
            "condition": degraded.condition,
            "method": method,
            **tally.means((method,)),
        }
        | {"n": tally.count((method,))}
        for method in ("bicubic", *outputs)
    ]
    return add_gain(rows)


def _slowed(source: Path, target: Path) -> None:
    """The same packets, RATE pictures a second."""
    with av.open(str(source)) as reading, av.open(str(target), "w") as writing:
        stream = writing.add_stream_from_template(reading.streams.video[0])
        for index, packet in enumerate(reading.demux(video=0)):
            if packet.size:
                packet.stream, packet.time_base = stream, Fraction(1, 1000)
                packet.pts = packet.dts = index * 1000 // RATE
                packet.duration = 1000 // RATE
                writing.mux(packet)


def _enhanced(slow: Path, folder: Path, entrants: Entrants) -> list[np.ndarray]:
    from streamsr.loop import run as run_loop
    from streamsr.pipeline import Pipeline

    out = folder / "enhance.mkv"
    assert entrants.enhancer is not None

    async def enhance() -> None:
        options = {"scale": SCALE, "fidelity": FIDELITY}
        async with Pipeline(str(slow), str(out), entrants.enhancer, **options) as pipeline:  # type: ignore[arg-type]
            await pipeline.run()

    run_loop(enhance())
    return [picture.image for picture in read_clip(out)]


def _watched(slow: Path, folder: Path, frames: int) -> list[np.ndarray]:
    """The last whole round of the camera's output, by its pts. Raises StreamSRError if it has gaps."""
    table = (
        f'[[camera]]\nname = "camera"\nurl = "{slow.name}"\nloop = true\nsink = "watch.mkv"\n'
        f"scale = {SCALE}\nfidelity = {FIDELITY}\nbudget_ms = 5000\n"
    )
    with watching(table, folder) as watch:
        watch.until(_ready)
        time.sleep(2 * frames / RATE + 1)  # the round under way, and a whole one
    rounds: list[list[np.ndarray]] = []
    for index, image in _numbered(folder / "watch.mkv"):
        if index % frames == 0:
            rounds.append([])
        if rounds and len(rounds[-1]) == index % frames:
            rounds[-1].append(image)
    whole = [pictures for pictures in rounds if len(pictures) == frames]
    if not whole:
        raise StreamSRError(f"no round of {frames} pictures without a gap came out")
    return whole[-1]


def _numbered(path: Path) -> Iterator[tuple[int, np.ndarray]]:
    for picture in read_clip(path):
        yield round(picture.pts * picture.time_base * RATE), picture.image


def _ready(status: WatchStatus) -> bool:
    return status.model.state == "ready" and status.cameras[0].rungs.get("restored", 0) > 0


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 after one line that says what is wrong."""
    words = parser("watch_quality", __doc__)
    add_data(words, "clips/")
    add_list(words, "--clips", str, CLIPS[:1], "names in DATA/clips, or paths")
    add_list(words, "--conditions", str, ("cctv", "infrared"), f"of {', '.join(CONDITIONS)}")
    words.add_argument("--frames", type=int, default=24, help="of each clip")
    return answer(words, argv, run, COLUMNS)


if __name__ == "__main__":
    sys.exit(main())
