"""What was done to a frame, face by face: the types every report and metric is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Certificate", "FaceReport", "FrameReport", "Outcome"]


class Outcome(StrEnum):
    """What became of one face in one frame."""

    RESTORED = "restored"  # went through at least one step of the network
    BYPASSED = "bypassed"  # already sharp: returned as it was
    TOO_SMALL = "too_small"  # below 24 px: upscaled, never repainted
    UNSURE = "unsure"  # profile, occlusion or low confidence: effect fully blended out
    CACHED = "cached"  # ladder: the cached detail was reused
    SKIPPED = "skipped"  # ladder: no time left, upscaled original


@dataclass(frozen=True, slots=True)
class Certificate:
    """The output, reduced again by block averaging, against the camera's own pixels.

    rms and max of A out - camera over the frame in units of 1/255, before and after the
    projection; at scale 1 both are reduced to 4x4 block means first.
    """

    rms_before: float
    max_before: float
    rms: float
    max: float


@dataclass(frozen=True, slots=True)
class FaceReport:
    """One tracked face in one frame.

    roi_px: x, y, width, height of the face in the input frame. native_px: side of its aligned crop
    as the camera gave it. size_px: side S of the crop the network works at. confidence, blend in
    [0, 1]. t0: start of the trajectory, Eq. "SNR alignment" (DTI). sigma_y: error of the camera's
    own pixels. missing_share: high-band energy the guide misses over what is there; small: bypassed.
    nfe: network evaluations.
    """

    track_id: int
    outcome: Outcome
    roi_px: tuple[int, int, int, int]
    native_px: float
    size_px: int
    confidence: float
    blend: float = 0.0
    t0: float | None = None
    sigma_y: float | None = None
    missing_share: float | None = None
    nfe: int = 0


@dataclass(frozen=True, slots=True)
class FrameReport:
    """stage_ms: milliseconds by stage: "track", "align"; on the model's thread "guide", "net", "composite".

    cache_reset: something remembered of a face was thrown away before this frame.
    """

    faces: tuple[FaceReport, ...] = ()
    certificate: Certificate | None = None
    stage_ms: dict[str, float] = field(default_factory=dict)
    cache_reset: bool = False

    @property
    def restored(self) -> int:
        return sum(face.outcome is Outcome.RESTORED for face in self.faces)
