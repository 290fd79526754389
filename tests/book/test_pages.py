"""The pages say what is there: links lead somewhere, names are real, tables are made of the data."""

import re
import runpy
import tomllib
from pathlib import Path

import pytest
import yaml
from pages import PAGES, README, ROOT

import deep_rnn
from src.choices import CONF

TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra")
EXAMPLES = {"data=ones", "conf/data/ones.yaml", "src/data/ones.py"}  # what a page has one write
EXAMPLES |= {"model=gruu", "conf/model/name.yaml"}  # and names that stand for others


def without_code(text: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What a link to a heading of a page may be called, as GitHub and the book both name it."""
    text = page.read_text(encoding="utf-8")
    titles = re.findall(r"^#+ (.*)$", without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def names(group: str) -> set[str]:
    """The choices of a group of conf/."""
    return {path.stem for path in (CONF / group).glob("*.yaml") if not path.stem.startswith("_")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(TEXTS[page])):
        path, _, anchor = target.partition("#")
        if not target.startswith("http"):
            assert (page.parent / path).exists(), target
            assert not anchor or anchor in anchors(page.parent / path if path else page), target


def test_the_reference_holds_all_that_the_library_offers() -> None:
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    offered = set(deep_rnn.__all__) - {"CELLS"}  # a dictionary, shown on a page of its own
    assert offered <= set(re.findall(r"^\.\. auto\w+:: deep_rnn\.(\w+)$", page, re.MULTILINE))


def test_readme_fits_a_few_screens() -> None:
    assert len(TEXTS[README].splitlines()) <= 180


def test_the_cell_table_is_the_registrys_and_readme_counts_it() -> None:
    page = (ROOT / "docs" / "cells.md").read_text(encoding="utf-8")
    assert runpy.run_path(str(ROOT / "scripts" / "cell_table.py"))["table"]() in page
    assert {int(count) for count in re.findall(r"(\d+) cells\b", TEXTS[README])} == {len(deep_rnn.CELLS)}


def keys(node: object, name: str) -> set[str]:
    """Dotted names of all that a piece of conf/ holds."""
    below = node.items() if isinstance(node, dict) else ()
    return {name}.union(*(keys(value, f"{name}.{key}") for key, value in below))


def keys_of(path: Path) -> set[str]:
    """Dotted names of all that a file of conf/ sets."""
    text = path.read_text(encoding="utf-8")
    group = [] if text.startswith("# @package _global_") else path.relative_to(CONF).parent.parts
    return {name.removeprefix(".") for name in keys(yaml.safe_load(text), ".".join(group))}


KEYS = set().union(*(keys_of(path) for path in CONF.glob("**/*.yaml")))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_options_that_are_named_stand_in_conf(page: Path) -> None:
    for code in re.findall(r"`([^`\n]+)`", without_code(TEXTS[page])):
        for option in re.findall(rf"(?<![\w./])(?:{'|'.join(GROUPS)})\.[a-z_.]*[a-z](?![\w(/])", code):
            assert option in KEYS, code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_choices_and_files_that_are_named_exist(page: Path) -> None:
    for code in re.findall(r"`([^`\n]+)`", without_code(TEXTS[page])):
        for group, chosen in re.findall(rf"(?<![\w.])({'|'.join(GROUPS)})=([a-z_,\d]+)(?![\w.…\[])", code):
            assert set(chosen.split(",")) <= names(group) or code in EXAMPLES, code
        if re.fullmatch(r"(src|conf|scripts|docs|tests|results)/[\w/.]+", code):
            assert (ROOT / code).exists() or code in EXAMPLES, code


def test_the_table_of_groups_holds_every_choice_of_conf() -> None:
    page = (ROOT / "docs" / "train.md").read_text(encoding="utf-8")
    listed = dict(re.findall(r"^\| `(\w+)` \| ((?:`\w+`(?:, )?)+) \|$", page, re.MULTILINE))
    assert listed.keys() >= {"link", "data", "task", "regularise", "optimizer", "scheduler", "experiment", "debug"}
    for group, choices in listed.items():
        assert set(re.findall(r"\w+", choices)) == names(group), group


def test_whoever_cites_it_or_reads_its_changes_finds_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version
    assert f"## {version}" in TEXTS[ROOT / "CHANGELOG.md"]
