from itertools import islice

import pytest

from streamsr.io.backoff import delays


def test_grows_to_the_cap_and_stays():
    pauses = list(islice(delays(0.5, 4.0, uniform=lambda: 0.0), 6))
    assert pauses == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]


def test_jitter_shortens_by_the_random_share():
    draws = iter([0.0, 0.5, 1.0])
    assert list(islice(delays(1.0, 1.0, jitter=0.4, uniform=lambda: next(draws)), 3)) == [1.0, 0.8, 0.6]


def test_never_above_the_cap_nor_zero_and_not_all_the_same():
    pauses = list(islice(delays(0.5, 4.0), 200))
    assert all(0 < pause <= 4.0 for pause in pauses)
    assert len(set(pauses[10:])) > 100


def test_goes_on_for_years():
    pauses = delays(0.5, 4.0, factor=10.0, uniform=lambda: 0.0)
    assert next(islice(pauses, 100_000, None)) == 4.0


@pytest.mark.parametrize(
    "arguments",
    [{"first_s": 0}, {"first_s": 5, "cap_s": 4}, {"factor": 0.5}, {"jitter": -0.1}, {"jitter": 1.1}],
)
def test_refuses_values_out_of_range_at_once(arguments):
    with pytest.raises(ValueError):
        delays(**arguments)
