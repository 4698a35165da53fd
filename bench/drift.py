"""Whether a face that is fed its own past wanders off: a thousand frames through one session.

    streamsr bench drift --data DIR [--frames 1000] [--weights FILE]

A real face as a call gives it (x264), once as one picture shown again and again and once as a second
of motion run forwards and backwards, at both sizes S. Every frame is compared with the one that showed
the same picture in the first pass to begin after ten frames. ll_drift: rms over the face's 4 x 4 blocks
of how far their means have moved, in 1/255, the largest of all frames; hf_ratio: energy of the high
bands over that frame's, smallest and largest.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from streamsr.errors import ConfigError

from .call_clip import write_call_clip
from .clips import read_clip
from .command import add_data, add_device, add_weights, answer, parser
from .fidelity import hf_ratio
from .luma import area_down

if TYPE_CHECKING:
    from streamsr.enhancer import Session

__all__ = ["Drift", "main", "measure", "run"]

FRAMES, LOOP, SETTLED = 1000, 25, 10
SCALE, BLOCK_PX = 2, 4
LL_MOST, HF_LEAST, HF_MOST = 0.5, 0.8, 1.2
COLUMNS = ("motion", "size_px", "n", "ll_drift", "hf_ratio_min", "hf_ratio_max", "steady")


class Drift(NamedTuple):
    """See the module; size_px: S."""

    size_px: int
    ll_drift: float
    hf_ratio_min: float
    hf_ratio_max: float

    @property
    def steady(self) -> bool:
        return self.ll_drift < LL_MOST and self.hf_ratio_min > HF_LEAST and self.hf_ratio_max < HF_MOST


def measure(session: Session, pictures: Sequence[np.ndarray], frames: int) -> Drift:
    """Through ``session``, ``pictures`` (H, W, 3) over and over. Raises ConfigError without a face."""
    period = len(pictures)
    begin = -(-SETTLED // period) * period
    if frames <= begin + period:
        raise ConfigError(f"frames must be more than {begin + period}, got {frames}")
    first: dict[int, tuple[tuple[slice, slice], np.ndarray]] = {}
    sizes, lows, highs = set(), [], []
    for index in range(frames):
        out, report = session.process(pictures[index % period])
        if not report.faces:
            raise ConfigError(f"no face found in frame {index}")
        sizes.add(report.faces[0].size_px)
        if index < begin:
            continue
        if index < begin + period:
            box = _inside(report.faces[0].roi_px, session.scale)
            first[index % period] = box, out[box]
        else:
            box, before = first[index % period]
            change = area_down(out[box].astype(np.float32), BLOCK_PX)
            change -= area_down(before.astype(np.float32), BLOCK_PX)
            lows.append(float(np.sqrt(np.square(change).mean())))
            highs.append(hf_ratio(out[box], before))
    if len(sizes) != 1:
        raise ConfigError(f"the face must keep its size S, it had {sorted(sizes)}")
    return Drift(sizes.pop(), max(lows), min(highs), max(highs))


def _inside(roi_px: tuple[int, int, int, int], scale: int) -> tuple[slice, slice]:
    """Rows and columns of a face in the output, of whole blocks."""
    x, y, width, height = (scale * v // BLOCK_PX * BLOCK_PX for v in roi_px)
    return slice(max(y, 0), y + height), slice(max(x, 0), x + width)


def run(
    data: Path, frames: int = FRAMES, weights: Path | None = None, device: str = "auto"
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns what all rows share, and the rows. Raises ConfigError, SourceError, ModelError."""
    from streamsr.enhancer import Enhancer  # torch loads here, not for --help

    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "call.mkv"
        write_call_clip(data, clip, faces=1, frames=LOOP)
        large = [picture.image for picture in read_clip(clip)]
    small = [cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for image in large]
    rows = []
    with Enhancer(weights, device=device) as enhancer:
        for pictures in (small, large):
            for motion, shown in (("none", pictures[:1]), ("looped", pictures + pictures[-2:0:-1])):
                session = enhancer.session(scale=SCALE)
                drift = measure(session, shown, frames)
                session.close()
                rows.append({"motion": motion, "n": frames, **drift._asdict(), "steady": drift.steady})
        head = {"device": enhancer.device, "model_sha256": enhancer.model_sha256, "scale": SCALE}
    return head, rows


def main(argv: Sequence[str] | None = None) -> int:
    """See command.answer."""
    words = parser("drift", __doc__)
    add_data(words, "clips/")
    words.add_argument("--frames", type=int, default=FRAMES)
    add_weights(words)
    add_device(words)
    return answer(words, argv, run, COLUMNS)


if __name__ == "__main__":
    sys.exit(main())
