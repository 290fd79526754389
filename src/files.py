"""Files that are either whole or not there: a reader never sees a half-written one, whatever kills the writer."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from src.errors import RunError, chain


@contextmanager
def atomic_file(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a file that takes its name only when the block ends well; until then the old one stays as it was.

    The data goes to a temporary file in the same folder (a rename is atomic only within a file system), is flushed to
    the disk and renamed. Any exception leaves the old file and no temporary one.

    Args:
        path: the file to (re)place; its folder is made if missing.
        mode: "wb" for bytes, "w" for UTF-8 text.

    Raises:
        RunError: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    # A name of its own for each writer: two processes may fill one cache at the same moment, and the last one wins.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, Exception) and (trouble := _disk_trouble(error)):
            raise RunError(f"cannot write {path}: {os.strerror(trouble)}; {_fate(path)}") from error
        raise
    _sync_folder(path.parent)


def write_atomic(path: str | Path, data: str | bytes) -> None:
    """Write a whole file, or leave the old one as it was (see `atomic_file`)."""
    with atomic_file(path, "w" if isinstance(data, str) else "wb") as file:
        file.write(data)


def remove_leftovers(folder: str | Path) -> None:
    """Delete the temporary files that a killed writer left in a folder nobody else is writing to."""
    for temporary in Path(folder).glob(".*.tmp"):
        temporary.unlink(missing_ok=True)


_DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EFBIG}


def _disk_trouble(error: Exception) -> int | None:
    """The system's number for what is wrong with the disk, which a writer such as torch.save hides behind its own."""
    numbers = (link.errno for link in chain(error) if isinstance(link, OSError))
    return next((number for number in numbers if number in _DISK_TROUBLE), None)


def _fate(path: Path) -> str:
    return "the previous file is unchanged" if path.exists() else "no file was left behind"


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where the system lets a folder be opened."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
