"""The parity problem: whether the number of ones in a sequence of bits is odd.

Every bit matters until the end, and no average over them helps, which makes it hard for gradient descent from long
sequences alone (Bengio, Simard & Frasconi 1994, "Learning long-term dependencies with gradient descent is difficult").
Training sequences therefore come in all lengths from ``min_length`` on. Guessing is right half of the time.
"""

from typing import Literal, Self

import numpy as np
from pydantic import model_validator

from src.data.arrays import ArrayData, Arrays
from src.data.base import DataSpec
from src.data.generated import Count, GeneratedOptions, generate


class Options(GeneratedOptions):
    """``conf/data/parity.yaml``; ``length`` is the bits of a validation sequence, and of the longest in training."""

    name: Literal["parity"]
    min_length: Count
    """Bits of the shortest training sequence."""

    @model_validator(mode="after")
    def _no_shorter_than_the_shortest(self) -> Self:
        if self.length < self.min_length:
            raise ValueError(f"length={self.length}: should be at least min_length, which is {self.min_length}")
        return self


def build(options: Options, seed: int) -> ArrayData:
    """One feature a step, the bit; two classes."""
    baseline = {"accuracy": 0.5}
    spec = DataSpec(baseline={"train": baseline, "val": baseline}, feature_size=1, class_names=("even", "odd"))

    def draw(rng: np.random.Generator, count: int, shortest: int = options.min_length) -> Arrays:
        lengths = rng.integers(shortest, options.length, count, endpoint=True)
        bits = rng.integers(0, 2, (count, options.length)) * (np.arange(options.length) < lengths[:, None])
        return Arrays(bits[..., None].astype(np.float32), bits.sum(1) % 2, lengths)

    return generate(options, spec, draw, lambda rng, count: draw(rng, count, options.length))
