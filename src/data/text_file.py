"""Your own texts and labels: CSV, TSV or JSON."""

import json
from typing import Any, Literal

from src.data.corpus import Corpus, Examples
from src.data.encoder import TextEncoder
from src.data.encoding import build_text
from src.data.files import digest
from src.data.rows import ReadingOptions, Row, read_rows
from src.data.text_data import TextData
from src.errors import RequestError, did_you_mean

DIGITS = 1000
"""Of the longest label that is taken for a number; Python refuses to read one of 4,300."""


class Options(ReadingOptions):
    """``conf/data/text_file.yaml``."""

    name: Literal["text_file"]
    path: str
    val_path: str | None
    """File to validate on; null holds out a part of ``path``."""
    test_path: str | None

    def held_out(self, seed: int) -> dict[str, Any]:
        """What decides the split: which rows there are, too."""
        return super().held_out(seed) | {"empty": self.empty, "several_labels": self.several_labels}


def build(options: Options, seed: int, encoder: TextEncoder | None = None) -> TextData:
    """Read and encode the texts (see ``build_text``)."""
    return build_text(TextFileSource, options, seed, encoder)


class TextFileSource:
    """``data=text_file``: one file, of which a part is held out, or up to three files for train, val and test."""

    def __init__(self, options: Options, split_seed: int) -> None:
        self.options = options
        self.split_seed = split_seed
        self.paths = {"train": options.path}
        if options.val_path is not None:
            self.paths["val"] = options.val_path
        if options.test_path is not None:
            self.paths["test"] = options.test_path

    def fingerprint(self) -> str:
        """Hash the files."""
        digests = {split: digest(path) for split, path in self.paths.items()}
        return json.dumps(digests)

    def read(self, fit: bool) -> Corpus:
        """Read the files. The classes are those of the training file: by number if all are numbers, else by name."""
        options = self.options
        rows = {split: read_rows(path, options) for split, path in self.paths.items()}
        if not fit and "val" not in rows:
            rows["val"] = rows.pop("train")
        names = _class_names(rows["train" if "train" in rows else "val"])
        if not names:
            raise RequestError(f"{options.path}: no text has a label")
        splits = {split: self._number(split_rows, names, self.paths.get(split)) for split, split_rows in rows.items()}
        if fit and len(names) < 2 and not options.several_labels:
            raise RequestError(f"{options.path}: every label is {names[0]!r}; telling classes apart takes two of them")
        if fit and "val" not in splits:
            stratify = options.stratify and not options.several_labels
            splits["train"], splits["val"] = splits["train"].hold_out(options.holdout, self.split_seed, stratify)
            few = len(rows["train"]) < 2 if options.several_labels else len(set(splits["train"].labels)) < 2
            if few:
                raise RequestError(
                    f"{options.path}: {len(rows['train'])} examples are too few to hold some of them out;"
                    " give more, or a data.val_path"
                )
        return Corpus({split: splits[split] for split in ("train", "val", "test") if split in splits}, names)

    def _number(self, rows: list[Row], names: tuple[str, ...], path: str | None) -> Examples:
        numbers = {name: number for number, name in enumerate(names)}
        for row in rows:
            for label in row.labels:
                if label not in numbers:
                    raise RequestError(
                        f"{path}, {row.place}: the training file has no label {label!r}{did_you_mean(label, names)}"
                    )
        several = [tuple(numbers[label] for label in row.labels) for row in rows]
        labels: list[Any] = several if self.options.several_labels else [label for (label,) in several]
        return Examples([row.text for row in rows], labels)


def _class_names(rows: list[Row]) -> tuple[str, ...]:
    names = {label for row in rows for label in row.labels}
    if all(name.removeprefix("-").isdecimal() and len(name) <= DIGITS for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))
