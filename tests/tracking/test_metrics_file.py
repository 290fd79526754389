"""metrics.jsonl is readable at any moment and holds exactly the lines of the training that counts."""

import json
import math
from pathlib import Path

import pytest

from src.errors import RequestError, RunError
from src.tracking.metrics_file import MetricsFile, read_metrics


def test_each_line_is_on_disk_when_append_returns(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    for step in range(3):
        file.append({"step": step, "train/loss": 0.5})
        assert [line["step"] for line in read_metrics(file.path)] == list(range(step + 1))
    assert file.lines == 3


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.append({"step": 1, "a": math.nan, "b": math.inf, "c": 0.1})
    assert read_metrics(file.path) == [{"step": 1, "a": None, "b": None, "c": 0.1}]
    assert "NaN" not in file.path.read_text()


@pytest.mark.parametrize("tail", ['{"step": 3, "train/lo', '{"step": 3}', "\0\0\0", "\xff\n"])
def test_half_a_line_at_the_end_is_ignored_and_cut_when_the_file_is_opened_again(tmp_path: Path, tail: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n' + tail.encode("latin-1"))
    assert [line["step"] for line in read_metrics(path)] == [1, 2]
    file = MetricsFile(path)
    assert file.lines == 2
    file.append({"step": 3})
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_cut_keeps_the_first_lines(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    for step in range(5):
        file.append({"step": step})
    file.cut(2)
    assert [line["step"] for line in read_metrics(file.path)] == [0, 1]
    file.append({"step": 2})
    assert file.lines == 3
    file.cut(9)  # fewer than the checkpoint knows of: nothing to cut
    assert file.lines == 3
    file.cut(0)
    assert file.path.read_text() == ""


def test_missing_file_has_no_lines(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.jsonl") == []
    MetricsFile(tmp_path / "metrics.jsonl").cut(0)
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_a_run_error() -> None:
    file = MetricsFile.__new__(MetricsFile)
    file.path, file.lines = Path("/dev/full"), 0
    with pytest.raises(RunError, match="No space left on device"):
        file.append({"step": 1})


def test_a_damaged_line_in_the_middle_is_named_and_nothing_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n[[{"step": 2}\n{"step": 3}\n')
    before = path.read_bytes()
    with pytest.raises(RequestError, match=r"metrics.jsonl, line 2: damaged"):
        MetricsFile(path)
    assert path.read_bytes() == before
