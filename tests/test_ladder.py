from itertools import pairwise

import numpy as np
from helpers import FakeClock

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


def test_what_follows_the_network_is_not_believed_for_ever_either() -> None:
    ladder = _taught()
    ladder.learn_rest(500.0)
    rungs = [ladder.choose({512: 1}, 1, 100.0) for _ in range(80)]
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


def test_a_hiccup_costs_one_frame() -> None:
    ladder = _taught()
    rungs = [ladder.choose({512: 1}, 1, 5.0 if frame == 30 else 90.0) for frame in range(60)]
    assert [frame for frame, rung in enumerate(rungs) if rung is not Rung.STEPS] == [30]


def test_a_load_at_the_edge_does_not_change_the_rung_with_every_frame() -> None:
    """The network takes 20 ms, and about as much is left, a little more or less from frame to frame."""
    ladder, left_ms = _taught(), 20 + np.random.default_rng(0).uniform(-3, 3, 400)
    rungs = []
    for left in left_ms:
        rungs.append(ladder.choose({512: 1}, 1, left))
        if rungs[-1] is Rung.STEPS:
            ladder.learn(512, 1, 20.0)
    fits = left_ms >= 20
    assert (fits[1:] != fits[:-1]).mean() > 0.4  # without memory
    assert np.mean([late is not early for early, late in pairwise(rungs)]) < 0.3


def test_steps_go_down_and_come_back_one_at_a_time() -> None:
    ladder = _taught()
    rungs = [ladder.choose({512: 1}, 4, left) for left in [90.0, 30.0, 15.0, *[90.0] * 6]]
    assert rungs[:3] == [Rung.STEPS, Rung.ONE_STEP, Rung.CACHE]
    assert rungs[3:] == sorted(rungs[3:], key=lambda rung: -rung.value)
    assert Rung.ONE_STEP in rungs[3:] and rungs[-1] is Rung.STEPS


def test_under_pressure_and_after_it() -> None:
    """25 fps on a clock of ours; for 8 s everything takes four times as long."""
    clock, ladder, rng = FakeClock(0), Ladder(), np.random.default_rng(0)
    rungs, ages = [], []
    for frame in range(500):
        captured_ns = frame * 40_000_000
        clock.advance_ms(max(0, captured_ns - clock.now_ns()) / 1e6)  # it is dropped if it is late, live
        if clock.now_ns() - captured_ns > 40_000_000:
            continue
        slower = 4.0 if 100 <= frame < 300 else 1.0
        clock.advance_ms(slower * 10)  # tracking
        rung = ladder.choose({512: 1}, 1, 100 - (clock.now_ns() - captured_ns) / 1e6)
        if rung is Rung.STEPS:
            ms = slower * rng.uniform(18, 26)
            clock.advance_ms(ms)
            ladder.learn(512, 1, ms)
        clock.advance_ms(slower * 5)  # compositing
        if rung in (Rung.STEPS, Rung.CACHE):
            ladder.learn_rest(slower * 5)
        rungs.append((frame, rung))
        ages.append((clock.now_ns() - captured_ns) / 1e6)
    assert np.percentile(ages, 95) < 150 and max(ages) < 200
    assert all(rung is Rung.STEPS for frame, rung in rungs if frame < 100)
    pressed = [rung for frame, rung in rungs if 110 <= frame < 300]
    assert Rung.CACHE in pressed and pressed.count(Rung.STEPS) < 0.3 * len(pressed)
    assert all(rung is Rung.STEPS for frame, rung in rungs if frame >= 350)  # 2 s after it ended


def test_the_guide_waits_for_a_frame_with_time_for_it() -> None:
    ladder = _taught()
    ladder.learn_rest(10.0)
    assert ladder.affords_guide({512: 1}, 33.0)  # nobody knows yet what it costs
    ladder.learn_guide(512, 2, 30.0)
    assert ladder.affords_guide({512: 1}, 50.0)
    assert not ladder.affords_guide({512: 1}, 45.0)
    assert not ladder.affords_guide({512: 2}, 50.0)
