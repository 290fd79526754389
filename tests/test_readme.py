"""README says what is there: the cell table is the registry's, links lead somewhere, experiments exist."""

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_cell_table_is_the_registrys():
    assert runpy.run_path(str(ROOT / "scripts" / "cell_table.py"))["table"]() in README


def test_links_lead_to_files_that_exist():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if not link.startswith("http")]
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_experiments_that_commands_name_exist():
    names = {name for group in re.findall(r"experiment=([\w,]+)", README) for name in group.split(",")}
    known = {file.stem for file in (ROOT / "conf" / "experiment").glob("*.yaml")}
    assert names and names <= known
