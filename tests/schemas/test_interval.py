import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.interval import wilson


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        (0, 0, 0.0, 1.0),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (50, 100, 0.4038, 0.5962),
        (12, 30, 0.2459, 0.5768),
        (81, 263, 0.2553, 0.3662),  # the example of Newcombe (1998)
        (15, 148, 0.0624, 0.1605),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_is_wilsons(right, n, low, high):
    assert wilson(right, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 300), st.data())
def test_an_interval_holds_its_share_and_stays_within_nought_and_one(n, data):
    right = data.draw(st.integers(0, n))

    low, high = wilson(right, n)

    assert 0 <= low <= right / n <= high <= 1
