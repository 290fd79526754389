"""Clocks: calls in turn (A B A B ...) in one process, medians, and quartiles."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

Call = Callable[[], object]

WARM_UP = 3  # calls before the clock runs: compiling, tracing, first-touch memory
LEAST_TURNS = 5
BURST = 0.005  # seconds of short calls in one turn


class Times(NamedTuple):
    """Milliseconds of one call: the median, the middle half of all calls, and their number."""

    median: float
    low: float
    high: float
    calls: int

    def __str__(self) -> str:
        digits = 3 if self.median < 1 else 2 if self.median < 100 else 0
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}–{self.high:.{digits}f})"


def interleave(calls: Mapping[str, Call], seconds: float) -> dict[str, Times]:
    """Time each call, in turn, for about ``seconds`` each and at least five turns.

    A turn of a short call is a burst of some, after one that is not counted: what ran before it has filled the caches
    with its own data, and its threads may still be spinning. The garbage collector waits until the end.
    """
    guesses = {name: warm_up(call) for name, call in calls.items()}
    seen: dict[str, list[float]] = {name: [] for name in calls}
    until = time.perf_counter() + seconds * len(calls)
    gc.collect()
    gc.disable()
    try:
        turns = 0
        while turns < LEAST_TURNS or time.perf_counter() < until:
            for name, call in calls.items():
                if guesses[name] < BURST:
                    call()
                for _ in range(min(max(int(BURST / guesses[name]), 1), 50)):
                    seen[name].append(clock(call))
            turns += 1
    finally:
        gc.enable()
    return {name: summarise(values) for name, values in seen.items()}


def warm_up(call: Call) -> float:
    """Run a call until it is warm; the seconds of the last time."""
    return [clock(call) for _ in range(WARM_UP)][-1]


def clock(call: Call) -> float:
    """Seconds that one call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def summarise(seconds: list[float]) -> Times:
    """Median and quartiles, in milliseconds."""
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else seconds * 3
    return Times(1e3 * median, 1e3 * low, 1e3 * high, len(seconds))
