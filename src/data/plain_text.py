"""Text without labels, for a language model: a file, or a folder in one of the usual layouts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from src.data.corpus import Corpus, Examples
from src.data.encoder import TextEncoder
from src.data.encoding import build_text
from src.data.files import Encoding, digest
from src.data.options import TextOptions
from src.data.split import UNKNOWN_LABEL
from src.data.stored import StoredText
from src.data.text_data import TextData
from src.errors import RequestError

LAYOUTS = (
    {"train": "ptb.train.txt", "val": "ptb.valid.txt", "test": "ptb.test.txt"},
    {"train": "wiki.train.tokens", "val": "wiki.valid.tokens", "test": "wiki.test.tokens"},
    {"train": "train.txt", "val": "valid.txt", "test": "test.txt"},
    {"train": "train.txt", "val": "val.txt", "test": "test.txt"},
)
"""File names that say what is what: Penn Treebank as Mikolov prepared it, WikiText, and anybody's own."""


class Options(TextOptions):
    """``conf/data/plain_text.yaml``."""

    name: Literal["plain_text"]
    path: Annotated[str, Field(min_length=1)]
    encoding: Encoding


def build(options: Options, seed: int, encoder: TextEncoder | None = None) -> TextData:
    """Read and encode the text (see ``build_text``)."""
    return build_text(PlainTextSource, options, seed, encoder)


class PlainTextSource:
    """``data=plain_text``: one file, whose last share is held out; a folder that holds train, val and perhaps test by
    name; or a folder of .txt files, the last share of which, by name, is held out whole.

    Raises:
        RequestError: there is nothing there to read.
    """

    def __init__(self, options: Options, split_seed: int) -> None:
        self.options = options
        path = Path(options.path).expanduser()
        self.files = find(path) if path.is_dir() else {"": [path]}

    def fingerprint(self) -> str:
        """Hash the files, split by split."""
        digests = {split: [digest(path) for path in paths] for split, paths in self.files.items()}
        return json.dumps(digests)

    def read(self, fit: bool) -> Corpus:
        """Read the files once, to see that they are text; what they say is read piece by piece where it is needed."""
        texts = {
            split: [StoredText(path, self.options.encoding) for path in paths] for split, paths in self.files.items()
        }
        letters = {split: [text.measure() for text in own] for split, own in texts.items()}
        if "" in texts:
            texts = split_off(texts[""], letters[""], self.options.holdout) if fit else {"val": texts[""]}
        return Corpus({split: Examples(own, [UNKNOWN_LABEL] * len(own)) for split, own in texts.items()}, ())


def find(folder: Path) -> dict[str, list[Path]]:
    """The files of each split in a folder; under "" those of one that says nothing about splits.

    Raises:
        RequestError: the folder has a training file and nothing to validate on, or no text at all.
    """
    near = next((layout for layout in LAYOUTS if (folder / layout["train"]).exists()), None)
    for layout in LAYOUTS:
        found = {split: [folder / name] for split, name in layout.items() if (folder / name).exists()}
        if {"train", "val"} <= found.keys():
            return found
    if near is not None:
        raise RequestError(f"data.path={folder}: has {near['train']}, but no {near['val']} to validate on")
    texts = sorted(folder.rglob("*.txt"))
    if not texts:
        known = "; ".join(", ".join(layout.values()) for layout in LAYOUTS[:3])
        raise RequestError(f"data.path={folder}: no .txt file in this folder, nor one of the known layouts ({known})")
    return {"": texts}


def split_off(texts: list[StoredText], letters: list[int], share: float) -> dict[str, list[StoredText]]:
    """The last share of one text's letters, or the last of many texts, for validation."""
    if len(texts) == 1:
        train = int(letters[0] * (1 - share))
        return {"train": [replace(texts[0], stop=train)], "val": [replace(texts[0], start=train)]}
    train = min(max(len(texts) - round(len(texts) * share), 1), len(texts) - 1)
    return {"train": texts[:train], "val": texts[train:]}
