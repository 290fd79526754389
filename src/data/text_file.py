"""Your own texts and labels: CSV, TSV or JSONL, and a clear word about every way in which such a file can be wrong."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from src.data.corpus import Corpus, Examples
from src.data.encoder import TextEncoder
from src.data.encoding import build_text
from src.data.files import decode, read_bytes
from src.data.options import LabelledTextOptions
from src.data.text_data import TextData
from src.errors import RequestError, did_you_mean

FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


class Options(LabelledTextOptions):
    """``conf/data/text_file.yaml``."""

    name: Literal["text_file"]
    path: str
    val_path: str | None
    """File to validate on; null holds out a part of ``path``."""
    test_path: str | None
    format: Literal["auto", "csv", "tsv", "jsonl"]
    """``auto`` goes by the ending of the file's name."""
    text_column: str
    label_column: str


def build(options: Options, seed: int, encoder: TextEncoder | None = None) -> TextData:
    """Read and encode the texts (see ``build_text``)."""
    return build_text(TextFileSource, options, seed, encoder)


class Row(NamedTuple):
    """A labelled text, and the line on which it begins."""

    line: int
    text: str
    label: str


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
        digests = {split: hashlib.sha256(read_bytes(path)).hexdigest() for split, path in self.paths.items()}
        return json.dumps(digests)

    def read(self, fit: bool) -> Corpus:
        """Read the files. The classes are those of the training file: by number if all are numbers, else by name."""
        rows = {split: read_rows(path, self.options) for split, path in self.paths.items()}
        if not fit and "val" not in rows:
            rows["val"] = rows.pop("train")
        names = _class_names(rows["train" if "train" in rows else "val"])
        splits = {split: self._number(split_rows, names, self.paths.get(split)) for split, split_rows in rows.items()}
        if fit and len(names) < 2:
            raise RequestError(
                f"{self.options.path}: every label is {names[0]!r}; telling classes apart takes two of them"
            )
        if fit and "val" not in splits:
            splits["train"], splits["val"] = splits["train"].hold_out(
                self.options.holdout, self.split_seed, self.options.stratify
            )
            if len(set(splits["train"].labels)) < 2:
                raise RequestError(
                    f"{self.options.path}: {len(rows['train'])} examples are too few to hold some of them out;"
                    " give more, or a data.val_path"
                )
        return Corpus({split: splits[split] for split in ("train", "val", "test") if split in splits}, names)

    def _number(self, rows: list[Row], names: tuple[str, ...], path: str | None) -> Examples:
        numbers = {name: number for number, name in enumerate(names)}
        for row in rows:
            if row.label not in numbers:
                raise RequestError(
                    f"{path}, line {row.line}: the training file has no label {row.label!r}"
                    f"{did_you_mean(row.label, names)}"
                )
        return Examples([row.text for row in rows], [numbers[row.label] for row in rows])


def read_rows(path: str, options: Options) -> list[Row]:
    """Read one file.

    Raises:
        RequestError: no such file, not UTF-8, no such column, a broken line, an empty text or label, nothing in it.
    """
    kind = FORMATS.get(Path(path).suffix.lower()) if options.format == "auto" else options.format
    if kind is None:
        raise RequestError(f"{path}: its ending does not tell the format; give data.format=csv, tsv or jsonl")
    text = decode(read_bytes(path), path)
    columns = (options.text_column, options.label_column)
    records = _json_records(text, columns, path) if kind == "jsonl" else _table_records(text, columns, path, kind)
    rows = [Row(line, content, label.strip()) for line, content, label in records]
    for row in rows:
        for column, value in zip(columns, row[1:], strict=True):
            if not value.strip():
                raise RequestError(f"{path}, line {row.line}: the {column} is empty")
    if not rows:
        raise RequestError(f"{path}: the file is empty; expected one labelled text a line")
    return rows


def _table_records(text: str, columns: tuple[str, str], path: str, kind: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line, text, label). Quoted fields may span lines, so the line is that of a record's beginning."""
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if kind == "tsv" else ",", strict=True)
    line = 1
    try:
        header = next(reader, [])
        if header:
            text_field, label_field = (_field(column, header, path) for column in columns)
        line = reader.line_num + 1
        for record in reader:
            if record:
                if len(record) != len(header):
                    raise RequestError(f"{path}, line {line}: {len(record)} fields, the header has {len(header)}")
                yield line, record[text_field], record[label_field]
            line = reader.line_num + 1
    except csv.Error as error:
        raise RequestError(f"{path}, line {line}: not valid {kind.upper()}: {error}") from None


def _field(column: str, header: list[str], path: str) -> int:
    if column not in header:
        raise RequestError(f"{path}: no column {column!r}{did_you_mean(column, header)}")
    if header.count(column) > 1:
        raise RequestError(f"{path}: two columns are called {column!r}")
    return header.index(column)


def _json_records(text: str, columns: tuple[str, str], path: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line, text, label)."""
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            record = json.loads(content)
        except json.JSONDecodeError as error:
            raise RequestError(f"{path}, line {line}: not valid JSON: {error.msg} at {error.colno}") from None
        except (ValueError, RecursionError):
            raise RequestError(f"{path}, line {line}: a number too long or brackets too deep to read") from None
        if not isinstance(record, dict):
            raise RequestError(f"{path}, line {line}: expected an object with {' and '.join(columns)}")
        for column in columns:
            if column not in record:
                raise RequestError(f"{path}, line {line}: no key {column!r}{did_you_mean(column, record)}")
        content, label = (record[column] for column in columns)
        if not isinstance(content, str):
            raise RequestError(f"{path}, line {line}: {columns[0]} is {json.dumps(content)[:40]}, expected a string")
        if not isinstance(label, str | int | float):
            raise RequestError(
                f"{path}, line {line}: {columns[1]} is {json.dumps(label)[:40]}, expected a name or number"
            )
        if any("\ud800" <= letter <= "\udfff" for letter in content + str(label)):
            raise RequestError(f"{path}, line {line}: holds half of a surrogate pair, which is no text")
        yield line, content, str(label)


def _class_names(rows: list[Row]) -> tuple[str, ...]:
    names = {row.label for row in rows}
    if all(name.removeprefix("-").isdecimal() for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))
