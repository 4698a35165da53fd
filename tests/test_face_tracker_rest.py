"""A tracker that looks for faces on motion: an empty scene costs little, and nobody is missed for it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
from test_face_tracker import scene

from streamsr.face.regions import tiles
from streamsr.face.tracker import IDLE_SEARCH_EVERY_S, MediaPipeTracker

FPS = 25
TILES = len(tiles(640, 360))


class _Counted:
    def __init__(self, on_motion: bool) -> None:
        self.tracker = MediaPipeTracker(on_motion=on_motion)
        self.searches = 0
        self.networks = self.tracker._networks
        detect = self.networks.detect

        def counted(image: np.ndarray) -> list:
            self.searches += 1
            return detect(image)

        self.networks.detect = counted  # type: ignore[method-assign]

    def watch(self, pictures: list[np.ndarray], first: int = 0) -> list[int]:
        """Faces, frame by frame."""
        return [
            len(self.tracker.track(picture, (first + index) / FPS)) for index, picture in enumerate(pictures)
        ]


@pytest.fixture
def resting() -> Iterator[_Counted]:
    counted = _Counted(on_motion=True)
    yield counted
    counted.tracker.close()


@pytest.fixture
def eager() -> Iterator[_Counted]:
    counted = _Counted(on_motion=False)
    yield counted
    counted.tracker.close()


@cache
def _noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 5, scene().shape).astype(np.float32)


def _noisy(picture: np.ndarray, index: int) -> np.ndarray:
    return (picture + _noise(index % 7)).clip(0, 255).astype(np.uint8)


def test_an_empty_room_is_searched_now_and_then(resting: _Counted, eager: _Counted) -> None:
    room = [_noisy(scene(), index) for index in range(4 * FPS)]
    assert set(resting.watch(room)) == set(eager.watch(room)) == {0}
    assert eager.searches >= len(room)
    first = TILES  # the whole frame, at once
    idle = 4 / IDLE_SEARCH_EVERY_S
    assert first + idle - 2 <= resting.searches <= first + TILES + idle + 1


def test_who_comes_in_is_seen_as_soon_as_ever(resting: _Counted, eager: _Counted) -> None:
    empty = [scene()] * (2 * FPS)
    walk = [scene((700 - 14 * index, 180, 60)) for index in range(30)]
    seen = []
    for counted in (resting, eager):
        counted.watch(empty)
        faces = counted.watch(walk, len(empty))
        seen.append(faces.index(1))
    assert abs(seen[0] - seen[1]) <= TILES


def test_who_came_in_and_stands_still_is_found(resting: _Counted) -> None:
    resting.watch([scene()] * (2 * FPS))
    faces = resting.watch([scene((320, 180, 60))] * (2 * FPS), 2 * FPS)
    assert 1 in faces[: TILES + 5]
    assert set(faces[TILES + 5 :]) == {1}


def test_a_small_face_is_motion_enough(resting: _Counted) -> None:
    resting.watch([_noisy(scene(), index) for index in range(2 * FPS)])
    walk = [_noisy(scene((100 + 2 * index, 150, 28)), index) for index in range(2 * FPS)]
    assert 1 in resting.watch(walk, 2 * FPS)


def test_who_appears_too_slowly_to_be_motion_is_found(resting: _Counted) -> None:
    resting.watch([scene()] * FPS)
    empty, there = scene().astype(np.float32), scene((320, 180, 60)).astype(np.float32)
    shares = np.linspace(0, 1, 8 * FPS)
    faces = resting.watch([(empty + share * (there - empty)).astype(np.uint8) for share in shares], FPS)
    assert faces[-1] == 1


def test_with_somebody_there_nothing_changes(resting: _Counted, eager: _Counted) -> None:
    walk = [_noisy(scene((200 + 3 * index, 180, 60)), index) for index in range(40)]
    for picture, index in zip(walk, range(40), strict=True):
        ours, theirs = (c.tracker.track(picture, index / FPS) for c in (resting, eager))
        assert [face.track_id for face in ours] == [face.track_id for face in theirs]
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one.matrix, other.matrix)
    assert resting.searches == eager.searches
