"""Characters as tokens."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from src.data.options import CharOptions
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

    @classmethod
    def fit(cls, texts: Iterable[str], options: CharOptions) -> "CharTokenizer":
        """Build the vocabulary of these texts: by frequency, then by code point."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(text.lower() if options.lowercase else text)
        known = sorted((-count, character) for character, count in counts.items() if count >= options.min_freq)
        most = None if options.vocab_size is None else options.vocab_size - 2
        return cls([PAD, UNK, *(character for _, character in known[:most])], options.lowercase)

    @property
    def characters(self) -> list[int]:
        """One each; the end of a text counts as one too."""
        return [1] * len(self.tokens)

    def encode(self, texts: Iterable[str]) -> Iterator[list[int]]:
        """Look up every character of every text."""
        find = self._ids.get
        for text in texts:
            yield [find(character, UNK_ID) for character in self._fold(text)]

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
