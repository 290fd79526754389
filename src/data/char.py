"""Characters as tokens."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.data.options import CharOptions
from src.data.pieces import batches
from src.data.tokenizer import END_ID, PAD, UNK, UNK_ID


class CharTokenizer:
    """Every character is a token; decoding gives the (folded) text back, but for characters that have no id.

    Args:
        tokens: the token of every id, the reserved ones first.
        lowercase: fold case.
    """

    unit = "character"

    def __init__(self, tokens: list[str], lowercase: bool) -> None:
        self.tokens = tokens
        self.lowercase = lowercase
        self._ids = {token: id_ for id_, token in enumerate(tokens) if id_ > UNK_ID}
        self._table = np.full(max(map(ord, self._ids), default=0) + 2, UNK_ID, dtype=np.int32)  # of code points
        self._table[[ord(token) for token in self._ids]] = list(self._ids.values())

    @classmethod
    def fit(cls, texts: Iterable[str], options: CharOptions) -> "CharTokenizer":
        """Build the vocabulary of these texts: by frequency, then by code point."""
        counts = np.zeros(0, dtype=np.int64)  # of code points
        for batch in batches(texts):
            new = np.bincount(_code_points("".join(map(cls([], options.lowercase)._fold, batch))))
            counts = np.pad(counts, (0, max(len(new) - len(counts), 0)))
            counts[: len(new)] += new
        often = np.flatnonzero(counts >= options.min_freq)
        known = sorted((-int(counts[code]), chr(code)) for code in often)
        most = None if options.vocab_size is None else options.vocab_size - 2
        return cls([PAD, UNK, *(character for _, character in known[:most])], options.lowercase)

    @property
    def characters(self) -> list[int]:
        """One each; the end of a text counts as one too."""
        return [1] * len(self.tokens)

    def encode(self, texts: Iterable[str]) -> Iterator[NDArray[np.int32]]:
        """Look up every character of every text."""
        for text in texts:
            yield self._table.take(_code_points(self._fold(text)), mode="clip")  # the last entry is nobody's

    def unknown(self, text: str) -> list[str]:
        """The characters of a text that have no id."""
        return [character for character in self._fold(text) if character not in self._ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Write the characters one behind the other."""
        return "".join(self.tokens[id_] for id_ in ids)

    def writer(self) -> Callable[[int], str]:
        """Each id is its character."""
        return lambda id_: "\n" if id_ == END_ID else self.tokens[id_]

    def to_dict(self) -> dict[str, Any]:
        """Say everything in plain JSON types."""
        return {"name": "char", "lowercase": self.lowercase, "tokens": self.tokens}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "CharTokenizer":
        """Make the tokenizer again."""
        return cls(content["tokens"], content["lowercase"])

    def _fold(self, text: str) -> str:
        return text.lower() if self.lowercase else text


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
