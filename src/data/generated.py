"""Problems that are made and not collected: any length, any number of examples."""

from typing import Annotated

import numpy as np
from pydantic import Field

from src.data.arrays import VALIDATION, ArrayData, Draw, Split, Stream
from src.data.base import DataSpec
from src.data.options import DataOptions

Count = Annotated[int, Field(ge=1)]


class GeneratedOptions(DataOptions):
    """What every generated problem needs to be told."""

    length: Count
    """T; how long sequences are, or how long something has to be remembered: see the problem."""
    train_size: Count
    """Examples an epoch, drawn anew each time by the run's seed: none is seen twice."""
    val_size: Count
    """Examples validated on, the same ones for every run."""
    val_seed: Annotated[int, Field(ge=0)]


def generate(options: GeneratedOptions, spec: DataSpec, draw: Draw, draw_val: Draw | None = None) -> ArrayData:
    """Make the data of a problem.

    Args:
        options: sizes, and the seed of the validation set.
        spec: what the data says of itself.
        draw: draws so many training examples.
        draw_val: draws those of the validation set, where they differ in kind.
    """
    fixed = (draw_val or draw)(np.random.default_rng([VALIDATION, options.val_seed]), options.val_size)
    return ArrayData(spec, {"train": Split(Stream(draw, options.train_size)), "val": Split(fixed)})
