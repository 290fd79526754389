"""The pages under test: README, the book, and what stands beside them; and what is shown in them."""

import re
import sys
from pathlib import Path
from typing import NamedTuple

from src.choices import CONF

ROOT = CONF.parent
README = ROOT / "README.md"
PAGES = [
    *(README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"),
    *sorted((ROOT / "docs").glob("**/*.md")),
]
sys.path.insert(0, str(ROOT / "scripts"))
import results  # noqa: E402

RESULTS = results.all_results(ROOT / "results")


class Block(NamedTuple):
    """A fenced block: its page, the line on which it begins, its language and its text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(language: str) -> list[Block]:
    """All blocks of a language."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^```(\S+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            if match[1] == language:
                found.append(Block(page, text[: match.start()].count("\n") + 2, language, match[2]))
    return found
