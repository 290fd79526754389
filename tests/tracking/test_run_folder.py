"""A run folder belongs to one run, says how it ended, and is never overwritten."""

import os
from pathlib import Path

import pytest
import yaml

from src.errors import RequestError, RunError
from src.tracking import RunFolder, run_folder
from src.tracking.run_folder import is_held, lock_folder
from src.training import Interrupted

CONFIG = {"depth": 2, "data": {"path": "a, b='c'"}, "resume": None}


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_clean_end_leaves_the_config_and_done(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", CONFIG) as folder:
        assert not (folder.path / "DONE").exists()
    assert set(content(tmp_path / "run")) == {"config.yaml", "DONE"}
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text()) == CONFIG


def test_error_leaves_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(RunError), RunFolder(tmp_path / "run", CONFIG):
        raise RunError("loss is nan")
    assert "RunError: loss is nan" in (tmp_path / "run" / "FAILED").read_text()
    assert not (tmp_path / "run" / "DONE").exists()


@pytest.mark.parametrize("error", [Interrupted(15), KeyboardInterrupt()])
def test_interruption_leaves_neither_marker(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), RunFolder(tmp_path / "run", CONFIG):
        raise error
    assert set(content(tmp_path / "run")) == {"config.yaml"}


@pytest.mark.parametrize("mark", ["config.yaml", "metrics.jsonl", "last.ckpt", "DONE", "FAILED"])
def test_folder_that_holds_a_run_is_refused_untouched(tmp_path: Path, mark: str) -> None:
    (tmp_path / mark).write_text("precious")
    with pytest.raises(RequestError, match=rf"already holds a run \({mark}\).*resume="), RunFolder(tmp_path, CONFIG):
        pass
    assert content(tmp_path) == {mark: b"precious"}


def test_folder_with_other_files_is_taken_and_they_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with RunFolder(tmp_path, CONFIG):
        pass
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_resuming_takes_markers_and_leftovers_away_and_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(RunError), RunFolder(tmp_path, CONFIG):
        raise RunError("once")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    (tmp_path / ".last.ckpt.99-abc.tmp").write_text("half a checkpoint")
    with RunFolder(tmp_path, CONFIG | {"depth": 3}, resume=True):
        assert set(content(tmp_path)) == {"config.yaml", "metrics.jsonl"}
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["depth"] == 3


def test_resuming_where_a_marker_is_no_file_is_refused(tmp_path: Path) -> None:
    with RunFolder(tmp_path, CONFIG):
        pass
    (tmp_path / "last.ckpt").touch()
    (tmp_path / "DONE").unlink()
    (tmp_path / "DONE").mkdir()
    with (
        pytest.raises(RequestError, match=r"DONE: cannot be read \(Is a directory\)"),
        RunFolder(tmp_path, CONFIG, resume=True),
    ):
        pass


def test_resuming_where_no_run_lies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="holds no run to resume"), RunFolder(tmp_path / "x", CONFIG, resume=True):
        pass
    assert not (tmp_path / "x").exists()


def test_two_processes_cannot_write_to_one_run(tmp_path: Path) -> None:
    with RunFolder(tmp_path, CONFIG):
        (tmp_path / "last.ckpt").touch()
        before = content(tmp_path)
        with (
            pytest.raises(RequestError, match="another process is writing"),
            RunFolder(tmp_path, CONFIG, resume=True),
        ):
            pass
        assert content(tmp_path) == before
    with RunFolder(tmp_path, CONFIG, resume=True):  # free again
        pass


def test_who_waited_for_a_folder_that_its_owner_removed_as_empty_locks_the_one_that_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lock = run_folder._locked

    def after_its_owner_has_gone(descriptor: int) -> bool:
        monkeypatch.setattr(run_folder, "_locked", lock)
        (tmp_path / "run").rmdir()
        return lock(descriptor)

    monkeypatch.setattr(run_folder, "_locked", after_its_owner_has_gone)
    with lock_folder(tmp_path / "run"):
        assert is_held(tmp_path / "run")
        with pytest.raises(RequestError, match="another process"), lock_folder(tmp_path / "run"):
            pass
    assert not is_held(tmp_path / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RequestError, match="cannot be made"), RunFolder(tmp_path / "run", CONFIG):
        pass


def test_folder_under_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="cannot be made"), RunFolder(tmp_path / "file" / "run", CONFIG):
        pass


def test_a_resume_that_is_refused_later_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", CONFIG) as folder:
        (folder.path / "last.ckpt").touch()
    before = content(tmp_path / "run")
    with pytest.raises(RequestError), RunFolder(tmp_path / "run", CONFIG | {"depth": 3}, resume=True):
        raise RequestError("last.ckpt is damaged")
    assert content(tmp_path / "run") == before


@pytest.mark.parametrize("result", ["DONE", "PRUNED", "summary.json"])
def test_a_run_with_results_but_no_checkpoint_is_not_trained_anew(tmp_path: Path, result: str) -> None:
    with pytest.raises(KeyboardInterrupt), RunFolder(tmp_path / "run", CONFIG) as folder:
        (folder.path / "best.ckpt").write_bytes(b"weights")
        (folder.path / result).write_text("{}")
        raise KeyboardInterrupt
    before = content(tmp_path / "run")
    with pytest.raises(RequestError, match=r"last.ckpt is missing"), RunFolder(tmp_path / "run", CONFIG, resume=True):
        pass
    assert content(tmp_path / "run") == before


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), RunError("disk full")])
def test_a_run_that_ended_before_its_first_checkpoint_to_go_on_from_begins_anew(
    tmp_path: Path, failure: BaseException
) -> None:
    with pytest.raises(type(failure)), RunFolder(tmp_path / "run", CONFIG) as folder:
        (folder.path / "best.ckpt").write_bytes(b"weights")  # the best comes first
        raise failure
    with RunFolder(tmp_path / "run", CONFIG, resume=True):
        assert set(content(tmp_path / "run")) == {"config.yaml", "best.ckpt"}
