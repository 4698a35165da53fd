import numpy as np

from streamsr.ladder import Ladder, Rung


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
