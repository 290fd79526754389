"""What was measured, as data: ``results/*.json`` and the tables that README and the book make of it.

    python scripts/results.py --check    say which tables differ from results/, and refuse entries that lack a command
    python scripts/results.py --write    write the tables anew

A file holds ``title``, ``columns`` (of its table: a heading and a template of an entry's fields), ``shared`` (fields
that all its entries have in common) and ``entries``. Every entry has all of ``FIELDS``; what is not known is null, and
a dash in the tables. It may also have ``more`` (what else a column shows) and ``front`` (its row on the front page).

A table stands between ``<!-- results: NAME -->`` and ``<!-- end -->``: NAME is a file of results/, ``front`` or
``provenance``.
"""

import argparse
import json
import re
import string
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FIELDS = {
    "what": "what was measured, in words",
    "figure": "the number, or several by name",
    "spread": "lowest and highest over seeds or repetitions",
    "seeds": "how many runs the figure is the mean or median of",
    "baseline": "what answering without a model reaches",
    "peer": "the same of another library, with its name",
    "command": "the command line that measures it",
    "machine": "where",
    "commit": "the commit whose code was measured, or that wrote the figure down",
    "date": "when, YYYY-MM-DD",
}
MARK = re.compile(r"(<!-- results: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
Entry = dict[str, Any]


class ResultsError(ValueError):
    """A file of results/ that cannot be believed, in one line."""


class Written(float):
    """A number of results/ that is shown as it is written there: 1.50 says that two places were measured."""

    text: str

    def __new__(cls, text: str) -> "Written":
        """Keep the text."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __format__(self, spec: str) -> str:
        return super().__format__(spec) if spec else self.text


class Dashes(string.Formatter):
    """Templates in which what is not known becomes a dash, with no format to trip over."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The value, or None where something on the way to it is null."""
        try:
            return super().get_field(field_name, args, kwargs)
        except TypeError:  # None[…]
            return None, field_name

    def format_field(self, value: Any, format_spec: str) -> Any:
        """A dash for None, a thin line between the two ends of a spread."""
        if isinstance(value, list):
            return "–".join(format(end, format_spec) for end in value)
        return "–" if value is None else super().format_field(value, format_spec)


def read(path: Path) -> dict[str, Any]:
    """A file of results/, its entries complete.

    Raises:
        ResultsError: for an entry with a field missing or unknown, without a figure, or without a command.
    """
    found = json.loads(path.read_text(encoding="utf-8"), parse_float=Written)
    found["entries"] = [complete(path.name, found["shared"] | entry) for entry in found["entries"]]
    return found


def complete(where: str, entry: Entry) -> Entry:
    """An entry, checked."""
    name = f"{where}: {entry.get('what', 'an entry')}"
    missing = [field for field in FIELDS if field not in entry]
    unknown = sorted(entry.keys() - FIELDS.keys() - {"more", "front"})
    if missing or unknown:
        raise ResultsError(f"{name}: missing {missing}, unknown {unknown}; what is not known is null")
    if not entry["command"]:
        raise ResultsError(f"{name}: no command; a figure is the answer of a command that can be run again")
    if entry["figure"] in (None, {}, ""):
        raise ResultsError(f"{name}: no figure")
    return entry


def all_results(folder: Path) -> dict[str, dict[str, Any]]:
    """Every file of results/ by its name."""
    return {path.stem: read(path) for path in sorted(folder.glob("*.json"))}


def rows(columns: list[list[str]], entries: list[Entry]) -> str:
    """A table in Markdown: a template a column."""
    head = [f"| {' | '.join(heading for heading, _ in columns)} |", "|" + "---|" * len(columns)]
    fill = Dashes().vformat
    return "\n".join([*head, *(f"| {' | '.join(fill(each, (), entry) for _, each in columns)} |" for entry in entries)])


def front(results: dict[str, dict[str, Any]]) -> str:
    """The short table of README: the entries that have a row there."""
    entries = [entry for found in results.values() for entry in found["entries"] if entry.get("front")]
    entries.sort(key=lambda entry: entry["front"]["place"])
    filled = [
        {name: Dashes().vformat(str(text), (), entry) for name, text in entry["front"].items()} for entry in entries
    ]
    return rows([["what", "{what}"], ["against", "{against}"], ["measured", "{measured}"], ["more", "{more}"]], filled)


def provenance(results: dict[str, dict[str, Any]]) -> str:
    """Where every figure comes from: a row for each command of each file."""
    groups: dict[tuple[Any, ...], int] = {}
    for name, found in results.items():
        for entry in found["entries"]:
            where = (name, *(entry[field] for field in ("command", "machine", "commit", "date", "seeds")))
            groups[where] = groups.get(where, 0) + 1
    keys = ("file", "command", "machine", "commit", "date", "seeds")
    entries = [dict(zip(keys, where, strict=True)) | {"count": count} for where, count in groups.items()]
    for entry in entries:
        entry["command"] = entry["command"].replace("|", r"\|")
    return rows(
        [
            ["results/", "`{file}.json`"],
            ["figures", "{count}"],
            ["command", "`{command}`"],
            ["machine", "{machine}"],
            ["seeds or runs", "{seeds}"],
            ["commit", "{commit}"],
            ["date", "{date}"],
        ],
        entries,
    )


def tables(folder: Path) -> dict[str, str]:
    """Every table by the name that marks its place."""
    results = all_results(folder)
    made = {name: rows(found["columns"], found["entries"]) for name, found in results.items()}
    return made | {"front": front(results), "provenance": provenance(results)}


def renewed(text: str, made: dict[str, str]) -> str:
    """A page with its tables made anew.

    Raises:
        ResultsError: for a mark that names no table.
    """

    def table(match: re.Match[str]) -> str:
        if match[2] not in made:
            raise ResultsError(f"results: {match[2]} is no table; known: {', '.join(sorted(made))}")
        return f"{match[1]}{made[match[2]]}\n{match[3]}"

    return MARK.sub(table, text)


def pages(root: Path) -> list[Path]:
    """Where tables may stand."""
    return [root / "README.md", *sorted((root / "docs").glob("**/*.md"))]


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Check or write; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true", help="exit code 1 where a table differs from results/")
    what.add_argument("--write", action="store_true", help="write the tables anew")
    chosen = parser.parse_args(arguments)
    try:
        made = tables(root / "results")
        texts = {page: page.read_text(encoding="utf-8") for page in pages(root)}
        changed = {page: new for page, text in texts.items() if (new := renewed(text, made)) != text}
    except ResultsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for page, text in changed.items():
        print(f"{page.relative_to(root)}: {'differs from results/' if chosen.check else 'written'}")
        if chosen.write:
            page.write_text(text, encoding="utf-8")
    return int(chosen.check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
