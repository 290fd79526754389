"""Long texts in pieces: what Python makes of a text token by token takes ten times the text's own memory."""

import re
from collections.abc import Iterator

PIECE = 1 << 20
"""Characters of a piece, at the least."""

_CUT = re.compile(r"(?<=[^\s>])[ \n\t](?=[^\s/<>])")
"""Before a single blank between two letters, where no tokenizer makes one token of both sides; nor is it a blank of
`<br />`, or beside one, which is to become a blank."""


def pieces(text: str, size: int = PIECE) -> Iterator[str]:
    """Cut a text where any tokenizer gives the tokens of the pieces, one behind the other, that it gives the whole.

    Text without blanks is one piece.
    """
    start = 0
    while len(text) - start > size and (found := _CUT.search(text, start + size)):
        yield text[start : found.start()]
        start = found.start()
    yield text[start:] if start else text
