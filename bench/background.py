"""What the picture around the faces gains by its back-projection, by strength and noise, on real clips.

    streamsr bench background --data DIR [--clips talk_a,talk_b] [--conditions clean,call,cctv] [--scale 2]

PSNR-Y of the whole picture over plain bicubic, no face restored. A column is named by strength and noise;
``own`` are the product's.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from streamsr.face.background import NOISE, STRENGTH, Background, upscale

from .clips import CLIPS, COLOURED, CONDITIONS, add_clips, chosen, clip_path, degrade
from .command import answer, parser
from .fidelity import psnr_y
from .tally import Tally, means_over_clips

__all__ = ["main", "run"]

FRAMES = 12
TRIED = ((0.6, 0.0), (1.2, 0.0), (0.6, 2.0), (1.2, 1.0), (1.2, 4.0), (1.8, 2.0))
KINDS = {f"{strength:g}_{noise:g}": (strength, noise) for strength, noise in TRIED}
KINDS["own"] = (STRENGTH, NOISE)
COLUMNS = ("clip", "condition", "bicubic_psnr_y", *KINDS)


def run(
    data: Path,
    clips: Sequence[str] = CLIPS,
    conditions: Sequence[str] = COLOURED,
    scale: int = 2,
    frames: int = FRAMES,
    work: Path | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns what all rows share, and a row for each clip and condition: gain in dB by kind.

    Raises ConfigError, SourceError.
    """
    conditions = chosen(conditions, "conditions", CONDITIONS)
    paths = [clip_path(data, name) for name in clips]
    backgrounds = {name: Background(scale, *kind) for name, kind in KINDS.items()}
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for path in paths:
            for condition in conditions:
                degraded = degrade(path, condition, scale, work or Path(temporary), frames)
                tally = Tally()
                for truth, camera in degraded.pairs():
                    plain = psnr_y(upscale(camera.image, scale), truth.image)
                    gains = {
                        name: psnr_y(each.enlarge(camera.image), truth.image) - plain
                        for name, each in backgrounds.items()
                    }
                    tally.add((), {"bicubic_psnr_y": plain, **gains})
                rows.append({"clip": path.stem, "condition": condition, **tally.means(())})
    return {"scale": scale}, rows + means_over_clips(rows, "condition")


def main(argv: Sequence[str] | None = None) -> int:
    """See command.answer."""
    words = parser("background", "The picture around the faces, by the strength of its back-projection.")
    add_clips(words, scale=2, frames=FRAMES)
    words.add_argument("--work", type=Path, help="keep the degraded files here")
    return answer(words, argv, run, COLUMNS)


if __name__ == "__main__":
    sys.exit(main())
