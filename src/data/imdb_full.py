"""The official IMDb reviews, 25,000 to train on and 25,000 to test on (Maas et al. 2011)."""

import gzip
import hashlib
import logging
import os
import re
import tarfile
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from src.data.corpus import Corpus, Examples, Texts
from src.data.download import fetch, md5_of
from src.data.encoder import TextEncoder
from src.data.encoding import build_text
from src.data.imdb import CLASS_NAMES
from src.data.options import LabelledTextOptions
from src.data.text_data import TextData
from src.errors import RequestError

log = logging.getLogger(__name__)

OFFICIAL_COUNT = 12_500
"""Reviews of each class in each half."""

HALVES = ("train", "test")

_MEMBER = re.compile(r"(?:\./)?(?:aclImdb/)?(train|test)/(neg|pos)/(\d+)_\d+\.txt")


class Options(LabelledTextOptions):
    """``conf/data/imdb_full.yaml``."""

    name: Literal["imdb_full"]
    path: str | None
    """The official folder or archive; null downloads it."""
    url: str
    md5: str
    """Checksum of what ``url`` serves."""


def build(options: Options, seed: int, encoder: TextEncoder | None = None) -> TextData:
    """Read and encode the reviews (see ``build_text``)."""
    return build_text(ImdbFullSource, options, seed, encoder)


class Review(NamedTuple):
    """One file of the set; sorting puts them into the set's own order, whatever the archive's is."""

    half: str
    label: str
    number: int
    text: str


class ImdbFullSource:
    """``data=imdb_full``: ``train`` and ``val`` (a holdout) from the training half, ``test`` is the official one.

    123 texts stand in both halves. They are left where they are, as everybody's numbers have them.
    """

    def __init__(self, options: Options, split_seed: int) -> None:
        self.options = options
        self.split_seed = split_seed

    @cached_property
    def place(self) -> Path:
        """The folder or archive, downloaded if none is given."""
        options = self.options
        if options.path is None:
            if options.cache_dir is None:
                raise RequestError("data=imdb_full needs data.path, or a data.cache_dir to download to")
            return fetch(options.url, Path(options.cache_dir).expanduser(), options.md5)
        path = Path(options.path).expanduser()
        if not path.exists():
            raise RequestError(f"data.path={options.path}: no such folder or archive; leave it out to download it")
        return path / "aclImdb" if (path / "aclImdb").is_dir() else path

    def fingerprint(self) -> str:
        """Checksum the archive; of a folder, the names, sizes and times of its files."""
        if self.place.is_file():
            return md5_of(self.place)
        state = []
        for half in HALVES:
            for entry in _entries(self.place, half):
                stat = entry.stat()
                state.append(f"{entry.path} {stat.st_size} {stat.st_mtime_ns}")
        return hashlib.md5("\n".join(sorted(state)).encode(), usedforsecurity=False).hexdigest()

    def read(self, fit: bool) -> Corpus:
        """Read all reviews."""
        reviews = sorted(_from_archive(self.place) if self.place.is_file() else _from_folder(self.place))
        self._count(reviews)
        train, held_out = _examples(reviews, "train").hold_out(
            self.options.holdout, self.split_seed, self.options.stratify
        )
        return Corpus({"train": train, "val": held_out, "test": _examples(reviews, "test")}, CLASS_NAMES)

    def _count(self, reviews: list[Review]) -> None:
        for half in HALVES:
            for label in CLASS_NAMES:
                count = sum(review.half == half and review.label == label for review in reviews)
                if count == 0:
                    raise RequestError(f"{self.place} holds no {half}/{label}/NUMBER_RATING.txt: not the official set")
                if count != OFFICIAL_COUNT:
                    log.warning("%s: %d reviews in %s/%s, not %d", self.place, count, half, label, OFFICIAL_COUNT)


def _examples(reviews: list[Review], half: str) -> Examples:
    chosen = [review for review in reviews if review.half == half]
    return Examples(
        Texts.hold(review.text for review in chosen), [CLASS_NAMES.index(review.label) for review in chosen]
    )


def _entries(folder: Path, half: str) -> Iterator[os.DirEntry[str]]:
    for label in CLASS_NAMES:
        try:
            with os.scandir(folder / half / label) as entries:
                yield from entries
        except OSError as error:
            raise RequestError(
                f"cannot read {folder / half / label}: {error.strerror}; not the official set"
            ) from error


def _from_folder(folder: Path) -> Iterator[Review]:
    for half in HALVES:
        for entry in _entries(folder, half):
            path = Path(entry.path)
            if match := _MEMBER.fullmatch(path.relative_to(folder).as_posix()):
                yield Review(match[1], match[2], int(match[3]), _decode(path.read_bytes(), str(path)))


def _from_archive(path: Path) -> Iterator[Review]:
    """Read the reviews straight out of the archive: nothing is unpacked, so no member can write anywhere."""
    try:
        with gzip.open(path) as stream:
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    if match := _MEMBER.fullmatch(_safe_name(member, path)):
                        content = archive.extractfile(member)
                        assert content is not None
                        text = _decode(content.read(), f"{path}: {member.name}")
                        yield Review(match[1], match[2], int(match[3]), text)
            while stream.read(1 << 20):  # to the end, where gzip keeps its checksum
                pass
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise RequestError(f"{path} is damaged, or no .tar.gz archive: {error}") from error


def _safe_name(member: tarfile.TarInfo, path: Path) -> str:
    """Refuse what no official archive has in it."""
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or not (member.isfile() or member.isdir()):
        raise RequestError(f"{path} is not the official archive: unsafe member {member.name!r}")
    return member.name


def _decode(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise RequestError(f"{where}: byte 0x{content[error.start]:02x} is not UTF-8") from None
