"""Labelled texts out of a CSV, TSV or JSON file, and a clear word about every way in which one can be wrong."""

import csv
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, model_validator

from src.data.files import Encoding, open_text, read_text
from src.data.options import LabelledTextOptions
from src.errors import RequestError, did_you_mean

log = logging.getLogger(__name__)

FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
DELIMITERS = ";\t|,"
"""What people put between fields."""


WORDS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}
"""What may be typed for a character that a shell or Hydra would take for its own."""


def _character(value: object) -> object:
    return WORDS.get(value, value) if isinstance(value, str) else value


def _name(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value  # of a column: a number


Delimiter = Annotated[str, BeforeValidator(_character), Field(min_length=1, max_length=1, pattern=r"[^\n\r\"]")]
Column = Annotated[str, BeforeValidator(_name)]


class ReadingOptions(LabelledTextOptions):
    """How a file is to be read: the part of ``conf/data/text_file.yaml`` that is not about which file."""

    format: Literal["auto", "csv", "tsv", "jsonl", "json"]
    """``auto`` goes by the ending of the file's name."""
    encoding: Encoding
    delimiter: Delimiter | None
    """Between the fields of a table; null: a comma, in TSV a tab."""
    header: bool
    """Whether the first line of a table names its columns; otherwise they are 1, 2, …"""
    text_column: Column
    label_column: Column
    label_separator: Annotated[str, Field(min_length=1)] | None
    """Between the labels of a text that may have several, for ``task=multilabel``; null: each has one."""
    empty: Literal["refuse", "skip"]
    """What a row without text or label does."""

    @property
    def several_labels(self) -> bool:
        """Whether a text may have several labels, or none."""
        return self.label_separator is not None

    @model_validator(mode="after")
    def _two_columns(self) -> Self:
        if self.text_column == self.label_column:
            raise ValueError(f"text_column and label_column are both {self.text_column}: the label would be the text")
        return self


class Row(NamedTuple):
    """A labelled text, and where it stands."""

    place: str
    """``line 3``, on which it begins, or ``entry 3`` of a list."""
    text: str
    labels: tuple[str, ...]
    """One, or with a ``label_separator`` any number."""


def read_rows(path: str, options: ReadingOptions) -> Iterator[Row]:
    """Read one file, a row at a time; only a JSON list is held whole.

    Raises:
        RequestError: no such file, another encoding, no such column, a broken line, an empty text or label (unless
            ``empty`` says to leave such rows out), nothing in it.
    """
    kind = FORMATS.get(Path(path).suffix.lower()) if options.format == "auto" else options.format
    if kind is None:
        raise RequestError(f"{path}: its ending does not tell the format; give data.format=csv, tsv, jsonl or json")
    count = left_out = 0
    for row in (_table_rows if kind in ("csv", "tsv") else _json_rows)(path, kind, options):
        empty = _empty_column(row, options)
        if empty is None:
            count += 1
            yield row
        elif options.empty == "skip":
            left_out += 1
        else:
            raise RequestError(f"{path}, {row.place}: the {empty} is empty; data.empty=skip leaves such rows out")
    if left_out:
        log.warning("%s: %d of %d rows have an empty text or label and are left out", path, left_out, left_out + count)
    if not count:
        raise RequestError(f"{path}: the file is empty; expected one labelled text a line")


def _empty_column(row: Row, options: ReadingOptions) -> str | None:
    """The column of a row that has nothing in it; no label at all is one of the answers where there may be several."""
    if not row.text.strip():
        return options.text_column
    if options.label_separator is None and not row.labels[0]:
        return options.label_column
    return None


def _labels(value: str, options: ReadingOptions) -> tuple[str, ...]:
    if options.label_separator is None:
        return (value.strip(),)
    parts = (part.strip() for part in value.split(options.label_separator))
    return tuple(dict.fromkeys(part for part in parts if part))


def _table_rows(path: str, kind: str, options: ReadingOptions) -> Iterator[Row]:
    """The records of a table. Quoted fields may span lines, so the line is that of a record's beginning."""
    csv.field_size_limit(2**31 - 1)
    delimiter = options.delimiter or ("\t" if kind == "tsv" else ",")
    line, width, text_field, label_field = 1, 0, 0, 0
    with open_text(path, options.encoding, newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            for record in reader:
                if record and not width:
                    width, is_header = len(record), options.header
                    header = [cell.strip() for cell in record] if is_header else [str(n + 1) for n in range(width)]
                    text_field, label_field = (_field(column, header, path, delimiter) for column in _columns(options))
                else:
                    is_header = False
                if record and not is_header:
                    if len(record) != width:
                        what = "the header" if options.header else "the first line"
                        raise RequestError(f"{path}, line {line}: {len(record)} fields, {what} has {width}")
                    yield Row(f"line {line}", record[text_field], _labels(record[label_field], options))
                line = reader.line_num + 1
        except csv.Error as error:
            raise RequestError(f"{path}, line {line}: not valid {kind.upper()}: {error}") from None


def _columns(options: ReadingOptions) -> tuple[str, str]:
    """The names of the columns; without a header these are numbers from 1 on, and the usual names the first two."""
    names = options.text_column, options.label_column
    return names if options.header or names != ("text", "label") else ("1", "2")


def _field(column: str, header: list[str], path: str, delimiter: str) -> int:
    if column not in header:
        for other in DELIMITERS if len(header) == 1 else "":
            if column in [cell.strip(" \"'") for cell in header[0].split(other)] and other != delimiter:
                typed = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "pipe"}[other]
                raise RequestError(
                    f"{path}: no column {column!r}: its fields are parted by {other!r}: data.delimiter={typed}"
                )
        raise RequestError(f"{path}: no column {column!r}{did_you_mean(column, header)}")
    if header.count(column) > 1:
        raise RequestError(f"{path}: two columns are called {column!r}")
    return header.index(column)


def _json_rows(path: str, kind: str, options: ReadingOptions) -> Iterator[Row]:
    """The objects of a file with one a line, or of a list."""
    if kind == "json" and (text := read_text(path, options.encoding)).lstrip().startswith("["):
        for number, record in enumerate(_parsed(text, path, None), start=1):
            yield _json_row(record, path, f"entry {number}", options)
        return
    with open_text(path, options.encoding, newline="\n") as file:
        for line, content in enumerate(file, start=1):
            if content.strip():
                yield _json_row(_parsed(content.removesuffix("\n"), path, line), path, f"line {line}", options)


def _parsed(content: str, path: str, line: int | None) -> Any:
    """What JSON says; ``line`` is where it stands, None: it is the whole file."""
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        at = error.lineno if line is None else line
        raise RequestError(f"{path}, line {at}: not valid JSON: {error.msg} at {error.colno}") from None
    except (ValueError, RecursionError):
        where = path if line is None else f"{path}, line {line}"
        raise RequestError(f"{where}: a number too long or brackets too deep to read") from None


def _json_row(record: Any, path: str, place: str, options: ReadingOptions) -> Row:
    columns = options.text_column, options.label_column
    if not isinstance(record, dict):
        raise RequestError(f"{path}, {place}: expected an object with {' and '.join(columns)}")
    for column in columns:
        if column not in record:
            raise RequestError(f"{path}, {place}: no key {column!r}{did_you_mean(column, record)}")
    content, label = ("" if record[key] is None and options.empty == "skip" else record[key] for key in columns)
    several = label if isinstance(label, list) and options.label_separator is not None else [label]
    if not isinstance(content, str):
        raise RequestError(f"{path}, {place}: {columns[0]} is {json.dumps(content)[:40]}, expected a string")
    if not all(isinstance(one, str | int | float) for one in several):
        expected = "a name or number" if options.label_separator is None else "names or numbers"
        raise RequestError(f"{path}, {place}: {columns[1]} is {json.dumps(label)[:40]}, expected {expected}")
    if any("\ud800" <= letter <= "\udfff" for letter in content + "".join(map(str, several))):
        raise RequestError(f"{path}, {place}: holds half of a surrogate pair, which is no text")
    if several is label:
        return Row(place, content, tuple(dict.fromkeys(str(one).strip() for one in several)))
    return Row(place, content, _labels(str(label), options))
