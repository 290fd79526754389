"""The texts whose cost is measured are texts of the size that was asked for, and all processes' memory counts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent.parent / "scripts"))

import text_cost

from src.data.text_file import TextFileSource


@pytest.mark.parametrize("name", ["text.txt", "text.csv"])
def test_made_texts_have_their_size_and_only_the_words_they_are_given(tmp_path: Path, name: str) -> None:
    path, table = tmp_path / name, name.endswith("csv")
    text_cost.make(path, 1, ['say"', "so,", "naïve"], table)
    assert 1_000_000 <= path.stat().st_size < 2_000_000
    if table:
        options = text_cost.compose_options("data=text_file", f"data.path={path}")
        texts = TextFileSource(options, 0).read(fit=False).splits["val"].texts
        assert {word for text in texts for word in str(text).split()} == {'say"', "so,", "naïve"}


def test_memory_is_that_of_a_process_and_of_its_children() -> None:
    alone = text_cost.memory(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "print(bytearray(10**7)[:1], flush=True); input()"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:  # fmt: skip
        assert child.stdout is not None
        child.stdout.readline()
        assert alone > 0 and text_cost.memory(os.getpid()) - text_cost.memory(child.pid) > alone / 2
        assert text_cost.memory(os.getpid()) > text_cost.memory(child.pid) > 10**6
        child.communicate(b"\n")
