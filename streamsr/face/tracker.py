"""Following faces through a stream: identities that last, steady alignments, how sure we are.

Each tracked face is looked at by the mesh alone (about 2 ms) where it is expected to be. The detector
looks for new faces in turns, a tile of the frame at a time, and near faces that were just lost. A camera
whose picture stands still, with nobody in it, is looked at less.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np

from ..frame import check_image
from .alignment import similarity
from .landmarks import five_points, shape_change, yaw_degrees
from .mesh import FaceNetworks
from .regions import mesh_region, square_region, tile_around, tiles
from .sighting import (
    PRESENCE_MIN,
    Sighting,
    appearance,
    credit,
    distinct,
    holds,
    look,
    normalised,
    overlap,
    smoothstep,
)
from .smoothing import SteadyFilter, from_pose, pose

__all__ = ["MediaPipeTracker", "TrackedFace", "Tracker"]

DETECTION_MIN = 0.4  # of the detector's score, for a face that is new
CREDIT_NEW = 0.7  # of what the detector, asked again close by, makes of a mesh; junk gets 0
CREDIT_MIN = 0.15  # the same, for a face that is tracked already
TRIALS = 2  # further frames in which a face that turns up in mid-scene must convince the detector
KEEP_LOST_S = 1.0  # a face that returns sooner, near where it was, keeps its identity
SEARCH_EVERY_S = 0.2  # how often the detector looks for new faces while some are tracked
IDLE_SEARCH_EVERY_S = 0.5  # the same, with nobody there and nothing that moves, where that is asked for
MOVES_MIN = 6  # of 255, in a 32nd of the frame's width: noise and coding stay below, a face comes in above
SWEEP_EVERY_S = 0.5  # how often a cut may set it on the whole frame: a strobe is not a cut a frame
CHECK_EVERY_S = 0.2  # how often it looks again at a tracked one
BLEND_S = 5 / 30  # a full rise or fall of ``blend``
SAME_LOOK = 0.55  # correlation of two looks of one person a frame apart: above 0.8
FRAME_CUT = 0.5  # correlation of two small frames below which the scene has changed
MIN_SIDE_PX = 16  # of a frame that can hold a face


@dataclass(frozen=True, slots=True)
class TrackedFace:
    """One face in one frame.

    track_id: never given again. matrix: (2, 3) float64, smoothed, frame px to 512-template px.
    landmarks: (478, 2) float32 in frame px, as measured. roi_px: x, y, width, height of the mesh's box
    within the frame. confidence in [0, 1]: falls with turn, occlusion and what the frame cuts off.
    blend in [0, 1]: how much of the effect to show, without steps. yaw_deg: positive to the picture's
    right. fresh: first frame of this identity, or first after it was lost: what was remembered of it
    no longer fits.
    """

    track_id: int
    matrix: np.ndarray
    landmarks: np.ndarray
    roi_px: tuple[int, int, int, int]
    confidence: float
    blend: float
    yaw_deg: float
    fresh: bool


class Tracker(Protocol):
    """Finds the faces of one stream, frame by frame. Used from one thread."""

    def track(self, image: np.ndarray, time_s: float) -> list[TrackedFace]:
        """Faces in ``image`` (H, W, 3) uint8 RGB, shown at ``time_s``. Raises FrameError."""
        ...

    def reset(self) -> None:
        """The next frame does not follow the last one: forget every face, but no identity number."""
        ...

    def close(self) -> None:
        """Give everything back. May be called twice."""
        ...


@dataclass(slots=True)
class _Track:
    track_id: int
    seen: Sighting
    seen_s: float
    filter: SteadyFilter = field(default_factory=SteadyFilter)
    blend: float = 0.0
    confidence: float = 0.0
    steadiness: float = 1.0
    credit: float = 1.0
    checked_s: float = 0.0
    trials: int = 0  # checks it must still pass before it is shown at all
    lost: bool = False
    fresh: bool = True

    def expected(self, dt_s: float, away_s: float) -> np.ndarray:
        """(2,) where the centre of its box should be, ``dt_s`` after the last frame."""
        if self.lost:  # it will not have kept its course for long
            return self.seen.centre + self.filter.velocity[:2] * min(away_s, 0.3)
        return self.seen.centre + self.filter.predict(dt_s)[:2] - self.filter.predict(0.0)[:2]


class MediaPipeTracker:
    """Tracker on MediaPipe's face mesh with irises and its full-range detector.

    on_motion: while nobody is there, look for faces when something moves and every IDLE_SEARCH_EVERY_S;
    otherwise in every frame.
    """

    def __init__(self, max_faces: int = 4, *, on_motion: bool = False) -> None:
        if max_faces < 1:
            raise ValueError(f"max_faces must be 1 or more, got {max_faces}")
        self._max_faces, self._on_motion = max_faces, on_motion
        self._networks = FaceNetworks()
        self._next_id = 0
        self.reset()

    def reset(self) -> None:
        """The next frame does not follow the last one: forget every face, but no identity number."""
        self._tracks: list[_Track] = []
        self._shape: tuple[int, ...] | None = None
        self._time_s = 0.0
        self._searched_s = 0.0
        self._swept_s = float("-inf")
        self._turn = 0
        self._small: np.ndarray | None = None
        self._still: np.ndarray | None = None  # the small frame from which motion is seen
        self._still_searches = 0  # since something moved
        self._asked = False

    def close(self) -> None:
        """Give everything back. May be called twice."""
        self._networks.close()

    def track(self, image: np.ndarray, time_s: float) -> list[TrackedFace]:
        """Faces in ``image`` (H, W, 3) uint8 RGB, shown at ``time_s``. Raises FrameError.

        A time before the last one, or another size of frame, resets.
        """
        check_image(image)
        if min(image.shape[:2]) < MIN_SIDE_PX:
            self.reset()
            return []
        if self._shape is not None and (image.shape != self._shape or time_s < self._time_s):
            self.reset()
        first = self._shape is None
        dt_s = 1 / 30 if first else float(np.clip(time_s - self._time_s, 1e-3, 1.0))
        self._shape, self._time_s = image.shape, time_s
        small = cv2.resize(image, (32, 18), interpolation=cv2.INTER_AREA)
        cut = self._scene_cut(small) or first
        self._asked = False  # the detector, in this frame: once is enough while all goes well

        sightings = []
        for track in self._tracks:
            if not track.lost and (sighting := self._follow(image, track, dt_s)) is not None:
                sightings.append(sighting)
        sightings = distinct(sightings)
        if len(sightings) < self._max_faces and (cut or not self._rests(small)):
            sweep = cut and time_s - self._swept_s >= SWEEP_EVERY_S
            sightings = self._search(image, sightings, everywhere=sweep)
        self._assign(image, sightings, dt_s, cut)
        # what was lost while on trial was no face and is not waited for
        self._tracks = [
            t for t in self._tracks if not t.lost or (time_s - t.seen_s <= KEEP_LOST_S and not t.trials)
        ]
        return [self._report(t) for t in self._tracks if not t.lost and not t.trials]

    def _scene_cut(self, small: np.ndarray) -> bool:
        look = normalised(small)
        cut = self._small is not None and float(look @ self._small) < FRAME_CUT
        self._small = look
        return cut

    def _rests(self, small: np.ndarray) -> bool:
        """Nobody is there, nothing moves, and the whole frame was searched since something did."""
        if not self._on_motion or self._tracks:
            return False
        if self._still is None or cv2.absdiff(small, self._still).max() >= MOVES_MIN:
            self._still, self._still_searches = small, 0
        self._still_searches += 1
        assert self._shape is not None
        searched = self._still_searches > len(tiles(self._shape[1], self._shape[0]))
        return searched and self._time_s - self._searched_s < IDLE_SEARCH_EVERY_S

    def _follow(self, image: np.ndarray, track: _Track, dt_s: float) -> Sighting | None:
        """Look for ``track`` where it should be by now, and now and then ask the detector as well."""
        region = mesh_region(track.seen.landmarks)
        region[:, 2] -= region[:, :2] @ (track.expected(dt_s, 0.0) - track.seen.centre)
        sighting = look(self._networks, image, region)
        check_due = track.trials or self._time_s - track.checked_s >= CHECK_EVERY_S
        if sighting is not None and check_due and not self._asked:
            track.checked_s = self._time_s
            self._asked = True
            sighting.credit = credit(self._networks, image, sighting)
            if track.trials and not holds(self._networks, image, sighting):
                sighting.credit = 0.0
        return sighting

    def _search(self, image: np.ndarray, found: list[Sighting], everywhere: bool) -> list[Sighting]:
        """``found`` and the faces the detector sees besides, in the part of the frame whose turn it is."""
        parts = tiles(image.shape[1], image.shape[0])
        lost = [t for t in self._tracks if t.lost or not any(overlap(t.seen, s) for s in found)]
        if everywhere:
            due = parts
            self._swept_s = self._time_s
        elif lost:
            turn, general = divmod(self._turn, 2)
            near = tile_around(lost[turn % len(lost)].seen.box, image.shape)
            due = (parts[turn % len(parts)] if general else near,)
        elif not found or (not self._asked and self._time_s - self._searched_s >= SEARCH_EVERY_S):
            due = (parts[self._turn % len(parts)],)
        else:
            return found
        self._turn += 1
        self._searched_s = self._time_s
        found = list(found)
        for x, y, width, height in due:
            for detection in self._networks.detect(image[y : y + height, x : x + width]):
                if detection.score < DETECTION_MIN:
                    continue
                box = detection.box
                centre = np.array([x, y]) + box[:2] + box[2:] / 2
                if any(np.abs(centre - s.centre).max() < 0.5 * s.box[2:].max() for s in found):
                    continue
                slope = detection.eyes[1] - detection.eyes[0]
                angle = float(np.arctan2(slope[1], slope[0]))
                sighting = look(self._networks, image, square_region(centre, 1.5 * box[2:].max(), angle))
                if sighting is not None:  # once more, from where the mesh itself sees the face
                    sighting = look(self._networks, image, mesh_region(sighting.landmarks))
                if sighting is None:
                    continue
                sighting.credit = credit(self._networks, image, sighting)
                if sighting.credit > CREDIT_NEW and holds(self._networks, image, sighting):
                    found = distinct([*found, sighting])
        return found

    def _assign(self, image: np.ndarray, sightings: list[Sighting], dt_s: float, cut: bool) -> None:
        """Give every sighting to the track it continues, the surest pairs first, or to a new one."""
        pairs = []
        for track in self._tracks:
            for sighting in sightings:
                cost = self._mismatch(track, sighting, dt_s)
                if cost is not None:
                    pairs.append((cost, track, sighting))
        pairs.sort(key=lambda pair: pair[0])
        taken: list[Sighting] = []
        continued: list[_Track] = []
        for _, track, sighting in pairs:
            if any(t is track for t in continued) or any(s is sighting for s in taken):
                continue
            continued.append(track)
            taken.append(sighting)
            self._update(track, sighting, dt_s)
        for track in self._tracks:
            if not any(t is track for t in continued) and not track.lost:
                self._fade(image, track, dt_s)
        room = self._max_faces - len(continued)
        unclaimed = [s for s in sightings if not any(t is s for t in taken)]
        unclaimed.sort(key=lambda s: -s.box[2])
        for sighting in unclaimed[: max(room, 0)]:
            track = _Track(self._next_id, sighting, self._time_s, checked_s=self._time_s)
            track.credit = 1.0 if sighting.credit is None else sighting.credit
            self._next_id += 1
            self._tracks.append(track)
            track.filter.update(pose(similarity(five_points(sighting.landmarks))), dt_s)
            track.trials = 0 if cut else TRIALS
            self._judge(track, dt_s, at_once=cut)

    def _mismatch(self, track: _Track, sighting: Sighting, dt_s: float) -> float | None:
        """How badly ``sighting`` continues ``track``; None if it cannot."""
        away_s = self._time_s - track.seen_s
        width = max(track.seen.box[2], sighting.box[2])
        distance = float(np.linalg.norm(sighting.centre - track.expected(dt_s, away_s))) / width
        growth = abs(float(np.log(sighting.box[2] / track.seen.box[2])))
        alike = float(track.seen.look @ sighting.look)
        reach = 0.6 if not track.lost else 0.8 + 0.7 * away_s / KEEP_LOST_S
        if distance > reach or growth > 0.5 or alike < SAME_LOOK:
            return None
        return distance + growth + (1 - alike)

    def _update(self, track: _Track, sighting: Sighting, dt_s: float) -> None:
        track.fresh = track.lost or track.trials == 1
        if track.lost:
            track.lost = False
            track.steadiness = 1.0
            track.filter.reset()
        else:
            change = shape_change(track.seen.landmarks, sighting.landmarks)
            track.steadiness += 0.3 * (1 - smoothstep(0.03, 0.08, change) - track.steadiness)
        track.filter.update(pose(similarity(five_points(sighting.landmarks))), dt_s)
        track.seen, track.seen_s = sighting, self._time_s
        if sighting.credit is not None:
            track.credit += 0.7 * (sighting.credit - track.credit)
            bar = CREDIT_NEW if track.trials else CREDIT_MIN / 2
            if track.credit < bar:  # never was a face, or has slipped on to something else for good
                track.lost, track.blend = True, 0.0
                return
            track.trials = max(track.trials - 1, 0)
        self._judge(track, dt_s)

    def _fade(self, image: np.ndarray, track: _Track, dt_s: float) -> None:
        """No mesh for ``track``: let it fade where it still shows, else lose it at once."""
        shift = track.expected(dt_s, 0.0) - track.seen.centre
        matrix = from_pose(track.filter.predict(dt_s))
        track.fresh = False
        track.blend -= dt_s / BLEND_S
        if track.blend <= 0 or float(appearance(image, matrix) @ track.seen.look) < SAME_LOOK:
            track.lost, track.blend = True, 0.0
            return
        track.filter.coast(dt_s)
        track.confidence = 0.0
        landmarks = track.seen.landmarks + np.array([shift[0], shift[1], 0.0])
        track.seen = Sighting(landmarks, 0.0, track.seen.look)

    def _judge(self, track: _Track, dt_s: float, at_once: bool = False) -> None:
        """Set ``confidence`` and let ``blend`` follow it, at its own pace."""
        assert self._shape is not None
        height, width = self._shape[:2]
        x, y = track.seen.landmarks[:468, 0], track.seen.landmarks[:468, 1]
        inside = float(((x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)).mean())
        track.confidence = (
            smoothstep(PRESENCE_MIN, 0.95, track.seen.presence)
            * (1 - smoothstep(45, 65, abs(yaw_degrees(track.seen.landmarks))))
            * smoothstep(0.4, 0.8, inside)
            * track.steadiness
            * smoothstep(CREDIT_MIN, 0.6, track.credit)
        )
        step = 1.0 if at_once else 0.0 if track.trials else dt_s / BLEND_S
        track.blend += float(np.clip(track.confidence - track.blend, -step, step))

    def _report(self, track: _Track) -> TrackedFace:
        assert self._shape is not None
        height, width = self._shape[:2]
        x, y, w, h = track.seen.box
        x0, y0 = int(np.clip(np.floor(x), 0, width - 1)), int(np.clip(np.floor(y), 0, height - 1))
        x1, y1 = int(np.clip(np.ceil(x + w), x0 + 1, width)), int(np.clip(np.ceil(y + h), y0 + 1, height))
        return TrackedFace(
            track_id=track.track_id,
            matrix=from_pose(track.filter.predict(0.0)),
            landmarks=track.seen.landmarks[:, :2].astype(np.float32),
            roi_px=(x0, y0, x1 - x0, y1 - y0),
            confidence=track.confidence,
            blend=track.blend,
            yaw_deg=yaw_degrees(track.seen.landmarks),
            fresh=track.fresh,
        )
