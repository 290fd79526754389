"""Encoded data on disk, so that the second run starts at once. Nothing here can make a run fail."""

import hashlib
import json
import logging
import mmap
import struct
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from zipfile import ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from src.data.split import EncodedSplit, Piece, lay
from src.errors import RunError
from src.files import atomic_file

log = logging.getLogger(__name__)

_FORMAT = 2  # raise it when the meaning of an entry changes: cleaning, tokenizing, or the arrays below
_ALIGNED = 64
"""Bytes: an array that begins elsewhere would be copied whole whenever something is taken from it."""
_HEADER = 30
"""Bytes of a member's header in the zip format before its name."""
_READ = 1 << 20
_OLD_SECONDS = 86_400
"""Since somebody last wrote to a file that never got its name: he is gone."""


def cache_key(**parts: Any) -> str:
    """Hash all that the encoded data depends on."""
    content = json.dumps({"format": _FORMAT, **parts}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Unwritten:
    """A split to be encoded while it is written.

    Args:
        pieces: starts the encoding; it is called again if writing fails.
        labels: of the examples.
        joined: whether it is written as a stream (see `EncodedSplit`).
    """

    pieces: Callable[[], Iterable[Piece]]
    labels: NDArray[Any]
    joined: bool


Entry = tuple[dict[str, EncodedSplit], dict[str, Any]]


class Cache:
    """A folder with one .zip file an entry: the splits' arrays as they lie in memory, and what else is to be kept as
    JSON. It is written piece by piece and mapped into memory, so that no split need fit there.

    The zip format checks every array, so a damaged file shows itself.

    Args:
        folder: None for no cache; it is made when needed, and done without if it cannot be written.
    """

    def __init__(self, folder: str | None) -> None:
        self.folder = None if folder is None else Path(folder).expanduser()

    def load(self, name: str) -> Entry | None:
        """Return (splits, extra) of an entry, or None if there is none that can be used."""
        if self.folder is None:
            return None
        path = self.folder / f"{name}.zip"
        try:
            with path.open("rb") as file:
                return _read(file)
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever a damaged file makes the reader say
            log.warning("%s cannot be read (%s); encoding again", path, _one_line(error))
            return None

    def save(self, name: str, splits: Mapping[str, Unwritten], kind: np.dtype[Any], extra: dict[str, Any]) -> Entry:
        """Write an entry, or warn and write it where nobody finds it again; return it.

        Args:
            kind: of the ids in the file.
            extra: what else is kept.

        Raises:
            RunError: there is no room for it anywhere.
        """
        if self.folder is not None:
            try:
                _remove_leftovers(self.folder)
                with atomic_file(self.folder / f"{name}.zip", "w+b") as file:
                    return _written(file, splits, kind, extra)
            except (OSError, RunError) as error:
                if not isinstance(error.__cause__ or error, OSError):
                    raise
                log.warning("encoded data is not kept: %s", _one_line(error))
        try:
            with tempfile.TemporaryFile() as file:
                return _written(file, splits, kind, extra)
        except OSError as error:
            raise RunError(f"cannot write encoded data to {tempfile.gettempdir()}: {error.strerror}") from error

    def remove(self, name: str) -> None:
        """Delete an entry, if there is one."""
        if self.folder is not None:
            with suppress(OSError):
                (self.folder / f"{name}.zip").unlink()


def _written(file: IO[bytes], splits: Mapping[str, Unwritten], kind: np.dtype[Any], extra: dict[str, Any]) -> Entry:
    arrays: dict[str, tuple[str, list[int]]] = {}
    with ZipFile(file, "w") as archive:
        for name, split in splits.items():
            with archive.open(_member(file, f"{name}.ids"), "w", force_zip64=True) as member:
                offsets = lay(split.pieces(), lambda ids: member.write(ids.astype(kind).data), split.joined)
            arrays[f"{name}.ids"] = kind.str, [int(offsets[-1])]
            for part, array in (("offsets", offsets), ("labels", split.labels)):
                with archive.open(_member(file, f"{name}.{part}"), "w", force_zip64=True) as member:
                    member.write(np.ascontiguousarray(array).data)
                arrays[f"{name}.{part}"] = array.dtype.str, list(array.shape)
        content = {"splits": {name: split.joined for name, split in splits.items()}, "arrays": arrays, "extra": extra}
        archive.writestr(ZipInfo("json"), json.dumps(content))
    file.flush()
    return _read(file)


def _member(file: IO[bytes], name: str) -> ZipInfo:
    """The next member, whose content begins at a multiple of ``_ALIGNED``."""
    info = ZipInfo(name)
    begin = file.tell() + _HEADER + len(name) + 20 + 4  # two sizes of eight bytes, and what says how long the rest is
    padding = -begin % _ALIGNED
    info.extra = struct.pack("<HH", 0xFFFF, padding) + bytes(padding)
    return info


def _read(file: IO[bytes]) -> Entry:
    with ZipFile(file) as archive:
        for info in archive.infolist():
            with archive.open(info) as member:  # compares checksums
                while member.read(_READ):
                    pass
        content = json.loads(archive.read("json"))
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        arrays = {
            name: np.ndarray(shape, kind, memory, _begin(memory, archive.getinfo(name).header_offset))
            for name, (kind, shape) in content["arrays"].items()
        }
    splits = {
        name: EncodedSplit(arrays[f"{name}.ids"], arrays[f"{name}.offsets"], arrays[f"{name}.labels"], joined)
        for name, joined in content["splits"].items()
    }
    return splits, content["extra"]


def _begin(memory: mmap.mmap, header: int) -> int:
    """Where a member's content begins: behind its header, a name and the padding."""
    name, padding = struct.unpack_from("<HH", memory, header + _HEADER - 4)
    return int(header + _HEADER + name + padding)


def _remove_leftovers(folder: Path) -> None:
    """Delete what killed processes have left half-written."""
    for path in folder.glob(".*.tmp"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _OLD_SECONDS:
                path.unlink()


def _one_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
