"""Which faces are left alone: sharp stills at scale 1 ought to be, ordinary calls at scale 2 never.

    streamsr bench bypass --data DIR [--frames 28]

Views of every held-out 512-px still, each through a session of its own: "sharp x1" as it is; "clean
x2" reduced by block averages; "call x2" the same, coded as in ``bench quality``. missing_share: the
guide's missing over present high-band energy, against which the bypass decides; identical: outputs
equal to their input bit for bit (scale 1).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .command import add_data, add_device, answer, parser
from .luma import area_down
from .stills import aligned_stills, coded_face, read_still

__all__ = ["main", "run"]

SIZE_PX = 512
COLUMNS = (
    "view",
    "n",
    "bypassed",
    "identical",
    "missing_share_min",
    "missing_share_p50",
    "missing_share_max",
)


def run(data: Path, frames: int = 28, device: str = "auto") -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns what all rows share, and the rows. Raises ConfigError, ModelError."""
    from streamsr.enhancer import Enhancer  # torch loads here, not for --help

    enhancer = Enhancer(device=device)
    stills = [path for _, path, side in aligned_stills(data) if side >= SIZE_PX][:frames]
    views: dict[str, list[tuple[bool, bool, float]]] = {"sharp x1": [], "clean x2": [], "call x2": []}
    for path in stills:
        sharp = read_still(path, SIZE_PX)
        half = area_down(sharp, 2)
        for view, camera in (("sharp x1", sharp), ("clean x2", half), ("call x2", coded_face(half))):
            session = enhancer.session(scale=1 if camera is sharp else 2)
            out, report = session.process(camera)
            session.close()
            for face in report.faces[:1]:
                if face.missing_share is not None:
                    same = np.array_equal(out, camera)
                    views[view].append((face.outcome == "bypassed", same, face.missing_share))
    rows = []
    for view, seen in views.items():
        bypassed, identical, shares = (np.array(column) for column in zip(*seen, strict=True))
        rows.append(
            {
                "view": view,
                "n": len(seen),
                "bypassed": int(bypassed.sum()),
                "identical": int(identical.sum()),
                "missing_share_min": float(shares.min()),
                "missing_share_p50": float(np.median(shares)),
                "missing_share_max": float(shares.max()),
            }
        )
    return {"device": enhancer.device, "model_sha256": enhancer.model_sha256}, rows


def main(argv: Sequence[str] | None = None) -> int:
    """See command.answer."""
    words = parser("bypass", __doc__)
    add_data(words, "faces.csv and faces/")
    words.add_argument("--frames", type=int, default=28, help="most stills")
    add_device(words)
    return answer(words, argv, run, COLUMNS)


if __name__ == "__main__":
    sys.exit(main())
