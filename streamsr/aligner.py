"""The tracker's side of a stream: faces found, numbered and cut out, on a thread of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from .errors import FrameError
from .face.alignment import native_side
from .face.tracker import TrackedFace, Tracker
from .frame import MAX_SIDE_PX, Frame
from .pictures import Pictures
from .report import Outcome

__all__ = ["SMALLEST_FACE_PX", "AlignedFace", "Aligner", "Tracked"]

SMALLEST_FACE_PX = 24  # of width; a smaller face is nobody: it is upscaled and never repainted
COARSE_MOST_PX = 288  # a crop up to this side in the output frame is restored at S = 256, else 512
SIZE_HYSTERESIS = 0.06
REGROWN_PX = 2  # above SMALLEST_FACE_PX, for a face that was below: a jittering box must not flash
FORGET_FRAMES = 250  # a face gone for longer is not waited for


@dataclass(frozen=True, slots=True)
class AlignedFace:
    """A tracked face and, unless ``outcome`` says why not, its crop, as the pictures cut it.

    epoch: another number whenever the identity begins anew; it travels with every frame, because a
    live stream may drop the one frame in which it changed. size: S. native_px: n.
    """

    face: TrackedFace
    epoch: int
    size: int
    native_px: float
    crop: Any
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class Tracked:
    """A frame and its faces, on their way to the model's thread. picture: see ``Pictures``. scene: counts
    cuts and new sizes."""

    frame: Frame
    picture: Any
    faces: tuple[AlignedFace, ...]
    scene: int
    stage_ms: dict[str, float]


@dataclass(slots=True)
class _Known:
    """What an identity's next crop depends on."""

    epoch: int
    size: int | None = None
    too_small: bool = False
    seen_index: int = 0


class Aligner:
    """Tracks and cuts out the faces of one stream for outputs at ``scale``. sizes: S that there are.

    largest: S that no crop exceeds; may be set between two frames, from any thread.
    """

    def __init__(
        self, tracker: Tracker, pictures: Pictures, scale: int, sizes: tuple[int, ...] = (256, 512)
    ) -> None:
        self._tracker, self._pictures, self._scale, self._sizes = tracker, pictures, scale, sizes
        self.largest = max(sizes)
        self._scene = 0
        self._shape: tuple[int, ...] | None = None
        self._epoch = 0  # the last one given
        self._known: dict[int, _Known] = {}

    def look(self, frame: Frame) -> Tracked:
        """Raises FrameError for a picture that is none, or too large at this scale."""
        picture = self._pictures.take(frame.image)
        largest = self._scale * max(frame.width, frame.height)
        if largest > MAX_SIDE_PX:
            raise FrameError(
                f"output side must be at most {MAX_SIDE_PX} px, got {largest}: use a smaller --scale"
            )
        began = time.perf_counter()
        if frame.discontinuity or frame.image.shape != self._shape:
            self._scene += 1
            self._epoch = 0  # of what comes nothing depends on what was: it can be repeated from here
            self._known.clear()
            self._tracker.reset()
        self._shape = frame.image.shape
        faces = self._tracker.track(self._pictures.seen(picture), frame.time_s)
        found = time.perf_counter()
        aligned = [self._aligned(frame, face) for face in faces]
        wanted = [each for each in aligned if each.outcome is None]
        crops = iter(self._pictures.cut(picture, [(each.face.matrix, each.size) for each in wanted]))
        cut = tuple(each if each.outcome else replace(each, crop=next(crops)) for each in aligned)
        stage_ms = {"track": (found - began) * 1e3, "align": (time.perf_counter() - found) * 1e3}
        return Tracked(frame, picture, cut, self._scene, stage_ms)

    def close(self) -> None:
        """May be called twice."""
        self._tracker.close()

    def _aligned(self, frame: Frame, face: TrackedFace) -> AlignedFace:
        """But for its crop."""
        known = self._recognised(face, frame.index)
        native = native_side(face.matrix)
        size = known.size = choose_size(native * self._scale, known.size, self._sizes)
        known.too_small = face.roi_px[2] < SMALLEST_FACE_PX + REGROWN_PX * known.too_small
        outcome = None
        if known.too_small:
            outcome = Outcome.TOO_SMALL
        elif face.blend <= 0:
            outcome = Outcome.UNSURE
        return AlignedFace(face, known.epoch, min(size, self.largest), native, None, outcome)

    def _recognised(self, face: TrackedFace, index: int) -> _Known:
        known = self._known.get(face.track_id)
        if known is None or face.fresh:
            self._known = {
                k: other for k, other in self._known.items() if index - other.seen_index <= FORGET_FRAMES
            }
            self._epoch += 1
            known = self._known[face.track_id] = _Known(self._epoch)
        known.seen_index = index
        return known


def choose_size(output_side_px: float, before: int | None, sizes: tuple[int, ...]) -> int:
    """S for a crop of this side in the output frame; near the border, what it was ``before``."""
    if len(sizes) == 1:
        return sizes[0]
    lean = {None: 0, 256: 1, 512: -1}[before]
    return 256 if output_side_px <= COARSE_MOST_PX * (1 + SIZE_HYSTERESIS * lean) else 512
