"""The training door under torchrun, as a user types it: one voice, one folder, and an end for all."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import environment, write_reviews

from src.processes import has_ended
from src.tracking import read_metrics
from src.training import load_checkpoint

SMALL = [
    "data=text_file",
    "data.path=reviews.csv",
    "model=gru",
    "width=6",
    "batch_size=8",
    "device=cpu",
    "threads=1",
    "backend=native",
    "logger=none",
    "trainer.log_every=1",
]
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """``start(2, "epochs=1", …)`` runs ``torchrun --nproc-per-node=2 -m src.train epochs=1 …``, in ``tmp_path``."""
    write_reviews(tmp_path / "reviews.csv", 165)

    def run(size: int, *arguments: str, program: tuple[str, ...] = ("-m", "src.train")) -> subprocess.Popen[str]:
        torchrun = ["torch.distributed.run", f"--nproc-per-node={size}", "--rdzv-backend=c10d"]
        return subprocess.Popen(
            [sys.executable, "-m", *torchrun, "--rdzv-endpoint=localhost:0", *program, *arguments],
            cwd=tmp_path,
            env=environment(tmp_path),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return run


def finish(process: subprocess.Popen[str]) -> tuple[int, list[str], str]:
    """Wait for it; give the exit code, what our doors said on standard error, and standard output."""
    out, err = process.communicate(timeout=280)
    ours = [line for line in err.splitlines() if line.startswith(("error:", "stopped", "warning:"))]
    assert ours or process.returncode == 0, err
    return process.returncode, ours, out


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a run in progress has written a file."""
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)


