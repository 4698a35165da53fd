import pytest

from streamsr.aligner import choose_size


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
    assert choose_size(side, before) == size
