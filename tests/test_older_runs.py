"""Run folders of earlier versions go on opening: ``tests/golden`` holds one of each, as it was written.

The numbers are what the version that wrote the folder says of it; the run was stopped in its second epoch.
"""

import json
import shutil
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def old_run(tmp_path: Path) -> Path:
    """A copy of the run, beside the reviews that it was trained on."""
    folder = tmp_path / "old"
    shutil.copytree(GOLDEN / "run_0.1.0", folder)
    shutil.move(folder / "reviews.csv", tmp_path / "reviews.csv")
    return folder


def test_an_old_run_is_evaluated_as_its_own_version_did(typed, old_run: Path):
    code, out, err = typed("evaluate", f"run={old_run}")
    assert code == 0, err
    found = json.loads(out.splitlines()[-1])
    assert found["val/loss"] == pytest.approx(0.5534172, rel=1e-4) and found["examples"] == 8
    assert found["val/accuracy"] == 1 and found["val/baseline"] == 0.875


def test_an_old_run_predicts_as_its_own_version_did(typed, old_run: Path):
    code, out, err = typed("predict", f"run={old_run}", "text=a wonderful film")
    assert code == 0, err
    answer = json.loads(out.splitlines()[-1])
    assert answer["label"] == "neg" and answer["probability"] == pytest.approx(0.525067, rel=1e-3)


def test_an_old_run_is_resumed_in_mid_epoch_and_ends_as_its_own_version_did(typed, old_run: Path):
    code, _, err = typed("train", f"resume={old_run}", "max_steps=null")
    assert code == 0, err
    assert (old_run / "DONE").exists()
    last = json.loads((old_run / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 12 and last["train_epoch/accuracy"] == 1
    assert last["train_epoch/loss"] == pytest.approx(0.1912353, rel=1e-4)
    assert last["val/loss"] == pytest.approx(0.1470870, rel=1e-4)
