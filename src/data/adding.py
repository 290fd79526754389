"""The adding problem: of T numbers two are marked, and their sum is asked for at the end.

Hochreiter & Schmidhuber (1997), in the form of Arjovsky, Shah & Bengio (2016), "Unitary evolution recurrent neural
networks": the numbers are uniform between 0 and 1, one mark stands in the first half and one in the second. Always
answering 1 has a mean squared error of 1/6 = 0.167, the variance of the sum.
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from src.data.arrays import ArrayData, Arrays
from src.data.base import DataSpec
from src.data.generated import GeneratedOptions, generate


class Options(GeneratedOptions):
    """``conf/data/adding.yaml``; ``length`` is T, the numbers of a sequence."""

    name: Literal["adding"]
    length: Annotated[int, Field(ge=2)]


def build(options: Options, seed: int) -> ArrayData:
    """Two features a step, number and mark; one number to answer with."""
    steps = options.length
    baseline = {"loss": 1 / 6}
    spec = DataSpec(baseline={"train": baseline, "val": baseline}, feature_size=2, target_size=1)

    def draw(rng: np.random.Generator, count: int) -> Arrays:
        numbers = rng.random((count, steps), dtype=np.float32)
        rows = np.arange(count)
        first, second = rng.integers(0, steps // 2, count), rng.integers(steps // 2, steps, count)
        marks = np.zeros_like(numbers)
        marks[rows, first] = marks[rows, second] = 1
        sums = numbers[rows, first] + numbers[rows, second]
        return Arrays(np.stack((numbers, marks), -1), sums[:, None], np.full(count, steps))

    return generate(options, spec, draw)
