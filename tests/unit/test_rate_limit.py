"""The rate limit: a burst, a steady rate, callers apart, memory bounded."""

import pytest

from luoshu.connector.errors import NodeError
from luoshu.connector.rate_limit import RateLimiter


class Stopwatch:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def granted(limiter: RateLimiter, caller: str, calls: int) -> int:
    count = 0
    for _ in range(calls):
        try:
            limiter.take(caller)
        except NodeError as error:
            assert error.reason == "RATE_LIMITED"
        else:
            count += 1
    return count


def test_a_burst_then_the_steady_rate() -> None:
    watch = Stopwatch()
    limiter = RateLimiter(2, 5, monotonic=watch)
    assert granted(limiter, "a", 10) == 5
    watch.seconds += 1
    assert granted(limiter, "a", 10) == 2
    watch.seconds += 0.4
    assert granted(limiter, "a", 10) == 0
    watch.seconds += 0.1
    assert granted(limiter, "a", 10) == 1
    watch.seconds += 3600
    assert granted(limiter, "a", 10) == 5


def test_refused_calls_cost_no_tokens() -> None:
    watch = Stopwatch()
    limiter = RateLimiter(1, 1, monotonic=watch)
    assert granted(limiter, "a", 1) == 1
    for _ in range(10):
        watch.seconds += 0.1
        if granted(limiter, "a", 1):
            break
    assert watch.seconds == pytest.approx(1001.0)


def test_callers_are_apart() -> None:
    limiter = RateLimiter(1, 3, monotonic=Stopwatch())
    assert granted(limiter, "a", 9) == 3
    assert granted(limiter, "b", 9) == 3


def test_a_refusal_says_how_long_to_wait() -> None:
    watch = Stopwatch()
    limiter = RateLimiter(0.1, 1, monotonic=watch)
    limiter.take("a")
    with pytest.raises(NodeError) as caught:
        limiter.take("a")
    wait = int(caught.value.metadata["retry_after_seconds"])
    assert wait == 10
    watch.seconds += wait
    limiter.take("a")


def test_a_clock_that_goes_back_gives_no_tokens() -> None:
    watch = Stopwatch()
    limiter = RateLimiter(1, 2, monotonic=watch)
    assert granted(limiter, "a", 3) == 2
    watch.seconds -= 500
    assert granted(limiter, "a", 3) == 0
    watch.seconds += 500
    assert granted(limiter, "a", 3) == 0


def test_buckets_that_are_full_again_are_dropped() -> None:
    watch = Stopwatch()
    limiter = RateLimiter(1, 10, monotonic=watch, max_callers=100)
    for n in range(100):
        limiter.take(f"caller-{n}")
    watch.seconds += 10
    limiter.take("another")
    assert len(limiter) == 1


def test_new_names_gain_nothing_beyond_the_bound() -> None:
    limiter = RateLimiter(1, 4, monotonic=Stopwatch(), max_callers=3)
    assert sum(granted(limiter, f"caller-{n}", 1) for n in range(1000)) == 3 + 4
    assert len(limiter) == 3
    assert granted(limiter, "caller-0", 9) == 3


@pytest.mark.parametrize("arguments", [(0, 1), (-1, 1), (1, 0), (float("nan"), 1)])
def test_senseless_numbers_are_refused(arguments: tuple[float, int]) -> None:
    with pytest.raises(ValueError, match="rate"):
        RateLimiter(*arguments)