def process_of_rank(launcher: subprocess.Popen[str], rank: int) -> int:
    """The id of the process that torchrun has started with this rank."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    (found,) = [
        int(child) for child in children if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0")
    ]
    return found


needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds a process by Linux's /proc")


def test_a_sweep_is_refused_in_one_line(start: Start, tmp_path: Path) -> None:
    code, ours, _ = finish(start(2, "-m", "depth=1,2"))
    assert code != 0
    assert len(ours) == 1 and ours[0].startswith("error: -m starts many runs and torchrun many processes of one")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_evaluating_in_several_processes_is_refused_in_one_line(start: Start) -> None:
    code, ours, _ = finish(start(2, "run=nowhere", program=("-m", "src.evaluate")))
    assert code != 0
    assert ours == ["error: torchrun is for src.train; this runs in one process: call it with python -m"]


@pytest.mark.slow
def test_a_run_in_several_processes_leaves_one_complete_folder_and_speaks_once(start: Start, tmp_path: Path) -> None:
    code, ours, out = finish(start(3, *SMALL[:-2], "logger=wandb", "epochs=2", "dropout=0.1"))
    assert (code, ours) == (0, [])
    (folder,) = (tmp_path / "outputs" / "runs").iterdir()
    files = {"DONE", "config.yaml", "metrics.jsonl", "summary.json", "best.ckpt", "last.ckpt", "encoder.json"}
    assert files <= {file.name for file in folder.iterdir()}
    assert out.count("epoch 2/2") == 1
    assert len(list((tmp_path / "outputs" / "wandb").glob("offline-run-*"))) == 1
    assert len(load_checkpoint(folder / "last.ckpt")["rng"]) == 3


@pytest.mark.slow
def test_a_wrong_request_is_answered_in_one_line(start: Start) -> None:
    for wrong, answer in (("trainer.monitor=val/acuracy", "did you mean val/accuracy"), ("depht=3", "did you mean")):
        code, ours, _ = finish(start(2, *SMALL, wrong))
        assert code != 0
        assert len(ours) == 1 and answer in ours[0]


@needs_proc
def test_a_killed_process_has_ended_and_a_stopped_one_has_not() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert not has_ended(process.pid)
        process.send_signal(signal.SIGSTOP)
        assert not has_ended(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
        assert has_ended(process.pid)
        process.wait()
        assert has_ended(process.pid)


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize(("size", "rank"), [(2, 1), (2, 0), (3, 2)])
def test_a_killed_process_ends_the_run_in_one_line_and_one_process_goes_on(
    start: Start, tmp_path: Path, size: int, rank: int
) -> None:
    folder = tmp_path / "run"
    process = start(size, *SMALL, "epochs=2000", "hydra.run.dir=run")
    wait_for(folder / "last.ckpt", process)
    time.sleep(0.05)  # somewhere in an epoch
    os.kill(process_of_rank(process, rank), signal.SIGKILL)
    code, ours, _ = finish(process)
    assert code != 0
    assert ours == [
        f"error: process {rank} of {size} was killed or does not answer; resume= goes on from the last checkpoint"
    ]
    assert (folder / "FAILED").exists() == (rank > 0)
    epochs = load_checkpoint(folder / "last.ckpt")["position"]["epoch"]
    assert epochs >= 1
    code, ours, _ = finish(start(1, "resume=run", f"epochs={epochs + 1}"))
    assert (code, ours) == (0, [])
    assert (folder / "DONE").exists() and not (folder / "FAILED").exists()
    steps = [line["step"] for line in read_metrics(folder / "metrics.jsonl") if "train/loss" in line]
    assert steps == list(range(1, 17 * (epochs + 1) + 1))


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("to", ["torchrun", "process 1"])
def test_sigterm_ends_all_after_saving_and_the_run_goes_on_in_as_many(start: Start, tmp_path: Path, to: str) -> None:
    folder = tmp_path / "run"
    process = start(2, *SMALL, "epochs=2000", "hydra.run.dir=run")
    wait_for(folder / "last.ckpt", process)
    os.kill(process.pid if to == "torchrun" else process_of_rank(process, int(to[-1])), signal.SIGTERM)
    code, ours, _ = finish(process)
    assert code != 0
    assert ours == [f"stopped by SIGTERM; go on with: python -m src.train resume={folder}"]
    assert not (folder / "DONE").exists() and not (folder / "FAILED").exists()
    position = load_checkpoint(folder / "last.ckpt")["position"]
    assert read_metrics(folder / "metrics.jsonl")[-1]["step"] == position["step"]  # saved at that very step
    code, ours, _ = finish(start(2, "resume=run", f"epochs={position['epoch'] + 1}"))
    assert (code, ours) == (0, [])
    assert (folder / "DONE").exists()


@needs_proc
@pytest.mark.slow
def test_a_process_that_stands_still_is_given_up_and_named(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = start(2, *SMALL, "epochs=2000", "hydra.run.dir=run", "trainer.timeout_minutes=0.1")
    wait_for(folder / "last.ckpt", process)
    still = process_of_rank(process, 1)
    os.kill(still, signal.SIGSTOP)
    while not (folder / "FAILED").exists():
        assert process.poll() is None
        time.sleep(0.1)
    os.kill(still, signal.SIGKILL)  # torchrun would do it 30 s later
    code, ours, _ = finish(process)
    assert code != 0
    assert ours == ["error: process 1 of 2 was killed or does not answer; resume= goes on from the last checkpoint"]
    assert load_checkpoint(folder / "last.ckpt")["position"]["epoch"] >= 1


@pytest.mark.slow
def test_an_error_of_one_process_is_told_once_and_kept_in_the_folder(start: Start, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "import os\n"
        "from src import cli, train\n"
        "from src.errors import RunError\n"
        "from src.training import Trainer\n"
        "learn = Trainer._learn\n"
        "def broken(self, batch, total):\n"
        "    if self.position.step == 20 and os.environ['RANK'] == '1':\n"
        "        raise RunError('no more memory here')\n"
        "    return learn(self, batch, total)\n"
        "Trainer._learn = broken\n"
        "cli.train_door(train.main)\n"
    )
    code, ours, _ = finish(start(2, *SMALL, "epochs=9", "hydra.run.dir=run", program=("broken.py",)))
    assert code != 0
    assert ours == ["error: no more memory here"]
    assert "process 1 of 2 failed: no more memory here" in (tmp_path / "run" / "FAILED").read_text()
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["position"]["epoch"] == 1


@pytest.mark.slow
def test_state_carried_from_batch_to_batch_is_each_columns_own_and_outlives_a_change_of_processes(
    start: Start, tmp_path: Path
) -> None:
    """A language model of 7 columns, with chunks of any length and clusters that a part of a batch may not touch."""
    words = random.Random(0).choices([f"word{number}" for number in range(20)], k=4000)
    (tmp_path / "text.txt").write_text(" ".join(words))
    options = ["data=plain_text", "data.path=text.txt", "data/tokenizer=word", "task.tied=false", "task.cutoffs=[6,14]"]
    options += ["task.bptt=10", "task.bptt_jitter=true", "regularise.activation=2.0", "regularise.temporal=1.0"]
    options += ["model=lstm", "width=16", "batch_size=7", "epochs=1", "clip=0.25", *SMALL[5:]]
    for code, ours, _ in (
        finish(start(1, *options, "hydra.run.dir=one")),
        finish(start(3, *options, "hydra.run.dir=three")),
        finish(start(2, *options, "hydra.run.dir=changed", "max_steps=20")),
        finish(start(3, "resume=changed", "max_steps=null")),
    ):
        assert (code, ours) == (0, [])
    one, three, changed = (losses_by_step(tmp_path / name) for name in ("one", "three", "changed"))
    assert len(one) > 45
    assert three == pytest.approx(one, abs=1e-5)
    assert changed == pytest.approx(one, abs=1e-5)


def losses_by_step(folder: Path) -> dict[int, float]:
    """What training logged."""
    return {line["step"]: line["train/loss"] for line in read_metrics(folder / "metrics.jsonl") if "train/loss" in line}
