"""The three examples of the book run to their end, at a small size, and say what they promise to say."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers import environment, write_reviews
from pages import ROOT


def run(folder: Path, name: str, *arguments: str) -> str:
    """What an example prints."""
    command = [sys.executable, str(ROOT / "docs" / "examples" / name), *arguments]
    ran = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=250)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_student_sees_gradients_of_every_layer_before_and_after(tmp_path: Path) -> None:
    said = run(tmp_path, "student.py", "--reviews", "200", "--epochs", "1", "--depth", "3", "--link", "highway")
    assert said.count("|dLoss/dh|") == 2 * 3 and "epoch 1: loss" in said


def test_the_engineer_s_model_says_that_it_runs_on_the_kernels_and_answers_the_same(tmp_path: Path) -> None:
    said = run(tmp_path, "engineer.py", "--units", "16", "--sentences", "4", "--longest", "9", "--turns", "1")
    assert said.startswith("lstm: ") and "times as fast" in said


@pytest.mark.slow
def test_the_researcher_gets_a_table_of_all_runs(tmp_path: Path) -> None:
    made = write_reviews(tmp_path / "reviews.csv")
    small = ["data=text_file", f"data.path={made}", "depth=1,2", "link=none", "width=4", "seed=0", "epochs=1"]
    said = run(tmp_path, "researcher.py", *small)
    assert said.count(", link none: accuracy") == said.count("1 DONE") == 2 and "ranked by val/accuracy" in said
    assert (tmp_path / "outputs" / "sweeps" / "researcher" / "page.html").is_file()
