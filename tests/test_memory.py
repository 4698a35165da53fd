import numpy as np
import pytest

from streamsr.memory import BYPASS_BELOW, RECALL_FRAMES, RECENT_FRAMES, RESUME_ABOVE, FaceMemory
from streamsr.model.crop import Crop
from streamsr.model.restorer import GuideReading, Trace

SHARE = 0.25 * 3 + 0.0625 * 3  # of the six high bands


def _reading(missing_share: float) -> GuideReading:
    """A reading whose missing high-band energy is this share of what is there."""
    present = 0.01
    log_sigma = 0.5 * np.log(missing_share * present / SHARE)
    return GuideReading(np.full(7, log_sigma, np.float32), -5.0, 30.0, present, 1.0)


def _trace() -> Trace:
    x_in, y = (np.zeros((side, side, 3), np.uint8) for side in (256, 64))
    crop = Crop(x_in, y, np.eye(2, 3), np.zeros((16, 16), np.float32))
    return Trace(crop, np.zeros((256, 256, 3), np.float32))


def test_the_share_is_missing_energy_over_present_energy() -> None:
    assert _reading(0.3).missing_share == pytest.approx(0.3, rel=1e-3)


def test_a_sharp_face_is_bypassed_from_its_first_frame() -> None:
    memory = FaceMemory((1, 512))
    memory.observe(_reading(BYPASS_BELOW * 0.5))
    assert memory.strength == 0


def test_bypass_has_hysteresis_and_fades_over_five_frames() -> None:
    memory = FaceMemory((1, 512))
    memory.observe(_reading(1.0))
    assert memory.strength == 1
    strengths = []
    for _ in range(60):
        memory.observe(_reading(BYPASS_BELOW * 0.5))
        strengths.append(memory.strength)
    fading = [s for s in strengths if 0 < s < 1]
    assert np.allclose(fading, [0.8, 0.6, 0.4, 0.2])
    assert strengths[-1] == 0
    between = (BYPASS_BELOW + RESUME_ABOVE) / 2
    for _ in range(60):
        memory.observe(_reading(between))
    assert memory.strength == 0  # between the two bounds nothing changes
    for _ in range(60):
        memory.observe(_reading(RESUME_ABOVE * 2))
    assert memory.strength == 1


def test_an_enlarged_crop_has_to_look_sharper_to_be_left_alone() -> None:
    for enlarged, strength in ((False, 0.0), (True, 1.0)):
        memory = FaceMemory((1, 512))
        memory.observe(_reading(0.2), enlarged=enlarged)
        assert memory.strength == strength


def test_old_detail_fades_out() -> None:
    memory = FaceMemory((1, 256))
    assert memory.recall() == 0
    memory.seen_index = 7
    memory.keep(_trace())
    shares = []
    for memory.seen_index in range(7, 7 + RECALL_FRAMES + 2):
        shares.append(memory.recall())
    assert shares[:11] == [1.0] * 11
    assert np.allclose(shares[11:], [0.8, 0.6, 0.4, 0.2, 0, 0])


def test_the_share_that_is_shown_moves_over_five_frames() -> None:
    memory = FaceMemory((1, 256))
    shares = []
    for memory.seen_index, target in enumerate([1.0] * 2 + [0.0] * 6 + [1.0] * 6):
        shares.append(memory.fade(target))
    assert np.allclose(shares, [1, 1, 0.8, 0.6, 0.4, 0.2, 0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1])
    memory.seen_index += 3  # three frames were dropped
    assert memory.fade(0.0) == pytest.approx(0.4)


def test_a_face_whose_first_frames_come_too_late_appears_by_degrees() -> None:
    memory = FaceMemory((1, 256))
    assert [memory.fade(0.0), memory.fade(1.0)] == [0, 0.2]


def test_the_network_builds_on_recent_frames_only() -> None:
    memory = FaceMemory((1, 256))
    assert memory.recent() is None
    memory.seen_index = 7
    trace = _trace()
    memory.keep(trace)
    memory.seen_index = 7 + RECENT_FRAMES
    assert memory.recent() is trace
    memory.seen_index += 1
    assert memory.recent() is None


def test_the_guide_is_asked_at_first_then_every_fifth_frame_and_while_fading() -> None:
    memory = FaceMemory((1, 512))
    asked = []
    for frame in range(1, 16):
        if memory.asks():
            asked.append(frame)
            memory.observe(_reading(1.0))
    assert asked == [1, 2, 3, 4, 5, 9, 14]
    memory.strength = 0.5
    assert [memory.asks() for _ in range(4)] == [True] * 4


def test_faces_take_turns_with_the_guide() -> None:
    memories = [FaceMemory((epoch, 512)) for epoch in range(5)]
    for memory in memories:
        memory.observe(_reading(1.0))
    asked = [sum(memory.asks() for memory in memories) for _ in range(15)]
    assert asked[5:] == [1] * 10


def test_without_time_to_spare_the_guide_is_asked_seldom() -> None:
    memory = FaceMemory((1, 512))
    asked = []
    for frame in range(1, 120):
        if memory.asks(spare=False):
            asked.append(frame)
            memory.observe(_reading(1.0))
    assert asked == [1, 51, 101]
