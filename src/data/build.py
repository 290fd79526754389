"""The way in: from the options of a data set to the data."""

from src.choices import module_of
from src.data.base import Data
from src.data.encoder import TextEncoder
from src.data.options import DataOptions, TextOptions
from src.errors import RequestError


def build_data(options: DataOptions, seed: int, encoder: TextEncoder | None = None) -> Data:
    """Make, or read, split and encode, a data set.

    Args:
        options: the ``Options`` of its module.
        seed: the run's.
        encoder: that of a finished run on texts, to evaluate it on these: nothing is learned from them then, and the
            encoder's own length rule and classes hold.

    Raises:
        RequestError: the data is missing, damaged or not what it should be.
    """
    build = module_of("data", options.name).build
    if encoder is None:
        return build(options, seed)
    if not isinstance(options, TextOptions):
        raise RequestError(f"data={options.name}: the run reads texts, and this data has none")
    return build(options, seed, encoder)
