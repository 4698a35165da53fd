"""How far the camera's own pixels should be trusted: the projection at several gammas, on real clips.

    streamsr bench gamma --data DIR [--clips talk_a,talk_b] [--conditions clean,call,cctv] [--scale 4]

FLAIR's Fig. 7 on moving pictures: PSNR-Y over bicubic in the face, for gamma from 0 (no projection) to 1
(the camera's pixels, exactly), and for the product's own, with what the guide read that it comes from.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from streamsr.face.background import upscale
from streamsr.frame import Frame

from .clips import CLIPS, COLOURED, CONDITIONS, add_clips, chosen, clip_path, degrade
from .command import add_weights, answer, parser
from .face_truth import face_region, face_tracks
from .fidelity import psnr_y
from .tally import Tally, means_over_clips

__all__ = ["main", "run"]

FRAMES = 12
GAMMAS = (0.0, 0.25, 0.5, 0.75, 1.0)
COLUMNS = ("clip", "condition", *(f"gamma_{g:g}" for g in GAMMAS), "own", "own_gamma")


def run(
    data: Path,
    clips: Sequence[str] = CLIPS,
    conditions: Sequence[str] = COLOURED,
    scale: int = 4,
    frames: int = FRAMES,
    weights: Path | None = None,
    work: Path | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns what all rows share, and a row for each clip and condition: gain in dB by gamma.

    Raises ConfigError, SourceError, ModelError.
    """
    conditions = chosen(conditions, "conditions", CONDITIONS)
    paths = [clip_path(data, name) for name in clips]
    from streamsr import Enhancer  # torch loads here, not for --help

    enhancer, rows = Enhancer(weights, device="cpu"), []
    with tempfile.TemporaryDirectory() as temporary:
        folder = work or Path(temporary)
        for path in paths:
            faces = face_tracks(path, scale, frames, folder)
            for condition in conditions:
                degraded = degrade(path, condition, scale, folder, frames)
                tally, session = Tally(), enhancer.session(scale=scale, fidelity=1.0)
                for index, (truth, camera) in enumerate(degraded.pairs()):
                    region = face_region(faces[index], truth.image.shape)
                    frame = Frame(camera.image, index, Fraction(1, 25), 0, index, discontinuity=index == 0)
                    restored = session.restore(session.track(frame))
                    if not region.any() or not restored.details:
                        continue
                    plain = psnr_y(upscale(camera.image, scale), truth.image, region)
                    own = restored.details[0].gamma
                    for column, gamma in [*((f"gamma_{g:g}", g) for g in GAMMAS), ("own", None)]:
                        details = restored.details
                        if gamma is not None:
                            details = tuple(replace(each, gamma=gamma) for each in details)
                        out, _ = session.composite(replace(restored, details=details))
                        gain = psnr_y(out.image, truth.image, region) - plain
                        tally.add((), {column: gain, "own_gamma": own})
                session.close()
                rows.append({"clip": path.stem, "condition": condition, **tally.means(())})
    enhancer.close()
    return {"device": "cpu", "scale": scale}, rows + means_over_clips(rows, "condition")


def main(argv: Sequence[str] | None = None) -> int:
    """See command.answer."""
    words = parser("gamma", "The projection onto the camera's pixels, by its strength.")
    add_clips(words, scale=4, frames=FRAMES)
    add_weights(words)
    words.add_argument("--work", type=Path, help="keep the degraded files here")
    return answer(words, argv, run, COLUMNS)


if __name__ == "__main__":
    sys.exit(main())
