"""What it is worth to hold a face's fine detail steady from frame to frame, on real clips.

    streamsr bench steadiness --data DIR [--clips talk_a] [--conditions clean,call] [--kept 0,0.6]

kept: how much of the frame before is mixed in, see ``streamsr.face.steadiness``; 0 is the network alone.
Figures are of the face; warp_ratio: what the output differs from its own last frame along the motion of the
clean clip, over what the clean clip itself does.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from streamsr.face.steadiness import KEPT
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
COLUMNS = ("clip", "condition", "kept", *MEASURES, "n")


def run(
    data: Path,
    clips: Sequence[str] = CLIPS,
    conditions: Sequence[str] = COLOURED,
    scale: int = 4,
    frames: int = FRAMES,
    fidelity: float = DEFAULT_FIDELITY,
    kept: Sequence[float] = TRIED,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns what all rows share, and a row for each clip, condition and ``kept``; then their means.

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
                    for share in kept:
                        figures = _figures(restorer, degraded, faces, fidelity, share)
                        rows.append({"clip": path.stem, "condition": condition, "kept": share, **figures})
    finally:
        restorer.close()
    head = {"device": "cpu", "model_sha256": restorer.sha256, "scale": scale, "fidelity": fidelity}
    return head, rows + means_over_clips(rows, "condition", "kept")


def _figures(
    restorer: Any, degraded: DegradedClip, faces: list[list[FaceTruth]], fidelity: float, kept: float
) -> dict[str, float]:
    from streamsr.clock import MONOTONIC
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
        clock=MONOTONIC,
        pictures=pictures,
    )
    tally, before = Tally(), dict[str, np.ndarray]()
    for index, (truth, camera) in enumerate(degraded.pairs()):
        now = {"truth": truth.image, "output": session.process(camera.image)[0]}
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
    return {name: found[name] for name in MEASURES} | {"n": degraded.frames}


def main(argv: Sequence[str] | None = None) -> int:
    """See command.answer."""
    words = parser("steadiness", "A face's fine detail held steady, by how much of the last frame is kept.")
    add_clips(words, scale=4, frames=FRAMES)
    words.add_argument("--fidelity", type=float, default=DEFAULT_FIDELITY)
    add_list(words, "--kept", float, TRIED, "shares in [0, 1)")
    return answer(words, argv, run, COLUMNS)


if __name__ == "__main__":
    sys.exit(main())
