"""The temporal order problem: two of T symbols carry a message, X or Y each, and the class is which came and in which
order.

Task 6a of Hochreiter & Schmidhuber (1997), stretched to any length as by Martens & Sutskever (2011): a start symbol,
distractors a to d, the first message somewhere in the second tenth, the second one in the sixth, and an end symbol.
Guessing is right in one of four cases.
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from src.data.arrays import ArrayData, Arrays
from src.data.base import DataSpec
from src.data.generated import GeneratedOptions, generate

START, END, X, DISTRACTORS = 0, 1, 2, range(4, 8)  # Y is X + 1


class Options(GeneratedOptions):
    """``conf/data/temporal_order.yaml``; ``length`` is T, the symbols of a sequence."""

    name: Literal["temporal_order"]
    length: Annotated[int, Field(ge=10)]


def build(options: Options, seed: int) -> ArrayData:
    """Eight ids; four classes."""
    steps = options.length
    baseline = {"accuracy": 0.25}
    spec = DataSpec(baseline={"train": baseline, "val": baseline}, vocab_size=8, class_names=("XX", "XY", "YX", "YY"))

    def draw(rng: np.random.Generator, count: int) -> Arrays:
        rows = np.arange(count)
        inputs = rng.integers(DISTRACTORS.start, DISTRACTORS.stop, (count, steps))
        inputs[:, 0], inputs[:, -1] = START, END
        messages = rng.integers(0, 2, (count, 2))
        inputs[rows, rng.integers(steps // 10, steps // 5, count)] = X + messages[:, 0]
        inputs[rows, rng.integers(steps // 2, 3 * steps // 5, count)] = X + messages[:, 1]
        return Arrays(inputs, messages @ [2, 1], np.full(count, steps))

    return generate(options, spec, draw)
