"""Files of text that the user names."""

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


def decode(content: bytes, path: str | Path) -> str:
    """Take bytes for UTF-8.

    Raises:
        RequestError: they are not, with the line and the byte.
    """
    try:
        return content.decode("utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RequestError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from None
