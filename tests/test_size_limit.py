"""The largest crop a live stream can afford, on frames that are only told of."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from streamsr.size_limit import CALM_FRAMES, MANY, MOST_CALM_FRAMES, OVER_FRAMES, SizeLimit

SIZES = (256, 512)


def lowered_after(limit: SizeLimit, falls: Callable[[int], bool], frames: int = 2000) -> int | None:
    for index in range(frames):
        limit.saw(fell=falls(index), spare=False)
        if limit.lowered:
            return index + 1
    return None


def raised_after(limit: SizeLimit) -> int:
    frames = 0
    while limit.lowered:
        limit.saw(fell=False, spare=True)
        frames += 1
    return frames


def test_a_hiccup_changes_nothing_and_an_overload_does() -> None:
    limit = SizeLimit(SIZES)
    assert limit.largest == 512
    assert lowered_after(limit, lambda index: index < OVER_FRAMES * MANY) is None
    assert lowered_after(limit, lambda index: index % 2 == 0) is None
    assert lowered_after(limit, lambda index: index % 3 != 0) is None  # a third have a step
    assert lowered_after(limit, lambda index: index % 5 != 0) is not None
    assert limit.largest == 256


def test_what_has_one_size_keeps_it() -> None:
    limit = SizeLimit((512,))
    assert lowered_after(limit, lambda _: True) is None
    assert limit.largest == 512


@pytest.mark.parametrize(("fell", "spare"), [(False, False), (True, True)])
def test_it_stays_low_without_time_to_spare(fell: bool, spare: bool) -> None:
    limit = SizeLimit(SIZES)
    lowered_after(limit, lambda _: True)
    for index in range(4 * CALM_FRAMES):
        limit.saw(fell=fell and index % 100 == 0, spare=spare)
    assert limit.lowered


def test_where_it_is_too_much_again_the_next_trial_waits_longer() -> None:
    limit = SizeLimit(SIZES)
    waits = []
    for _ in range(7):
        assert lowered_after(limit, lambda _: True) is not None
        waits.append(raised_after(limit))
    assert waits == [min(2**n * CALM_FRAMES, MOST_CALM_FRAMES) for n in range(7)]
    assert lowered_after(limit, lambda index: index > MOST_CALM_FRAMES, 2 * MOST_CALM_FRAMES) is not None
    assert raised_after(limit) == CALM_FRAMES
