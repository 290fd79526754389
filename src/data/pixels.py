"""Pictures read pixel by pixel, row by row, or in an order that makes neighbours strangers.

Le, Jaitly & Hinton (2015), "A simple way to initialize recurrent networks of rectified linear units".
"""

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from src.data.arrays import ArrayData, Arrays, Split
from src.data.base import DataSpec
from src.data.labels import count_classes, majority
from src.data.options import DataOptions, Share
from src.data.split import holdout_indices
from src.errors import RequestError


class PixelOptions(DataOptions):
    """What every set of pictures needs to be told."""

    order: Literal["sequential", "rows", "permuted"]
    """One pixel a step from the top left on; one row of pixels a step; one pixel a step in a fixed random order."""
    permutation_seed: Annotated[int, Field(ge=0)]
    """Of the order of ``permuted``, the same for every picture and every run."""
    holdout: Share
    """Share of the training part that is held out for validation."""
    split_seed: Annotated[int, Field(ge=0)] | None
    """Seed of the shuffle before the holdout is cut off; null takes the run's seed."""

    def seed_of_split(self, seed: int) -> int:
        """``split_seed``, or the run's."""
        return seed if self.split_seed is None else self.split_seed

    def held_out(self, seed: int) -> dict[str, Any]:
        """The seed of the split, and the share."""
        return {"seed": self.seed_of_split(seed), "holdout": self.holdout}


Labelled = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Pictures [N, height, width] and their classes [N]."""


def read_pixels(options: PixelOptions, seed: int, train: Labelled, test: Labelled | None, brightest: int) -> ArrayData:
    """Make sequences of pictures, and hold some of the training part out.

    Args:
        options: the order of the pixels, and what is held out.
        seed: the run's.
        train: to learn from, in the order of its makers.
        test: what they set apart, if they did.
        brightest: value of a white pixel, which becomes 1.
    Raises:
        RequestError: pictures of two sizes.
    """
    pictures, classes = train
    kept, held_out = holdout_indices(len(classes), options.holdout, options.seed_of_split(seed))
    parts: dict[str, Labelled] = {
        "train": (pictures[kept], classes[kept]),
        "val": (pictures[held_out], classes[held_out]),
    }
    if test is not None:
        if test[0].shape[1:] != pictures.shape[1:]:
            raise RequestError(
                f"data={options.name}: training pictures of {list(pictures.shape[1:])} pixels,"
                f" test pictures of {list(test[0].shape[1:])}"
            )
        parts["test"] = test
    splits = {name: Split(_sequences(options, part, 1 / brightest)) for name, part in parts.items()}
    names = tuple(str(digit) for digit in range(max(int(part.max()) for _, part in parts.values()) + 1))
    counts = {name: count_classes(own, len(names)) for name, (_, own) in parts.items()}
    spec = DataSpec(
        baseline={name: majority(own) for name, own in counts.items()},
        feature_size=pictures.shape[2] if options.order == "rows" else 1,
        class_names=names,
        class_counts=counts["train"],
    )
    return ArrayData(spec, splits)


def _sequences(options: PixelOptions, part: Labelled, scale: float) -> Arrays:
    pictures, classes = part
    if options.order != "rows":
        pictures = pictures.reshape(len(pictures), -1, 1)
    if options.order == "permuted":
        pictures = pictures[:, np.random.default_rng(options.permutation_seed).permutation(pictures.shape[1])]
    return Arrays(pictures, classes, np.full(len(pictures), pictures.shape[1]), scale)
