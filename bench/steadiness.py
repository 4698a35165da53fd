"""What it is worth to hold a face's fine detail steady, and to reuse it without the network, on real clips.

    streamsr bench steadiness --data DIR [--clips talk_a] [--conditions clean,call] [--kept 0,0.6]
                              [--every 1,2,5] [--largest 256,512]

kept: how much of the frame before is mixed in, see ``streamsr.face.steadiness``; 0 is the network alone.
every: frames, of which the first is restored and the others are given its detail, as on a machine without the
time for more. largest: S that no crop exceeds.
Figures are of the face; warp_ratio: what the output differs from its own last frame along the motion of the
clean clip, over what the clean clip itself does.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from streamsr.face.steadiness import KEPT
from streamsr.frame import Frame
from streamsr.report import Outcome
from streamsr.session_options import DEFAULT_FIDELITY

from .clip_quality import measure_change
from .clips import CLIPS, COLOURED, CONDITIONS, DegradedClip, add_clips, chosen, clip_path, degrade
from .command import add_list, answer, parser
from .face_truth import FaceTruth, face_box, face_region, face_tracks
from .tally import Tally, fidelity_measures, means_over_clips

__all__ = ["main", "run"]

FRAMES = 24
TRIED = (0.0, 0.3, KEPT, 0.8)
MEASURES = ("psnr_y", "haarpsi", "hf_ratio", "warp_ratio", "tof_px", "flicker")
WAYS = ("kept", "every", "largest")
COLUMNS = ("clip", "condition", *WAYS, *MEASURES, "restored_share", "n")


class _Stopped:
    """A clock that stands: what is due a nanosecond later has time for nothing but the cache."""

    def now_ns(self) -> int:
        return 0


def run(
    data: Path,
    clips: Sequence[str] = CLIPS,
    conditions: Sequence[str] = COLOURED,
    scale: int = 4,
    frames: int = FRAMES,
    fidelity: float = DEFAULT_FIDELITY,
    kept: Sequence[float] = TRIED,
    every: Sequence[int] = (1,),
    largest: Sequence[int] = (512,),
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns what all rows share, and a row for each clip, condition and way; then their means.

    Raises ConfigError, SourceError, ModelError.
    """
    from streamsr.model.restorer import Restorer

    conditions = chosen(conditions, "conditions", CONDITIONS)
    paths = [clip_path(data, name) for name in clips]
    restorer = Restorer.load(device="cpu")
    rows = []
    try:
        with tempfile.TemporaryDirectory() as temporary:
            for path in paths:
                faces = face_tracks(path, scale, frames, Path(temporary))
                for condition in conditions:
                    degraded = degrade(path, condition, scale, Path(temporary), frames)
                    for way in product(kept, every, largest):
                        figures = _figures(restorer, degraded, faces, fidelity, *way)
                        named = dict(zip(WAYS, way, strict=True))
                        rows.append({"clip": path.stem, "condition": condition, **named, **figures})
    finally:
        restorer.close()
    head = {"device": "cpu", "model_sha256": restorer.sha256, "scale": scale, "fidelity": fidelity}
    return head, rows + means_over_clips(rows, "condition", *WAYS)


def _figures(
    restorer: Any,
    degraded: DegradedClip,
    faces: list[list[FaceTruth]],
    fidelity: float,
    kept: float,
    every: int,
    largest: int,
) -> dict[str, float]:
    from streamsr.face.tracker import MediaPipeTracker
    from streamsr.pictures import HostPictures
    from streamsr.session import Session

    pictures = HostPictures(degraded.scale, kept)
    session = Session(
        restorer,
        scale=degraded.scale,
        fidelity=fidelity,
        steps="auto",
        seed=0,
        tracker=MediaPipeTracker(),
        clock=_Stopped(),
        pictures=pictures,
    )
    session.largest_size = largest
    tally, before, outcomes = Tally(), dict[str, np.ndarray](), Counter[Outcome]()
    for index, (truth, camera) in enumerate(degraded.pairs()):
        frame = Frame(camera.image, camera.pts, camera.time_base, 0, index, discontinuity=index == 0)
        restored = session.restore(session.track(frame), None if index % every == 0 else 1)
        session.largest_size = largest  # which a live stream sees to by itself
        out, report = session.composite(restored)
        outcomes.update(face.outcome for face in report.faces)
        now = {"truth": truth.image, "output": out.image}
        region = face_region(faces[index], truth.image.shape)
        if region.any():
            box = face_box(region)
            tally.add(("output",), fidelity_measures(now["output"][box], truth.image[box], region[box]))
            if before:
                measure_change(before, now, box, region, tally)
        before = now
    session.close()
    found = tally.means(("output",))
    found["warp_ratio"] = found["warp"] / tally.means(("truth",))["warp"]
    found["restored_share"] = outcomes[Outcome.RESTORED] / max(1, outcomes.total())
    return {name: found[name] for name in (*MEASURES, "restored_share")} | {"n": degraded.frames}


def main(argv: Sequence[str] | None = None) -> int:
    """See command.answer."""
    words = parser("steadiness", "A face's fine detail held steady, and reused without the network.")
    add_clips(words, scale=4, frames=FRAMES)
    words.add_argument("--fidelity", type=float, default=DEFAULT_FIDELITY)
    add_list(words, "--kept", float, TRIED, "shares in [0, 1)")
    add_list(words, "--every", int, (1,), "frames of which one is restored")
    add_list(words, "--largest", int, (512,), "S that no crop exceeds, of 256 and 512")
    return answer(words, argv, run, COLUMNS)


if __name__ == "__main__":
    sys.exit(main())
