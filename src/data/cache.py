"""Encoded data on disk, so that the second run starts at once. Nothing here can make a run fail."""

import hashlib
import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from src.data.split import EncodedSplit
from src.errors import RunError
from src.files import write_atomic

log = logging.getLogger(__name__)

_FORMAT = 1  # raise it when the meaning of an entry changes: cleaning, tokenizing, or the arrays below


def cache_key(**parts: Any) -> str:
    """Hash all that the encoded data depends on."""
    content = json.dumps({"format": _FORMAT, **parts}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:24]


class Cache:
    """A folder with one .npz file an entry: the splits' arrays, and what else is to be kept as JSON.

    The zip format checks every array it hands out, so a damaged file shows itself.

    Args:
        folder: None for no cache; it is made when needed, and done without if it cannot be written.
    """

    def __init__(self, folder: str | None) -> None:
        self.folder = None if folder is None else Path(folder).expanduser()

    def load(self, name: str) -> tuple[dict[str, EncodedSplit], dict[str, Any]] | None:
        """Return (splits, extra) of an entry, or None if there is none that can be used."""
        if self.folder is None:
            return None
        path = self.folder / f"{name}.npz"
        try:
            with np.load(path, allow_pickle=False) as entry:
                extra = json.loads(entry["json"].tobytes())
                arrays = {key: entry[key] for key in entry.files}
            splits = {
                split: EncodedSplit(*(arrays[f"{split}.{part}"] for part in ("ids", "offsets", "labels")))
                for split in extra["splits"]
            }
            return splits, extra["extra"]
        except FileNotFoundError:
            return None
        except Exception as error:  # whatever a damaged file makes the reader say
            log.warning("%s cannot be read (%s); encoding again", path, _one_line(error))
            return None

    def save(self, name: str, splits: dict[str, EncodedSplit], extra: dict[str, Any]) -> None:
        """Write an entry, or warn."""
        if self.folder is None:
            return
        arrays: dict[str, Any] = {}
        for split, encoded in splits.items():
            arrays |= {
                f"{split}.ids": encoded.ids,
                f"{split}.offsets": encoded.offsets,
                f"{split}.labels": encoded.labels,
            }
        content = json.dumps({"splits": list(splits), "extra": extra}).encode()
        buffer = io.BytesIO()
        np.savez(buffer, json=np.frombuffer(content, np.uint8), **arrays)
        try:
            write_atomic(self.folder / f"{name}.npz", buffer.getvalue())
        except (OSError, RunError) as error:
            log.warning("encoded data is not kept: %s", _one_line(error))


def _one_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
