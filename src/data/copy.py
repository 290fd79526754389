"""The copying problem: ten symbols are shown, and must be repeated after T steps of nothing.

Hochreiter & Schmidhuber (1997), in the form of Arjovsky, Shah & Bengio (2016), "Unitary evolution recurrent neural
networks": S symbols of K kinds, T - 1 blanks, a marker that asks for them, and S blanks in which to answer. Everywhere
else the answer is a blank. A model without memory answers blanks until the marker and then guesses: S ln K / (T + 2 S)
nats a step.
"""

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from src.data.arrays import ArrayData, Arrays
from src.data.base import DataSpec
from src.data.generated import Count, GeneratedOptions, generate

BLANK = 0


class Options(GeneratedOptions):
    """``conf/data/copy.yaml``; ``length`` is T, the steps between the last symbol and the first answer."""

    name: Literal["copy"]
    symbols: Count
    """S; how many symbols are to be remembered."""
    alphabet: Annotated[int, Field(ge=2)]
    """K; how many kinds there are."""


def build(options: Options, seed: int) -> ArrayData:
    """Ids: blank 0, symbols 1 to K, marker K + 1. Classes of each step: blank and symbols."""
    shown, kinds = options.symbols, options.alphabet
    steps = options.length + 2 * shown
    baseline = {"loss": shown * math.log(kinds) / steps, "accuracy": (steps - shown + shown / kinds) / steps}
    spec = DataSpec(
        baseline={"train": baseline, "val": baseline},
        vocab_size=kinds + 2,
        class_names=("blank", *map(str, range(1, kinds + 1))),
        target="step",
    )

    def draw(rng: np.random.Generator, count: int) -> Arrays:
        symbols = rng.integers(1, kinds, (count, shown), endpoint=True)
        inputs = np.full((count, steps), BLANK)
        targets = np.full((count, steps), BLANK)
        inputs[:, :shown] = symbols
        inputs[:, shown + options.length - 1] = kinds + 1
        targets[:, -shown:] = symbols
        return Arrays(inputs, targets, np.full(count, steps))

    return generate(options, spec, draw)
