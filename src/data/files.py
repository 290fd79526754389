"""Files of text that the user names, of any size and encoding."""

import codecs
import hashlib
import io
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

from pydantic import AfterValidator

from src.errors import RequestError

BLOCK = 1 << 22
"""Bytes that are read at once."""


def _known(value: str) -> str:
    try:
        if codecs.lookup(value)._is_text_encoding:
            return value
    except LookupError:
        pass
    raise ValueError("should be an encoding that Python knows, such as utf-8, latin-1, cp1252 or utf-16")


Encoding = Annotated[str, AfterValidator(_known)]
"""An option that says how letters are written as bytes."""


@contextmanager
def _opened(path: str | Path) -> Iterator[io.BufferedReader]:
    try:
        with Path(path).expanduser().open("rb") as file:
            yield file
    except OSError as error:
        raise RequestError(f"cannot read the data file {path}: {error.strerror}") from error


def digest(path: str | Path) -> str:
    """The SHA-256 of a file that the user named, which need not fit into memory.

    Raises:
        RequestError: it cannot be read.
    """
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_text(path: str | Path, encoding: str = "utf-8") -> str:
    """The text of a whole file (see `text_blocks`)."""
    return "".join(text_blocks(path, encoding))


@contextmanager
def open_text(path: str | Path, encoding: str, newline: str) -> Iterator[IO[str]]:
    """Open a file to be read line by line, as ``open`` does, but with what `text_blocks` says of what is wrong."""
    try:
        with _opened(path) as file, io.TextIOWrapper(file, _codec(file, encoding), newline=newline) as text:
            yield text
    except UnicodeError:
        deque(text_blocks(path, encoding), maxlen=0)  # says where
        raise


def text_blocks(path: str | Path, encoding: str = "utf-8") -> Iterator[str]:
    """The text of a file, some millions of letters at a time, without a byte order mark.

    Raises:
        RequestError: the file cannot be read, or is written in another encoding, with the byte and what to try.
    """
    with _opened(path) as file:
        decoder = codecs.getincrementaldecoder(_codec(file, encoding))()
        done = lines = 0
        while True:
            block = file.read(BLOCK)
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:  # its object is the end of what has been read
                at = done + len(block) - len(error.object) + error.start
                line = lines + block.count(b"\n", 0, max(at - done, 0)) + 1
                raise _wrong_encoding(file, path, encoding, at, line, error) from None
            except UnicodeError as error:
                raise RequestError(f"{path}: not {encoding} ({error})") from None
            if text:
                yield text
            if not block:
                return
            done, lines = done + len(block), lines + block.count(b"\n")


def _codec(file: IO[bytes], encoding: str) -> str:
    """The codec for a file: a byte order mark may stand before UTF-8 (spreadsheets write one), and need not before
    UTF-16."""
    name, start = codecs.lookup(encoding).name, file.read(4)
    file.seek(0)
    if name == "utf-8":
        return "utf-8-sig"
    marked = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE))
    return f"{name}-{sys.byteorder[0]}e" if name in ("utf-16", "utf-32") and not marked else name


def _wrong_encoding(
    file: IO[bytes], path: str | Path, encoding: str, at: int, line: int, error: UnicodeDecodeError
) -> RequestError:
    """Say where a file is not what it should be, and what it may be."""
    file.seek(0)
    marked = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    if codecs.lookup(encoding).name == "utf-8":
        other = "utf-16" if marked else "cp1252"
        return RequestError(
            f"{path}, line {line}, byte {at:,}: 0x{error.object[error.start]:02x} is not UTF-8;"
            f" save the file as UTF-8, or name its own: data.encoding={other}"
        )
    others = [name for name in (("utf-16",) if marked else ("utf-8", "latin-1")) if name != encoding.lower()]
    tried = f"; try data.encoding={' or '.join(others)}" if others else ""
    return RequestError(f"{path}, byte {at:,}: not {encoding} ({error.reason}){tried}")
