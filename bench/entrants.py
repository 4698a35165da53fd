"""Who is compared in one run: the baselines, the user's peers, and streamsr at each fidelity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from .baselines import Upscaler, baselines
from .face_truth import FaceTruth
from .peers import FacePeer, FramePeer

if TYPE_CHECKING:
    from streamsr.enhancer import Enhancer

__all__ = ["Entrants", "streamsr_name"]


@dataclass(frozen=True)
class Entrants:
    """enhancer: None leaves streamsr itself out. steps, seed: of it, as for a session."""

    data: Path
    enhancer: Enhancer | None
    fidelities: Sequence[float] = (1.0,)
    steps: int | Literal["auto"] = "auto"
    seed: int = 0
    frame_peers: Mapping[str, FramePeer] = field(default_factory=dict)
    face_peers: Mapping[str, FacePeer] = field(default_factory=dict)
    _upscalers: dict[int, dict[str, Upscaler]] = field(default_factory=dict, init=False)

    def enlarged(self, low: np.ndarray, scale: int, faces: Sequence[FaceTruth]) -> dict[str, np.ndarray]:
        """The picture of everyone but streamsr. faces: of the clean picture, for the face peers."""
        if scale not in self._upscalers:
            self._upscalers[scale] = {**baselines(scale, self.data), **self.frame_peers}
        pictures = {name: upscale(low, scale) for name, upscale in self._upscalers[scale].items()}
        return pictures | {name: peer.enhance(low, scale, faces) for name, peer in self.face_peers.items()}

    def streamsr(self) -> dict[str, float]:
        """Fidelity by name of the row; none without an enhancer."""
        return {streamsr_name(f): f for f in self.fidelities} if self.enhancer is not None else {}


def streamsr_name(fidelity: float) -> str:
    return f"streamsr f={fidelity:g}"
