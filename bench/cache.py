"""What the recurrent latent cache is worth, part by part, with the same weights on the same real clips.

    streamsr bench cache --data DIR --weights FILE [--clips talk_a,talk_b] [--conditions clean,call]
                         [--scales 2,4] [--frames 60]

    cache         as it is deployed: pixels and features, OGWM with s = 2, one noise for all frames
    no cache      every frame as if it were the first
    pixels only   the previous stem features are not looked at
    K = 1         nothing of the previous output is kept as it is
    s = 1, s = 4  OGWM's rescaling (DGAF-VSR, Table 8)
    fresh noise   another for every frame

On the face: PSNR-Y over bicubic's, energy of the high band over the truth's; from frame to frame warp_ratio
(Ewarp over the truth's own), flicker and tOF, see temporal.py. Means over all frames of all clips.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from streamsr.errors import ConfigError

from .clips import (
    CLIPS,
    CONDITIONS,
    SCALES,
    DegradedClip,
    chosen,
    clip_path,
    degrade,
    read_clip,
)
from .command import add_data, add_device, add_list, answer, parser
from .face_truth import FaceTruth, face_box, face_region, face_tracks
from .fidelity import hf_ratio, psnr_y
from .tally import Tally
from .temporal import flow_error, motion, temporal_error

if TYPE_CHECKING:
    from streamsr.model.network import Network
    from streamsr.model.restorer import Restorer

__all__ = ["VARIANTS", "Variant", "main", "run"]

FRAMES = 60
COLUMNS = (
    "condition", "scale", "variant", "n", "face_gain_db", "face_hf_ratio", "warp_ratio", "flicker", "tof_px"
)  # fmt: skip


def _pixels_only(network: Network) -> None:
    from streamsr.model.ports import CoarsePort, FinePort

    width = network.config.width
    for port in network.ports.values():
        if isinstance(port, FinePort):
            port.side_memory.weight[:, :width] = 0
        elif isinstance(port, CoarsePort):  # behind them: a difference and a mask
            port.enter_memory.weight[:, -width - 4 : -4] = 0


def _shut_gain(network: Network) -> None:
    for name, parameter in network.named_parameters():
        if name.endswith("gain.weight"):
            parameter.fill_(0)
        elif name.endswith("gain.bias"):
            parameter.fill_(30.0)


@dataclass(frozen=True, slots=True)
class Variant:
    """alter: what is changed in the weights. recurrent: False, no cache. rescaling: s."""

    name: str
    alter: Callable[[Network], None] | None = None
    recurrent: bool = True
    rescaling: int = 2
    fresh_noise: bool = False


VARIANTS = (
    Variant("no cache", recurrent=False),
    Variant("cache"),
    Variant("pixels only", alter=_pixels_only),
    Variant("K = 1", alter=_shut_gain),
    Variant("s = 1", rescaling=1),
    Variant("s = 4", rescaling=4),
    Variant("fresh noise", fresh_noise=True),
)


@dataclass(frozen=True, slots=True)
class _Clip:
    degraded: DegradedClip
    faces: list[list[FaceTruth]]


def run(
    data: Path,
    weights: Path,
    clips: Sequence[str] = CLIPS,
    conditions: Sequence[str] = ("clean", "call"),
    scales: Sequence[int] = (4, 2),
    frames: int = FRAMES,
    device: str = "auto",
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns what all rows share, and a row a condition, scale and variant.

    Raises ConfigError, SourceError, ModelError.
    """
    from streamsr.model.weights import load_weights  # torch loads here, not for --help

    paths = [clip_path(data, name) for name in clips]
    conditions = chosen(conditions, "conditions", CONDITIONS)
    scales = chosen(scales, "scales", SCALES)
    if frames < 2:
        raise ConfigError(f"frames must be at least 2, got {frames}")
    loaded = load_weights(weights)
    if not loaded.description.recurrent:
        raise ConfigError(f"{weights.name} was trained without the cache: there is nothing to compare")
    tally = Tally()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        degraded = [
            _Clip(degrade(path, condition, scale, folder, frames), face_tracks(path, scale, frames, folder))
            for path in paths
            for scale in scales
            for condition in conditions
        ]
        for clip in degraded:
            _measure(clip, "truth", (picture.image for picture in clip.degraded.truths()), tally)
            _measure(clip, "bicubic", _bicubic(clip), tally)
        for variant in VARIANTS:
            restorer = _restorer(variant, weights, folder, device)
            for clip in degraded:
                _measure(clip, variant.name, _restored(clip, restorer, variant), tally)
            restorer.close()
    head = {"device": restorer.device.type, "model_sha256": loaded.sha256, "frames": frames}
    return head, _rows(tally)


