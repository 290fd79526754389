"""1,797 handwritten digits of 8 x 8 pixels in 17 shades, as scikit-learn carries them: nothing to download.

The test part of Alpaydin & Kaynak (1998), "Optical recognition of handwritten digits"; ``val`` is a holdout of it.
"""

from typing import Literal

import numpy as np

from src.data.arrays import ArrayData
from src.data.pixels import PixelOptions, read_pixels


class Options(PixelOptions):
    """``conf/data/digits.yaml``."""

    name: Literal["digits"]


def build(options: Options, seed: int) -> ArrayData:
    """Read the pictures from scikit-learn's files."""
    from sklearn.datasets import load_digits  # late: slow to import

    found = load_digits()
    return read_pixels(
        options, seed, (found.images.astype(np.uint8), found.target.astype(np.int64)), None, brightest=16
    )
