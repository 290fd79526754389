"""Checkpoints are whole or not there, hold plain values, and a damaged one is named as such."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch

from src.errors import RequestError, RunError
from src.files import atomic_file, write_atomic
from src.training.checkpoint import as_tuples, load_checkpoint, load_weights, save_checkpoint, to_plain


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    tiny.run(tiny.make_config(epochs=1, amp="bf16", trainer__average=0.5), folder)
    return folder


def test_checkpoint_loads_without_executing_anything_and_holds_all_state(trained: Path) -> None:
    state = torch.load(trained / "last.ckpt", weights_only=True)
    parts = {"model", "optimizer", "scaler", "schedule", "stopping", "best", "average", "carry", "wandb_id", "rng"}
    assert parts | {"position", "epoch_metrics", "window", "lines"} <= state.keys()
    assert state["rng"][0].keys() == {"python", "numpy", "torch", "cuda", "mps"}


def test_weights_to_judge_by_are_the_averaged_ones(trained: Path) -> None:
    cfg, data = tiny.make_config(), tiny.make_data()
    model = tiny.build_task(cfg, data.spec).build_model(cfg, data.spec)
    load_weights(model, trained / "best.ckpt")
    state = load_checkpoint(trained / "best.ckpt")
    for name, value in model.state_dict().items():
        assert torch.equal(value, state["average"][name])
    assert any(not torch.equal(state["average"][name], state["model"][name]) for name in state["model"])


@pytest.mark.parametrize("damage", ["cut", "flipped", "one bit", "empty", "text", "pickle"])
def test_damaged_checkpoint_gives_one_clear_line(trained: Path, tmp_path: Path, damage: str) -> None:
    whole = (trained / "last.ckpt").read_bytes()
    weight = next(iter(torch.load(trained / "last.ckpt", weights_only=True)["model"].values()))
    at = whole.index(weight.numpy().tobytes())
    bad = {
        "cut": whole[: len(whole) // 2],
        "flipped": bytes([whole[0] ^ 255]) + whole[1:],
        "one bit": whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :],  # of a weight: torch would load it
        "empty": b"",
        "text": b"not a checkpoint",
        "pickle": b"cos\nsystem\n(S'touch /tmp/owned'\ntR.",
    }
    path = tmp_path / "last.ckpt"
    path.write_bytes(bad[damage])
    with pytest.raises(RequestError, match=r"last.ckpt: damaged") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["model", "average"])
def test_a_checkpoint_without_weights_is_named_as_such(trained: Path, part: str) -> None:
    state = load_checkpoint(trained / "best.ckpt") | {"average": None} | {part: [1.0]}
    with pytest.raises(RequestError, match="holds no weights"):
        load_weights(torch.nn.Linear(1, 1), state)


@pytest.mark.parametrize("part", ["position", "window", "stopping", "optimizer", "rng", "lines"])
def test_resuming_from_a_checkpoint_with_a_part_lost_or_of_another_kind_changes_nothing(
    trained: Path, tmp_path: Path, part: str
) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    cfg = tiny.make_config(epochs=1, amp="bf16", trainer__average=0.5)
    for state in ({**load_checkpoint(run / "last.ckpt"), part: "x"}, load_checkpoint(run / "last.ckpt")):
        if state[part] != "x":
            del state[part]
        torch.save(state, run / "last.ckpt")
        before = {file.name: file.read_bytes() for file in run.iterdir() if file.name != "train.log"}
        with pytest.raises(RequestError, match=r"last.ckpt: damaged"):
            tiny.run(cfg, run, resume=True)
        assert {file.name: file.read_bytes() for file in run.iterdir() if file.name != "train.log"} == before
        shutil.copy(trained / "last.ckpt", run)


def test_a_run_with_a_damaged_best_checkpoint_is_not_gone_on_with(trained: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    (run / "best.ckpt").write_bytes(b"no checkpoint")
    before = {file.name: file.read_bytes() for file in run.iterdir() if file.name != "train.log"}
    with pytest.raises(RequestError, match=r"best.ckpt: damaged"):
        tiny.run(tiny.make_config(epochs=2, amp="bf16", trainer__average=0.5), run, resume=True)
    assert {file.name: file.read_bytes() for file in run.iterdir() if file.name != "train.log"} == before


def test_missing_checkpoint_and_other_versions_are_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "best.ckpt")
    torch.save({"version": 99}, tmp_path / "best.ckpt")
    with pytest.raises(RequestError, match="version 99"):
        load_checkpoint(tmp_path / "best.ckpt")
    torch.save([1, 2], tmp_path / "best.ckpt")
    with pytest.raises(RequestError, match="version None"):
        load_checkpoint(tmp_path / "best.ckpt")


def test_kill_in_the_middle_of_a_write_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, {"value": 1})
    script = (
        "import os, sys; sys.path.insert(0, '.'); from pathlib import Path; from src.files import atomic_file\n"
        f"with atomic_file(Path({str(path)!r})) as file: file.write(b'half'); file.flush(); os.kill(os.getpid(), 9)"
    )
    root = Path(tiny.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", script], cwd=root, check=False).returncode == -9
    assert load_checkpoint(path)["value"] == 1


def test_failing_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_atomic(path, "old")
    with pytest.raises(ZeroDivisionError), atomic_file(path, "w") as file:
        file.write("new")
        1 / 0  # noqa: B018
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_a_run_error_that_says_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    write_atomic(path, "old")

    def no_space(descriptor: int) -> None:
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(b"x")

    monkeypatch.setattr("src.files.os.fsync", no_space)
    with pytest.raises(RunError, match=r"No space left on device; the previous file is unchanged"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_nested_state_becomes_plain(tmp_path: Path) -> None:
    state = {"carry": ((torch.ones(2), None), [torch.zeros(1)]), "name": "x"}
    assert to_plain(state)["carry"][0][1] is None
    save_checkpoint(tmp_path / "a.ckpt", state)
    read = load_checkpoint(tmp_path / "a.ckpt")["carry"]
    assert torch.equal(read[0][0], torch.ones(2))
    assert as_tuples(read) == ((read[0][0], None), (read[1][0],))
    with pytest.raises(TypeError, match="plain values only, not object"):
        to_plain({"bad": object()})
