"""A text that stays in its file: only as much of it is in memory as somebody is reading."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from src.data.files import text_blocks
from src.errors import RequestError


@dataclass(frozen=True)
class StoredText:
    """A part of a file's text, with plain line ends (``\\r\\n`` is one letter, ``\\n``).

    Args:
        path: of the file.
        encoding: of its letters.
        start: letters before the part.
        stop: where it ends; None: with the file.
    """

    path: Path
    encoding: str = "utf-8"
    start: int = 0
    stop: int | None = None

    def blocks(self) -> Iterator[str]:
        """The text, some millions of letters at a time.

        Raises:
            RequestError: the file cannot be read, or is written in another encoding.
        """
        position = 0
        for block in plain_lines(text_blocks(self.path, self.encoding)):
            end = position + len(block) if self.stop is None else min(position + len(block), self.stop)
            if end > max(self.start, position):
                yield block[max(self.start - position, 0) : end - position]
            position += len(block)
            if self.stop is not None and position >= self.stop:
                return

    def __str__(self) -> str:
        return "".join(self.blocks())

    def measure(self) -> int:
        """Count the letters.

        Raises:
            RequestError: it cannot be read, is written in another encoding, or holds nothing but blanks.
        """
        count, blank = 0, True
        for block in self.blocks():
            count += len(block)
            blank = blank and block.isspace()
        if blank:
            raise RequestError(f"{self.path}: the file is empty; a language model needs text")
        return count


def plain_lines(blocks: Iterator[str]) -> Iterator[str]:
    """Take ``\\r\\n`` for ``\\n``, also where the end of a block stands between the two."""
    held = ""
    for block in blocks:
        block = held + block
        held = "\r" if block.endswith("\r") else ""
        yield block.removesuffix("\r").replace("\r\n", "\n")
    yield held
