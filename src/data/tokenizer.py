"""What a tokenizer must do, and the ids that every one of them reserves."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

PAD, PAD_ID = "<pad>", 0
UNK, UNK_ID = "<unk>", 1
END_ID = PAD_ID
"""Where texts are joined to one stream, the end of each: there is no padding in a stream."""


class Tokenizer(Protocol):
    """Text to ids and back. Id 0 is padding and never stands for text; id 1 is whatever has no id of its own."""

    unit: str
    """What a token is: character, word, piece."""

    @property
    def tokens(self) -> list[str]:
        """The token of every id."""
        ...

    @property
    def characters(self) -> list[int] | None:
        """How many characters of a text each id stands for; None where the text cannot be had back from its ids."""
        ...

    def encode(self, texts: Iterable[str]) -> Iterator[NDArray[np.int32]]:
        """Turn each text into its ids; one without tokens has none."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Turn ids back into text, as nearly as the tokenizer can."""
        ...

    def unknown(self, text: str) -> list[str]:
        """The tokens of a text that have no id of their own."""
        ...

    def writer(self) -> Callable[[int], str]:
        """Start a text that ids are added to one by one; the function returns what each adds (perhaps nothing yet)."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Say everything in plain JSON types."""
        ...

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Make the tokenizer again."""
        ...
