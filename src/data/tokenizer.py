"""What a tokenizer must do, and the ids that every one of them reserves."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, Self

PAD, PAD_ID = "<pad>", 0
UNK, UNK_ID = "<unk>", 1


class Tokenizer(Protocol):
    """Text to ids and back. Id 0 is padding and never stands for text; id 1 is whatever has no id of its own."""

    @property
    def tokens(self) -> list[str]:
        """The token of every id."""
        ...

    def encode(self, texts: Iterable[str]) -> Iterator[list[int]]:
        """Turn texts into ids; a text without tokens gives an empty list."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Turn ids back into text, as nearly as the tokenizer can."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Say everything in plain JSON types."""
        ...

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Make the tokenizer again."""
        ...
