from fractions import Fraction

from streamsr.clock import NS_PER_S
from streamsr.io.timeline import Timeline

RTP = Fraction(1, 90_000)


def at(seconds):
    return round(seconds * NS_PER_S)


def test_first_connection_keeps_its_pts():
    timeline = Timeline()
    assert [timeline.place(90_000 + 3600 * i, RTP, at(0.04 * i)) for i in range(3)] == [
        90_000,
        93_600,
        97_200,
    ]
    assert timeline.time_base == RTP


def test_a_reconnect_goes_on_by_the_time_that_passed():
    timeline = Timeline()
    timeline.place(500_000, RTP, at(0))
    timeline.restart()
    assert timeline.place(0, RTP, at(2)) == 500_000 + 180_000
    assert timeline.place(3600, RTP, at(2.04)) == 500_000 + 183_600


def test_a_reconnect_within_the_same_tick_still_increases():
    timeline = Timeline()
    timeline.place(7, RTP, at(0))
    timeline.restart()
    assert timeline.place(0, RTP, at(0)) == 8


def test_another_time_base_after_a_reconnect_is_converted():
    timeline = Timeline()
    timeline.place(0, RTP, at(0))
    timeline.restart()
    millisecond = Fraction(1, 1000)
    assert timeline.place(5000, millisecond, at(1)) == 90_000
    assert timeline.place(5040, millisecond, at(1.04)) == 93_600


def test_a_picture_out_of_order_is_left_out():
    timeline = Timeline()
    timeline.place(90_000, RTP, at(0))
    assert timeline.place(86_400, RTP, at(0.04)) is None
    assert timeline.place(90_000, RTP, at(0.06)) is None
    assert timeline.place(93_600, RTP, at(0.08)) == 93_600


def test_a_clock_that_is_set_back_or_ahead_does_not_show():
    timeline = Timeline()
    timeline.place(90_000_000, RTP, at(0))
    assert timeline.place(0, RTP, at(0.04)) == 90_003_600
    assert timeline.place(3600, RTP, at(0.08)) == 90_007_200
    assert timeline.place(3600 + 90_000 * 3600, RTP, at(0.12)) == 90_010_800
    assert timeline.place(7200 + 90_000 * 3603, RTP, at(0.16)) == 90_014_400  # three seconds
    assert timeline.jumps == 3


def test_a_gap_that_really_passed_is_kept():
    timeline = Timeline()
    timeline.place(0, RTP, at(0))
    assert timeline.place(90_000 * 30, RTP, at(30)) == 90_000 * 30
    assert timeline.place(90_000 * 31, RTP, at(30)) == 90_000 * 31
    assert timeline.jumps == 0


def test_a_backlog_that_arrives_at_once_keeps_its_spacing():
    timeline = Timeline()
    timeline.place(0, RTP, at(0))
    assert [timeline.place(3600 * i, RTP, at(3)) for i in (1, 2, 3)] == [3600, 7200, 10_800]


def test_unknown_pts_follow_the_clock():
    timeline = Timeline()
    assert timeline.place(None, RTP, at(0)) == 0
    assert timeline.place(None, RTP, at(0.04)) == 3600
    assert timeline.place(None, RTP, at(0.04)) == 3601
    assert timeline.place(1_000_000, RTP, at(0.08)) == 7201  # the first known one is put behind them
    assert timeline.place(1_003_600, RTP, at(0.12)) == 10_801


def test_a_clock_that_stands_still_does_not_stop_the_stream():
    timeline = Timeline()
    placed = [timeline.place(90_000, RTP, at(0.04 * i)) for i in range(30)]
    shown = [pts for pts in placed if pts is not None]
    assert shown[:3] == [90_000, 90_000 + 9 * 3600, 90_000 + 18 * 3600]
    assert len(shown) == 4


def test_a_short_file_in_a_loop_goes_on():
    timeline = Timeline()
    placed = [timeline.place(3600 * (i % 20), RTP, at(0.04 * i)) for i in range(60)]
    assert placed == [3600 * i for i in range(60)]
