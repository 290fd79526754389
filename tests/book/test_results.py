"""Figures stand once, in results/: pages are made of them, and nothing gets in without the command that measures it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pages import RESULTS, ROOT, results

ENTRY = dict.fromkeys(results.FIELDS) | {
    "what": "a",
    "figure": 1.25,
    "spread": [1.0, 2],
    "command": "python -m src.train",
}


def write(folder: Path, **changes: Any) -> Path:
    """A checkout of one result and one page."""
    (folder / "results").mkdir(exist_ok=True)
    (folder / "docs").mkdir(exist_ok=True)
    entry = {name: value for name, value in (ENTRY | changes).items() if value != "left out"}
    found = {
        "title": "t",
        "columns": [["what", "{what}"], ["mean", "{figure:.1f}"], ["", "{spread}"], ["", "{seeds}"]],
        "shared": {},
    }
    (folder / "results" / "one.json").write_text(json.dumps(found | {"entries": [entry]}))
    (folder / "README.md").write_text("before\n\n<!-- results: one -->\n<!-- end -->\n\nafter\n")
    return folder


def test_the_pages_show_what_results_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert results.main(["--check"]) == 0, capsys.readouterr().out


def test_every_file_of_results_is_shown_somewhere() -> None:
    shown = {match[2] for page in results.pages(ROOT) for match in results.MARK.finditer(page.read_text())}
    assert shown == RESULTS.keys() | {"front", "provenance"}


def test_a_table_is_written_and_then_found_to_differ_when_a_figure_changes(tmp_path: Path) -> None:
    write(tmp_path)
    assert results.main(["--check"], tmp_path) == 1
    assert results.main(["--write"], tmp_path) == 0
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before") and text.endswith("after\n") and "| a | 1.2 | 1.0–2 | – |" in text
    assert results.main(["--check"], tmp_path) == 0
    (tmp_path / "results" / "one.json").write_text(
        (tmp_path / "results" / "one.json").read_text().replace("1.25", "2.0")
    )
    assert results.main(["--check"], tmp_path) == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"command": None}, "no command"),
        ({"command": ""}, "no command"),
        ({"command": "left out"}, "missing ['command']"),
        ({"figure": None}, "no figure"),
        ({"machine": "left out"}, "missing ['machine']"),
        ({"guess": 3}, "unknown ['guess']"),
    ],
)
def test_an_entry_that_cannot_be_believed_is_refused(
    changes: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert results.main(["--write"], write(tmp_path, **changes)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: one.json: a: ") and said in error


def test_a_mark_that_names_no_table_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (write(tmp_path) / "README.md").write_text("<!-- results: two -->\n<!-- end -->\n")
    assert results.main(["--check"], tmp_path) == 2
    assert "two is no table; known: front, one, provenance" in capsys.readouterr().err


def test_dates_and_commits_are_such() -> None:
    for found in RESULTS.values():
        for entry in found["entries"]:
            assert entry["date"] is None or re.fullmatch(r"\d{4}-\d\d-\d\d", entry["date"])
            assert entry["commit"] is None or re.fullmatch(r"[0-9a-f]{7,40}", entry["commit"])
