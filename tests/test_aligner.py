from fractions import Fraction

import numpy as np
import pytest

from streamsr.aligner import FORGET_FRAMES, SMALLEST_FACE_PX, Aligner, choose_size
from streamsr.face.tracker import TrackedFace
from streamsr.frame import Frame
from streamsr.pictures import HostPictures
from streamsr.report import Outcome


@pytest.mark.parametrize(
    ("side", "before", "size"),
    [
        (280, None, 256),
        (288, None, 256),
        (289, None, 512),
        (300, 256, 256),
        (310, 256, 512),
        (275, 512, 512),
        (265, 512, 256),
    ],
)
def test_the_size_follows_the_output_but_not_its_jitter(side: float, before: int | None, size: int) -> None:
    assert choose_size(side, before, (256, 512)) == size
    assert choose_size(side, None, (512,)) == 512


class _Script:
    """A tracker that finds what it is told: (track_id, width in px, fresh) of each face."""

    def __init__(self) -> None:
        self.next: list[tuple[int, int, bool]] = []

    def track(self, image: np.ndarray, time_s: float) -> list[TrackedFace]:
        return [
            TrackedFace(
                track_id=track_id,
                matrix=np.array([[4.0, 0, 0], [0, 4.0, 0]]),
                landmarks=np.zeros((478, 2), np.float32),
                roi_px=(10, 10, width, width),
                confidence=1.0,
                blend=1.0,
                yaw_deg=0.0,
                fresh=fresh,
            )
            for track_id, width, fresh in self.next
        ]

    def reset(self) -> None: ...

    def close(self) -> None: ...


def _frame(index: int) -> Frame:
    return Frame(np.zeros((128, 128, 3), np.uint8), index, Fraction(1, 25), 0, index)


def test_a_face_whose_box_trembles_about_the_smallest_size_does_not_flash() -> None:
    script = _Script()
    aligner = Aligner(script, HostPictures(2), 2)
    seen = []
    for index, width in enumerate([26, 24, 23, 24, 25, 23, 25, 26, 24]):
        script.next = [(0, width, index == 0)]
        face = aligner.look(_frame(index)).faces[0]
        assert face.crop is None or width >= SMALLEST_FACE_PX
        seen.append(face.outcome is Outcome.TOO_SMALL)
    assert seen == [False, False, True, True, True, True, True, False, False]


def test_an_identity_that_begins_anew_has_another_epoch_and_old_ones_are_forgotten() -> None:
    script = _Script()
    aligner = Aligner(script, HostPictures(2), 2)
    epochs = []
    for index, (track_id, fresh) in enumerate([(0, True), (0, False), (0, True), (0, False)]):
        script.next = [(track_id, 60, fresh)]
        epochs.append(aligner.look(_frame(index)).faces[0].epoch)
    assert epochs[0] == epochs[1] != epochs[2] == epochs[3]
    for track_id in range(1, 3 * FORGET_FRAMES):  # a stream in which every frame shows somebody else
        script.next = [(track_id, 60, True)]
        aligner.look(_frame(10 + track_id))
    assert len(aligner._known) <= FORGET_FRAMES + 2
