"""Long texts in pieces: what Python makes of a text token by token takes ten times the text's own memory."""

import re
from collections.abc import Iterable, Iterator

from src.data.stored import StoredText

PIECE = 1 << 20
"""Characters of a piece, at the least."""
BATCH = 1000
"""Short texts, at most, that are handed on together."""

_CUT = re.compile(r"(?<=[^>])[ \n\t](?=[^\s/<>\"])")
"""Before the last blank between two letters, where no tokenizer makes one token of both sides; nor is it a blank of
`<br />`, or beside one, which is to become a blank."""


def pieces(text: str | StoredText, size: int = PIECE) -> Iterator[str]:
    """Cut a text where any tokenizer gives the tokens of the pieces, one behind the other, that it gives the whole.

    Text without blanks is one piece. No more is held of a text that lies in a file.
    """
    rest, first = "", size  # `first`: where the next cut may be
    for block in (text,) if isinstance(text, str) else text.blocks():
        rest += block
        start = 0
        while found := _CUT.search(rest, first):
            yield rest[start : found.start()]
            start, first = found.start(), found.start() + size
        rest = rest[start:]
        first = max(first - start, len(rest) - 1)  # a blank at the very end: what comes after it decides
    yield rest


def batches(texts: Iterable[str], characters: int = PIECE) -> Iterator[list[str]]:
    """Put texts together until they have so many characters, or there are many of them."""
    batch, size = list[str](), 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= characters or len(batch) >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
