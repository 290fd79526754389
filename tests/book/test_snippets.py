"""Every piece of Python that the pages show runs, block after block of a page, as it stands."""

import re
from pathlib import Path

import pytest
from pages import PAGES, blocks

FILE = re.compile(r"# (\S+\.py)\n")  # a block that opens with its name is a file
SHOWN = blocks("python")
CODE = {page: "".join(block.text for block in SHOWN if block.page == page) for page in PAGES}
WITH_CODE = [  # ONNX's exporter takes its time
    pytest.param(page, marks=pytest.mark.slow if "onnx" in code else ()) for page, code in CODE.items() if code
]


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_the_snippets_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for block in SHOWN:
        named = FILE.match(block.text)
        if block.page != page or (named and named[1].startswith("src/")):  # those are tests/tasks/test_recipe.py's
            continue
        if "onnx" in block.text:
            pytest.importorskip("onnxscript")
        if named:
            Path(named[1]).write_text(block.text, encoding="utf-8")
        exec(compile(block.text, str(block), "exec"), {"__name__": "shown"})