def _restorer(variant: Variant, weights: Path, folder: Path, device: str) -> Restorer:
    import torch

    from streamsr.model.restorer import Restorer
    from streamsr.model.weights import load_weights, save_weights

    loaded = load_weights(weights)
    if variant.alter is not None:
        with torch.no_grad():
            variant.alter(loaded.network)
    description = replace(loaded.description, recurrent=variant.recurrent)
    path = folder / "variant.safetensors"
    save_weights(path, loaded.network, loaded.guide, description)
    return Restorer.load(path, device=device, rescaling=variant.rescaling)


def _restored(clip: _Clip, restorer: Restorer, variant: Variant) -> Iterator[np.ndarray]:
    from streamsr.clock import MONOTONIC
    from streamsr.enhancer import Session
    from streamsr.face.tracker import MediaPipeTracker

    session = Session(
        restorer,
        scale=clip.degraded.scale,
        fidelity=1.0,
        steps=1,
        seed=0,
        tracker=MediaPipeTracker(),
        clock=MONOTONIC,
    )
    for picture in read_clip(clip.degraded.camera):
        yield session.process(picture.image)[0]
        session.seed += variant.fresh_noise
    session.close()


def _bicubic(clip: _Clip) -> Iterator[np.ndarray]:
    size = clip.degraded.width, clip.degraded.height
    for picture in read_clip(clip.degraded.camera):
        yield cv2.resize(picture.image, size, interpolation=cv2.INTER_CUBIC)


def _measure(clip: _Clip, name: str, pictures: Iterator[np.ndarray], tally: Tally) -> None:
    """Into ``tally`` under (condition, scale, name)."""
    key = (clip.degraded.condition, clip.degraded.scale, name)
    before: tuple[np.ndarray, np.ndarray] | None = None
    for picture, truth, faces in zip(pictures, clip.degraded.truths(), clip.faces, strict=True):
        region = face_region(faces, truth.image.shape)
        if not region.any():
            before = None
            continue
        box = face_box(region)
        inside = (picture[box], truth.image[box], region[box])
        figures = {"face_hf_ratio": hf_ratio(*inside)}
        if name != "truth":
            figures["face_psnr_y"] = psnr_y(*inside)
        if before is not None:
            pair = before[0][box], picture[box]
            truths = before[1][box], truth.image[box]
            moved = motion(*truths)
            figures["warp"], figures["flicker"] = temporal_error(pair, truths, moved, region[box])
            figures["tof_px"] = flow_error(pair, moved, region[box])
        tally.add(key, figures)
        before = picture, truth.image


def _rows(tally: Tally) -> list[dict[str, Any]]:
    rows = []
    for key in sorted(tally, key=lambda key: key[:2]):
        condition, scale, name = key
        if name == "truth":
            continue
        figures = tally.means(key)
        bicubic, truth = (tally.means((condition, scale, other)) for other in ("bicubic", "truth"))
        rows.append(
            {
                "condition": condition,
                "scale": scale,
                "variant": name,
                "n": tally.count(key),
                "face_gain_db": figures["face_psnr_y"] - bicubic["face_psnr_y"],
                "warp_ratio": figures["warp"] / truth["warp"],
                **figures,
            }
        )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """See command.answer."""
    words = parser("cache", __doc__)
    add = words.add_argument
    add_data(words, "clips/")
    add("--weights", type=Path, required=True, help="trained with the cache")
    add_list(words, "--clips", str, CLIPS, "names in DATA/clips, or paths")
    add_list(words, "--conditions", str, ("clean", "call"), f"of {', '.join(CONDITIONS)}")
    add_list(words, "--scales", int, (4, 2), f"of {', '.join(map(str, SCALES))}")
    add("--frames", type=int, default=FRAMES, help="most frames of a clip")
    add_device(words)
    return answer(words, argv, run, COLUMNS)


if __name__ == "__main__":
    sys.exit(main())
