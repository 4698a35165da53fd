"""How many cameras ``streamsr watch`` takes: what becomes of their frames and faces.

    streamsr bench watch --data DIR [--cameras 4] [--rate 10] [--with-face 2] [--seconds 30]

Cameras are files of 640x360 pictures, x264-coded, shown at their own pace over and over; those with a face
show a real one in motion, the others the same picture without anybody to be seen, which moves too. Outputs
are 1280x720 files, encoded in the run. All processes are real and start as they would. Counted is what
happens in ``seconds`` after every camera streams, the model process is ready and warm-up is over.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from streamsr.errors import ConfigError
from streamsr.machine import usable_cpus
from streamsr.report import Outcome
from streamsr.watch.status import CameraStatus, DeviceStatus, WatchStatus

from .call_clip import CRF, ONE, call_pictures
from .clips import Picture, clip_path, write_clip
from .command import add_data, answer, parser
from .watch_process import watching

__all__ = ["main", "run"]

CLIP_FRAMES = 150
WARM_UP_S = 5.0
BLUR_PX, NOISE = 24, 2.0  # of the picture without anybody: sigma; standard deviation in 1/255
COLUMNS = (
    "cameras", "with_face", "rate", "streaming", "fps_mean", "fps_least", "restored_share", "restored_px",
    "age_p50_ms", "age_p95_ms", "dropped_share", "busy_share", "refused", "cpu_share", "rss_mb",
)  # fmt: skip


def run(
    data: Path,
    cameras: int = 4,
    rate: int = 10,
    with_face: int | None = None,
    threads: int | None = None,
    seconds: float = 30.0,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns (what the row needs, the row). with_face: of the cameras; by default half.

    restored_share: of the face-frames that were due (neither sharp already nor too small), those that went
    through the network. ages are the worst camera's. Raises ConfigError, StreamSRError.
    """
    with_face = -(-cameras // 2) if with_face is None else with_face
    if not 0 <= with_face <= cameras or cameras < 1:
        raise ConfigError(f"--with-face must be in 0..--cameras, got {with_face} of {cameras}")
    if rate < 1 or not seconds > 0:
        raise ConfigError(f"--rate and --seconds must be above 0, got {rate} and {seconds:g}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = clip_path(data, ONE[0])
        write_clip(folder / "face.mkv", _retimed(clip, rate), Fraction(rate), CRF)
        write_clip(folder / "nobody.mkv", map(_nobody, _retimed(clip, rate)), Fraction(rate), CRF)
        tables = [
            f'[[camera]]\nname = "camera{k}"\nurl = "{"face" if k < with_face else "nobody"}.mkv"\n'
            f'loop = true\nsink = "out{k}.mp4"\n'
            for k in range(cameras)
        ]
        with watching("\n".join(tables), folder, threads) as watch:
            ready = watch.until(_ready)
            device = ready.model.device
            time.sleep(WARM_UP_S)
            begin, began_s = watch.status(), time.monotonic()
            time.sleep(seconds)
            end = watch.status()
            row = _row(begin, end, time.monotonic() - began_s)
    return {"device": device}, [{"cameras": cameras, "with_face": with_face, "rate": rate, **row}]


def _retimed(clip: Path, rate: int) -> Iterator[Picture]:
    for index, picture in enumerate(call_pictures([clip], CLIP_FRAMES)):
        yield Picture(picture.image, index, Fraction(1, rate))


def _nobody(picture: Picture) -> Picture:
    noise = np.random.default_rng(picture.pts).normal(0, NOISE, picture.image.shape)
    blurred = cv2.GaussianBlur(picture.image, (0, 0), BLUR_PX) + noise
    return Picture(np.clip(blurred, 0, 255).astype(np.uint8), picture.pts, picture.time_base)


def _ready(status: WatchStatus) -> bool:
    return status.model.state == "ready" and all(camera.state == "streaming" for camera in status.cameras)


def _row(begin: WatchStatus, end: WatchStatus, elapsed_s: float) -> dict[str, Any]:
    pairs = list(zip(begin.cameras, end.cameras, strict=True))
    fps = [(after.frames_out - before.frames_out) / elapsed_s for before, after in pairs]
    rungs = {
        outcome: sum(_rungs(after, outcome) - _rungs(before, outcome) for before, after in pairs)
        for outcome in Outcome
    }
    due = sum(rungs.values()) - rungs[Outcome.BYPASSED] - rungs[Outcome.TOO_SMALL]
    read = sum(after.frames_in - before.frames_in for before, after in pairs)
    dropped = sum(after.frames_dropped - before.frames_dropped for before, after in pairs)
    ages = [camera.age_ms for camera in end.cameras if camera.age_ms is not None]
    return {
        "streaming": sum(camera.state == "streaming" for camera in end.cameras),
        "restarts": sum(camera.restarts for camera in end.cameras) + end.model.restarts,
        "fps_mean": sum(fps) / len(fps),
        "fps_least": min(fps),
        "restored_share": rungs[Outcome.RESTORED] / due if due else None,
        "rungs": {outcome.value: count for outcome, count in rungs.items()},
        "restored_px": dict(sum((_restored_px(*pair) for pair in pairs), Counter())),
        "age_p50_ms": max((age.p50 for age in ages), default=None),
        "age_p95_ms": max((age.p95 for age in ages), default=None),
        "dropped_share": dropped / read if read else None,
        "busy_share": end.model.busy_share,
        "refused": end.model.refused - begin.model.refused,
        "cpu_share": (_cpu_s(end) - _cpu_s(begin)) / elapsed_s / usable_cpus(),
        "rss_mb": sum(part.rss_mb or 0.0 for part in _processes(end)),
        "seconds": elapsed_s,
    }


def _restored_px(before: CameraStatus, after: CameraStatus) -> Counter[int]:
    return Counter(after.restored_px) - Counter(before.restored_px)


def _rungs(camera: CameraStatus, outcome: Outcome) -> int:
    return camera.rungs.get(outcome.value, 0)


def _cpu_s(status: WatchStatus) -> float:
    return sum(part.cpu_s or 0.0 for part in _processes(status))


def _processes(status: WatchStatus) -> list[WatchStatus | DeviceStatus | CameraStatus]:
    return [status, status.model, *status.cameras]


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, or 2 after one line that says what is wrong."""
    words = parser("watch", __doc__)
    add_data(words, "clips/")
    add = words.add_argument
    add("--cameras", type=int, default=4)
    add("--rate", type=int, default=10, help="pictures a second of each camera")
    add("--with-face", type=int, help="cameras that show a face, by default half")
    add("--threads", type=int, help="of the model process, by default what it chooses")
    add("--seconds", type=float, default=30.0)
    return answer(words, argv, run, COLUMNS)


if __name__ == "__main__":
    sys.exit(main())
