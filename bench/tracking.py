"""How steady and how late the tracker's alignment is, and what a frame of tracking costs.

    streamsr bench tracking --data DIR [--frames 250]

DIR holds clips/*.mp4. Each clip is tracked as it is, as a call gives it at half size (x264, CRF 30)
and as a poor camera does at a quarter (noise, CRF 33). Three rows each: the measured alignment
("raw"), a One Euro filter on it, and the tracker's own. All figures are of the largest face and in px
of the 512-px template, so that clips compare.

jitter: rms second difference over sqrt(6) (the deviation of white noise) where the face is still.
lag: the shift, in frames, that best matches the motion to the truth; truth is the undegraded
clip's raw track, smoothed over time without delay. error: rms distance from the truth where the
face moves most. cost: CPU time of the tracking call in ms, all threads; wall_ms: by the clock.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streamsr.errors import ConfigError
from streamsr.face.alignment import similarity
from streamsr.face.landmarks import five_points
from streamsr.face.smoothing import pose
from streamsr.face.tracker import MediaPipeTracker, TrackedFace

from .clips import degrade, read_clip
from .command import add_data, answer, parser

__all__ = ["main", "one_euro", "run"]

VIEWS = (("as it is", None, 1), ("call", "call", 2), ("cctv", "cctv", 4))
COLUMNS = (
    "clip", "view", "filter", "frames", "tracked", "identities", "native_px", "jitter_px", "lag_frames",
    "error_px", "first_ms", "cost_p50_ms", "cost_mean_ms", "cost_p95_ms", "wall_p50_ms",
)  # fmt: skip
LEVER_PX = 128.0  # a change of log size or angle moves the face's points by about this many template px
STILL_PX, BUSY_SHARE = 0.5, 0.2  # template px a frame; share of frames that count as moving most
LAGS = np.linspace(-2, 4, 121)


def run(data: Path, frames: int = 250) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns what all rows share, and the rows. Raises ConfigError, SourceError."""
    clips = sorted((data / "clips").glob("*.mp4"))
    if not clips:
        raise ConfigError(f"no clips/*.mp4 under {data}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for clip in clips:
            truth = None
            for view, condition, scale in VIEWS:
                source = clip
                if condition is not None:
                    source = degrade(clip, condition, scale, Path(folder), frames).camera
                seen = _Seen(picture.image for picture in read_clip(source, frames))
                raw = _path(seen.poses, scale)
                truth = smoothed(raw, 1.5) if truth is None else truth
                filters = {"raw": raw, "one_euro": one_euro(raw), "ours": _path(seen.steady, scale)}
                for name, path in filters.items():
                    about = {"clip": clip.stem, "view": view, "filter": name, "frames": len(seen.found)}
                    rows.append({**about, **_figures(path, truth, seen), **seen.costs()})
    return {"device": "cpu"}, rows


class _Seen:
    """What the tracker made of some pictures. poses, steady: (T, 4); found: (T,) bool."""

    def __init__(self, images: Iterable[np.ndarray]) -> None:
        tracker = MediaPipeTracker()
        self.ids: set[int] = set()
        self.cpu_ms: list[float] = []
        self.wall_ms: list[float] = []
        measured, steady, found = [], [], []
        for index, image in enumerate(images):
            cpu, wall = time.process_time(), time.perf_counter()
            faces = tracker.track(image, index / 30)
            self.wall_ms.append((time.perf_counter() - wall) * 1e3)
            self.cpu_ms.append((time.process_time() - cpu) * 1e3)
            self.ids |= {face.track_id for face in faces}
            found.append(bool(faces))
            if faces:
                face = max(faces, key=_area)
                measured.append(pose(similarity(five_points(face.landmarks))))
                steady.append(pose(face.matrix))
            else:  # hold
                measured.append(measured[-1] if measured else np.zeros(4))
                steady.append(steady[-1] if steady else np.zeros(4))
        tracker.close()
        self.poses, self.steady, self.found = np.array(measured), np.array(steady), np.array(found)

    def costs(self) -> dict[str, float]:
        later = self.cpu_ms[1:]
        return {
            "first_ms": self.cpu_ms[0],
            "cost_p50_ms": float(np.median(later)),
            "cost_mean_ms": float(np.mean(later)),
            "cost_p95_ms": float(np.percentile(later, 95)),
            "wall_p50_ms": float(np.median(self.wall_ms[1:])),
        }


def _area(face: TrackedFace) -> int:
    return face.roi_px[2] * face.roi_px[3]


def _path(poses: np.ndarray, scale: int) -> np.ndarray:
    """(T, 4) poses in px of a picture reduced ``scale`` times, in template px of the whole one."""
    poses = poses.copy()
    poses[:, :2] = (poses[:, :2] + 0.5) * scale - 0.5
    poses[:, 2] += np.log(scale)
    poses[:, 3] = np.unwrap(poses[:, 3])
    side = float(np.exp(np.median(poses[:, 2])))
    return poses * np.array([512 / side, 512 / side, LEVER_PX, LEVER_PX])


def smoothed(path: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian over time, without delay."""
    reach = int(4 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    padded = np.pad(path, ((reach, reach), (0, 0)), mode="reflect")
    columns = [np.convolve(padded[:, i], kernel / kernel.sum(), "valid") for i in range(path.shape[1])]
    return np.stack(columns, 1)


def one_euro(path: np.ndarray, cutoff_hz: float = 2.0, beta: float = 0.1, rate: float = 30.0) -> np.ndarray:
    """Casiez, Roussel, Vogel 2012: a low-pass whose cut-off rises with speed. The usual choice."""

    def gain(hz: np.ndarray | float) -> np.ndarray | float:
        return 1 / (1 + rate / (2 * np.pi * np.asarray(hz)))

    out, speed = [path[0]], np.zeros(path.shape[1])
    for value in path[1:]:
        speed = speed + gain(1.0) * ((value - out[-1]) * rate - speed)
        out.append(out[-1] + gain(cutoff_hz + beta * np.abs(speed)) * (value - out[-1]))
    return np.array(out)


def _figures(path: np.ndarray, truth: np.ndarray, seen: _Seen) -> dict[str, Any]:
    length = min(len(path), len(truth))
    path, truth = path[:length], truth[:length]
    speed = np.abs(np.gradient(smoothed(truth, 3.0), axis=0))[:, :2].max(1)
    still, busy = speed < STILL_PX, speed >= np.quantile(speed, 1 - BUSY_SHARE)
    shake = np.diff(path, 2, axis=0)[still[1:-1]]
    offset = np.median(path - truth, axis=0)  # what a smaller picture shifts for good is no error in time
    return {
        "tracked": float(seen.found.mean()),
        "identities": len(seen.ids),
        "native_px": float(np.exp(np.median(seen.poses[:, 2]))),
        "jitter_px": float(np.sqrt((shake**2).mean() / 6)) if len(shake) else float("nan"),
        "lag_frames": _lag(path, truth),
        "error_px": float(np.sqrt(((path - truth - offset)[busy] ** 2).mean())),
    }


def _lag(path: np.ndarray, truth: np.ndarray) -> float:
    """The delay of ``truth`` that leaves the least between the velocities of the two."""
    moving, frames = np.diff(path, axis=0), np.arange(len(truth) - 1)
    expected = np.diff(truth, axis=0)
    misses = []
    for lag in LAGS:
        moved = np.stack([np.interp(frames - lag, frames, expected[:, i]) for i in range(4)], 1)
        misses.append(float(((moved - moving)[4:-4] ** 2).sum()))
    return float(LAGS[int(np.argmin(misses))])


def main(argv: Sequence[str] | None = None) -> int:
    """See command.answer."""
    words = parser("tracking", __doc__)
    add_data(words, "clips/*.mp4")
    words.add_argument("--frames", type=int, default=250, help="at most so many of each clip")
    return answer(words, argv, run, COLUMNS)


if __name__ == "__main__":
    sys.exit(main())
