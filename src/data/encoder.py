"""From text to ids, whole: cleaning, tokenizer, length. What a model needs to read a text it has never seen."""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import src.data.bpe
import src.data.char
import src.data.word
from src.data.options import BpeOptions, CharOptions, Keep, TextOptions, WordOptions
from src.data.pieces import pieces
from src.data.split import EncodedSplit, Piece
from src.data.stored import StoredText
from src.data.tokenizer import UNK_ID, Tokenizer

TOKENIZERS: dict[str, type[Tokenizer]] = {
    "word": src.data.word.WordTokenizer,
    "bpe": src.data.bpe.BpeTokenizer,
    "char": src.data.char.CharTokenizer,
}

_LINE_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)


def clean(text: str) -> str:
    """Take HTML line breaks for blanks (the reviews are full of them) and typographic apostrophes for plain ones."""
    return _LINE_BREAK.sub(" ", text).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")


@dataclass(frozen=True)
class TextEncoder:
    """Everything between a text and the ids that a model reads, and the names of the classes it answers with."""

    tokenizer: Tokenizer
    max_length: int | None
    keep: Keep
    class_names: tuple[str, ...]

    @classmethod
    def fit(
        cls, texts: Iterable[str | StoredText], options: TextOptions, class_names: tuple[str, ...]
    ) -> "TextEncoder":
        """Build the vocabulary from ``texts``: the part that is trained on, never the holdout."""
        cleaned = (clean(piece) for text in texts for piece in pieces(text))
        tokenizer: Tokenizer
        match options.tokenizer:
            case WordOptions() as word:
                tokenizer = src.data.word.WordTokenizer.fit(cleaned, word)
            case BpeOptions() as bpe:
                tokenizer = src.data.bpe.BpeTokenizer.fit(cleaned, bpe)
            case CharOptions() as char:
                tokenizer = src.data.char.CharTokenizer.fit(cleaned, char)
        return cls(tokenizer, options.extent.max_length, options.extent.keep, class_names)

    @property
    def vocab_size(self) -> int:
        """Ids in all."""
        return len(self.tokenizer.tokens)

    def in_pieces(self, texts: Iterable[str | StoredText]) -> Iterator[Piece]:
        """Encode without cutting, some thousands of ids at a time; a text without any token is one unknown token, so
        that no sequence is empty."""
        is_last = deque[bool]()  # of the pieces that the tokenizer has been given

        def all_pieces() -> Iterator[str]:
            for text in texts:
                own = pieces(text)
                piece = next(own)
                for following in own:
                    is_last.append(False)
                    yield clean(piece)
                    piece = following
                is_last.append(True)
                yield clean(piece)

        empty = True
        for ids in self.tokenizer.encode(all_pieces()):
            empty, last = empty and not len(ids), is_last.popleft()
            yield (np.array([UNK_ID], dtype=np.int32) if empty and last else ids), last
            empty = empty or last

    def encode_whole(
        self, texts: Iterable[str | StoredText], labels: Sequence[int] | NDArray[Any] | None = None
    ) -> EncodedSplit:
        """Encode without cutting. Without ``labels`` every label is ``UNKNOWN_LABEL``."""
        return EncodedSplit.from_pieces(self.in_pieces(texts), labels)

    def encode(self, texts: Iterable[str], labels: Sequence[int] | NDArray[Any] | None = None) -> EncodedSplit:
        """Encode and cut to length."""
        return self.encode_whole(texts, labels).cut(self.max_length, self.keep)

    def decode(self, ids: Sequence[int]) -> str:
        """Write ids as text."""
        return self.tokenizer.decode(ids)

    def to_dict(self) -> dict[str, Any]:
        """Say everything in plain JSON types."""
        return {
            "tokenizer": self.tokenizer.to_dict(),
            "max_length": self.max_length,
            "keep": self.keep,
            "class_names": list(self.class_names),
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "TextEncoder":
        """Make the encoder again."""
        tokenizer = content["tokenizer"]
        return cls(
            TOKENIZERS[tokenizer["name"]].from_dict(tokenizer),
            content["max_length"],
            content["keep"],
            tuple(content["class_names"]),
        )
