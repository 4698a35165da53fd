import numpy as np

from streamsr.ladder import Ladder, Pace, Rung


def _taught() -> Ladder:
    ladder = Ladder()
    ladder.learn(512, 1, 20.0)
    return ladder


def test_without_a_deadline_nothing_is_saved() -> None:
    assert _taught().choose({512: 10}, 4, None) is Rung.STEPS


def test_rungs_follow_the_time_that_is_left() -> None:
    ladder = _taught()
    assert ladder.choose({512: 1}, 2, 41.0) is Rung.STEPS
    assert ladder.choose({512: 1}, 2, 25.0) is Rung.ONE_STEP
    assert ladder.choose({512: 1}, 2, 10.0) is Rung.CACHE
    assert ladder.choose({512: 1}, 2, -5.0) is Rung.ORIGINAL
    assert ladder.choose({512: 3}, 1, 50.0) is Rung.CACHE  # three faces cost three times one


def test_an_unknown_cost_is_tried() -> None:
    assert Ladder().choose({256: 1}, 1, 1.0) is Rung.STEPS


def test_one_slow_run_does_not_end_restoring_for_ever() -> None:
    ladder = Ladder()
    ladder.learn(512, 1, 1000.0)
    rungs = [ladder.choose({512: 1}, 1, 50.0) for _ in range(80)]
    assert rungs[0] is Rung.CACHE
    assert rungs[-1] is Rung.STEPS


def test_what_follows_the_network_is_reserved() -> None:
    ladder = _taught()
    ladder.learn_rest(10.0)
    assert ladder.choose({512: 1}, 1, 31.0) is Rung.STEPS
    assert ladder.choose({512: 1}, 1, 25.0) is Rung.CACHE


def test_a_cost_that_proves_true_again_is_not_tried_again_at_once() -> None:
    ladder = _taught()
    tried = []
    for frame in range(100):
        if ladder.choose({512: 1}, 1, 10.0) is Rung.STEPS:
            tried.append(frame)
            ladder.learn(512, 1, 20.0)
    assert 4 <= len(tried) <= 8
    assert min(np.diff(tried)) > 10


def test_a_late_frame_says_nothing_about_the_cost() -> None:
    ladder = _taught()
    for _ in range(100):
        assert ladder.choose({512: 1}, 1, -1.0) is Rung.ORIGINAL
    assert ladder.choose({512: 1}, 1, 19.0) is Rung.CACHE


def _watch(
    pace: Pace, frames: int, *, restored: bool = True, dropped: int = 0, left_ms: float = 50.0
) -> None:
    for _ in range(frames):
        pace.observe(restored, dropped, 25.0, left_ms)


def test_a_stream_that_falls_behind_goes_coarse_and_stays_so() -> None:
    pace = Pace()
    _watch(pace, 100)
    assert not pace.coarse
    _watch(pace, 5, restored=False)
    assert pace.coarse
    _watch(pace, 2000)  # 25 ms x 1.5 is not ample in 50 ms
    assert pace.coarse


def test_a_hiccup_is_no_reason_to_go_coarse() -> None:
    pace = Pace()
    for _ in range(20):
        _watch(pace, 50)
        _watch(pace, 1, restored=False)
        _watch(pace, 1, dropped=1)
    assert not pace.coarse


def test_the_start_of_a_stream_does_not_decide() -> None:
    pace = Pace()
    _watch(pace, 10, restored=False)
    _watch(pace, 1000)
    assert not pace.coarse


def test_dropped_frames_count_as_missed() -> None:
    pace = Pace()
    _watch(pace, 50)
    _watch(pace, 10, dropped=1)
    assert pace.coarse


def test_a_coarse_stream_turns_fine_when_there_is_ample_time() -> None:
    pace = Pace()
    _watch(pace, 60, restored=False)
    _watch(pace, 400, left_ms=100.0)
    assert pace.coarse  # held
    _watch(pace, 200, left_ms=100.0)
    assert not pace.coarse
