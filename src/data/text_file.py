"""Your own texts and labels: CSV, TSV or JSON."""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

from src.data.corpus import Corpus, Examples, Texts
from src.data.encoder import TextEncoder
from src.data.encoding import build_text
from src.data.files import digest
from src.data.rows import ReadingOptions, read_rows
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
        tables = {split: Table.read(path, options) for split, path in self.paths.items()}
        if not fit and "val" not in tables:
            tables["val"] = tables.pop("train")
        names = _class_names(tables["train" if "train" in tables else "val"].first)
        if not names:
            raise RequestError(f"{options.path}: no text has a label")
        splits = {split: table.number(names, self.paths.get(split)) for split, table in tables.items()}
        if fit and len(names) < 2 and not options.several_labels:
            raise RequestError(f"{options.path}: every label is {names[0]!r}; telling classes apart takes two of them")
        if fit and "val" not in splits:
            count = len(splits["train"].texts)
            splits["train"], splits["val"] = splits["train"].hold_out(
                options.holdout, self.split_seed, options.stratify
            )
            few = count < 2 if options.several_labels else len(set(splits["train"].labels)) < 2
            if few:
                raise RequestError(
                    f"{options.path}: {count} examples are too few to hold some of them out;"
                    " give more, or a data.val_path"
                )
        return Corpus({split: splits[split] for split in ("train", "val", "test") if split in splits}, names)


class Table(NamedTuple):
    """What stands in one file."""

    texts: Texts
    labels: list[Any]
    """Of each text the place of its label in ``first``; a tuple of them, where it may have several."""
    first: dict[str, str]
    """The labels in the order in which they come, and where each stands first."""

    @classmethod
    def read(cls, path: str, options: Options) -> "Table":
        """Read a file, holding no more of a row than its text and numbers for its labels."""
        places = dict[str, tuple[int, str]]()
        labels = list[Any]()

        def texts() -> Iterator[str]:
            for row in read_rows(path, options):
                own = tuple(places.setdefault(label, (len(places), row.place))[0] for label in row.labels)
                labels.append(own if options.several_labels else own[0])
                yield row.text

        held = Texts.hold(texts())
        return cls(held, labels, {label: place for label, (_, place) in places.items()})

    def number(self, names: tuple[str, ...], path: str | None) -> Examples:
        """The examples, with the numbers that their labels have among these."""
        known = {name: number for number, name in enumerate(names)}
        for label, place in self.first.items():
            if label not in known:
                raise RequestError(
                    f"{path}, {place}: the training file has no label {label!r}{did_you_mean(label, names)}"
                )
        numbers = [known[label] for label in self.first]
        return Examples(
            self.texts,
            [tuple(numbers[one] for one in own) if isinstance(own, tuple) else numbers[own] for own in self.labels],
        )


def _class_names(names: Iterable[str]) -> tuple[str, ...]:
    names = list(names)
    if all(name.removeprefix("-").isdecimal() and len(name) <= DIGITS for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))
