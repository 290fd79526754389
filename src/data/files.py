"""Files of text that the user names."""

import codecs
import hashlib
from pathlib import Path

from src.errors import RequestError


def read_bytes(path: str | Path) -> bytes:
    """Read a file that the user named.

    Raises:
        RequestError: it cannot be read.
    """
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise RequestError(f"cannot read the data file {path}: {error.strerror}") from error


def digest(path: str | Path) -> str:
    """The SHA-256 of a file that the user named, which need not fit into memory.

    Raises:
        RequestError: it cannot be read.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RequestError(f"cannot read the data file {path}: {error.strerror}") from error


def decode(content: bytes, path: str | Path, encoding: str = "utf-8") -> str:
    """Take bytes for text.

    Raises:
        RequestError: they are not, with the line and the byte.
    """
    utf8 = codecs.lookup(encoding).name == "utf-8"
    try:
        return content.decode("utf-8-sig" if utf8 else encoding)  # spreadsheets write a byte order mark
    except UnicodeDecodeError as error:
        if not utf8:
            raise RequestError(f"{path}, byte {error.start}: not {encoding} ({error.reason})") from None
        line = content.count(b"\n", 0, error.start) + 1
        raise RequestError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from None
    except UnicodeError as error:  # utf-16 without its mark, say
        raise RequestError(f"{path}: not {encoding} ({error})") from None
