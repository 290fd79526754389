"""What goes wrong around a sweep is said in one clear line and harms no other run."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import environment
from sweep_helpers import content, runs, trouble_environment, wait_for

from src.tracking.run_folder import lock_folder, noted

Typed = Callable[..., tuple[int, str, str]]  # exit code, standard output, standard error


@pytest.fixture
def fast(reviews: Path) -> list[str]:
    """Arguments of runs that take a second."""
    made = ["data=text_file", f"data.path={reviews}", "width=4", "batch_size=16", "epochs=2"]
    return ["-m", *made, "sweep.name=s", "logger=none"]


@pytest.fixture
def start(fast: list[str], tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """A function that starts a sweep of cells that can be held, in a process of its own."""
    env = trouble_environment(tmp_path)

    def run(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "src.train", *fast, "model=custom", "model.cell=trouble_cells.Waits"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen([*command, *arguments], cwd=tmp_path, env=env, **pipes)

    return run


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_sweeps_on_one_folder_share_its_runs_and_do_none_twice(start, tmp_path: Path) -> None:
    wait = tmp_path / "trouble/wait"
    wait.touch()
    first = start("depth=1,2,3")
    wait_for(wait.with_name("waits").exists, first)
    (held,) = runs(tmp_path, "config.yaml")

    second = start("depth=1,2,3")
    said, _ = second.communicate(timeout=300)
    assert second.returncode == 0, said
    assert said.count("another process is at it; left to that one") == 1
    others = runs(tmp_path, "DONE")
    assert len(others) == 2 and held not in others
    before = content(others)

    wait.with_name("waits").unlink()
    said, _ = first.communicate(timeout=300)
    assert first.returncode == 0, said
    assert content(others) == before and len(runs(tmp_path, "DONE")) == 3
    for run in runs(tmp_path, "DONE").values():
        assert [(run / "train.log").read_text().count(f" epoch {epoch}/2") for epoch in (1, 2)] == [1, 1]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_deleted_in_mid_sweep_is_named_and_the_others_go_on(start, tmp_path: Path) -> None:
    wait = tmp_path / "trouble/wait"
    wait.touch()
    process = start("depth=1,2,3")
    wait_for(wait.with_name("waits").exists, process)
    ((name, folder),) = runs(tmp_path, "config.yaml").items()
    shutil.rmtree(folder)
    wait.with_name("waits").unlink()
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert sum("deleted while the run was writing to it" in line for line in said.splitlines()) == 1
    assert "Traceback" not in said and f"1 of 3 runs are not finished ({name})" in said
    done = runs(tmp_path, "DONE")
    before = content(done)
    assert len(done) == 2

    again = start("depth=1,2,3")  # what was deleted is made anew, and that alone
    said, _ = again.communicate(timeout=300)
    assert again.returncode == 0 and "3 runs: 1 new, 2 done" in said, said
    assert len(runs(tmp_path, "DONE")) == 3 and content(done) == before


def test_a_run_that_another_sweep_has_just_begun_keeps_its_folder(
    typed: Typed, fast: list[str], tmp_path: Path
) -> None:
    assert typed("train", *fast, "depth=1")[0] == 0
    (run,) = runs(tmp_path, "DONE").values()
    shutil.rmtree(run)
    with lock_folder(run):  # claimed, and nothing written yet
        code, _, err = typed("train", *fast, "depth=1,2")
        assert code == 0 and "depth=1" in err and "another process is at it" in err
        assert run.is_dir() and not list(run.iterdir())
    assert len(runs(tmp_path, "DONE")) == 1
    assert typed("train", *fast, "depth=1,2")[0] == 0 and len(runs(tmp_path, "DONE")) == 2


def test_a_run_cut_off_between_its_first_two_checkpoints_is_finished_by_the_same_command(
    typed: Typed, fast: list[str], tmp_path: Path
) -> None:
    assert typed("train", *fast, "depth=1")[0] == 0
    (run,) = runs(tmp_path, "DONE").values()
    summary = json.loads((run / "summary.json").read_text())
    for name in ("DONE", "summary.json", "last.ckpt"):
        (run / name).unlink()
    code, _, err = typed("train", *fast, "depth=1")
    assert code == 0 and (run / "DONE").exists(), err
    assert json.loads((run / "summary.json").read_text())["best"] == summary["best"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if "val/loss" in line] == [1, 2]


@pytest.mark.parametrize("launcher", [["basic"], ["joblib", "hydra.launcher.n_jobs=1"]])
def test_a_failure_is_said_once_and_a_second_one_for_its_own_reason(
    typed: Typed, fast: list[str], tmp_path: Path, launcher: list[str]
) -> None:
    command = ["train", *fast, "depth=1", f"launcher={launcher[0]}", *launcher[1:]]
    explode = ["model=rnn", "model.options.activation=relu", "optimizer=sgd", "clip=null", "lr=1e20"]
    code, _, err = typed(*command, *explode)
    (run,) = runs(tmp_path, "FAILED").values()
    assert code == 1 and noted(run) == "not finite"
    assert sum("not finite" in line for line in err.splitlines()) == 1, err

    def fails_again(with_what: str) -> None:
        os.utime(run / "FAILED", (1, 1))
        code, _, err = typed(*command, *explode)
        note = (run / "FAILED").read_text()
        assert code == 2 and with_what in note.splitlines()[-1] and "not finite" not in note
        assert sum(" depth=1 " in line for line in err.splitlines()) == 1 and "not finite" not in err, err

    (run / "last.ckpt").write_bytes(b"of another version")  # known once the run is opened
    fails_again("last.ckpt")
    (reviews,) = tmp_path.glob("reviews*.csv")
    reviews.unlink()  # known before that
    fails_again(reviews.name)


@pytest.mark.slow
def test_a_second_failure_in_another_process_is_said_once_and_for_its_own_reason(
    typed: Typed, fast: list[str], tmp_path: Path
) -> None:
    command = ["train", *fast, "depth=1,2", "launcher=joblib", "hydra.launcher.n_jobs=2"]
    explode = ["model=rnn", "model.options.activation=relu", "optimizer=sgd", "clip=null", "lr=1e20"]
    assert typed(*command, *explode)[0] == 1 and len(runs(tmp_path, "FAILED")) == 2
    (reviews,) = tmp_path.glob("reviews*.csv")
    reviews.unlink()
    for run in runs(tmp_path, "FAILED").values():
        os.utime(run / "FAILED", (1, 1))
    code, _, err = typed(*command, *explode)
    assert code == 2 and "not finite" not in err
    for depth in (1, 2):
        (line,) = (line for line in err.splitlines() if line.startswith("error: ") and f" depth={depth} " in line)
        assert ": wrong request: " in line


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_whose_process_always_dies_has_failed_and_takes_no_other_with_it(fast: list[str], tmp_path: Path) -> None:
    cells = ",".join(f"trouble_cells.{cell}" for cell in ("Dies", "Once", "Plain", "Held", "Waits"))
    varied = ["model=custom", f"model.cell={cells}", "launcher=joblib", "hydra.launcher.n_jobs=2"]
    command = [sys.executable, "-m", "src.train", *fast, *varied]
    options = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 500}
    env = trouble_environment(tmp_path)
    done = subprocess.run(command, env=env, **options)
    ((name, folder),) = runs(tmp_path, "FAILED").items()
    assert done.returncode == 1 and "Dies" in name, done.stderr
    assert (folder / "FAILED").read_text().endswith("\nreason: its process was killed (out of memory?)\n")
    assert sum("its process was killed (out of memory?)" in line for line in done.stderr.splitlines()) == 1
    assert len(runs(tmp_path, "DONE")) == 4 and f"1 of 5 runs failed ({name})" in done.stderr, done.stderr


def living(group: int) -> list[str]:
    """Processes of a group that are not merely waiting to be buried."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, rest = stat.read_text().rpartition(")")
            state, _, its_group = rest.split()[:3]
            found += [name] if int(its_group) == group and state != "Z" else []
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")
def test_ctrl_c_under_joblib_is_one_line_leaves_no_process_and_the_same_command_goes_on(
    fast: list[str], tmp_path: Path
) -> None:
    many = [*fast, "epochs=80", "depth=1,2", "launcher=joblib", "hydra.launcher.n_jobs=2"]
    options = {"cwd": tmp_path, "env": environment(tmp_path), "stdout": subprocess.DEVNULL, "text": True}
    command = [sys.executable, "-m", "src.train", *many]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True, **options)
    wait_for(lambda: len(runs(tmp_path, "last.ckpt")) == 2, process)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert said.splitlines() == ["2 runs: 2 new", "stopped by SIGINT; the same command goes on with what is left"]
    wait_for(lambda: not living(process.pid), seconds=10)
    assert not runs(tmp_path, "DONE", "FAILED")

    again = subprocess.run(command, stderr=subprocess.PIPE, timeout=300, **options)
    assert again.returncode == 0 and again.stderr.startswith("2 runs: 2 begun, to go on\n"), again.stderr
    for run in runs(tmp_path, "DONE").values():
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in lines if "val/loss" in line] == list(range(1, 81))
    assert len(runs(tmp_path, "DONE")) == 2


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], None]]:
    """A function that lets this process write no file larger than some bytes, as a full disk would not."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_fails_the_run_that_it_has_no_room_for(typed: Typed, fast, small_disk, tmp_path: Path) -> None:
    varied = ["width=512,4,8"]  # the first one's checkpoint takes megabytes
    small_disk(2_000_000)
    code, _, err = typed("train", *fast, *varied)
    assert code == 1
    ((name, folder),) = runs(tmp_path, "FAILED").items()
    assert name.startswith("width-512") and (folder / "FAILED").read_text().endswith("\nreason: disk full\n")
    (line,) = (line for line in err.splitlines() if line.startswith("error: width=512 "))
    assert f"cannot write {folder}/best.ckpt: File too large; no file was left behind" in line.replace("./", "")
    assert not list(folder.glob(".*.tmp")) and "Traceback" not in err
    done = runs(tmp_path, "DONE")
    before = content(done)
    assert len(done) == 2
    assert "disk full" in (tmp_path / "outputs/sweeps/s/table.md").read_text()

    small_disk(resource.RLIM_INFINITY)
    assert typed("train", *fast, *varied)[0] == 0
    assert len(runs(tmp_path, "DONE")) == 3 and content(done) == before


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """``outputs`` as a file system of its own, of 3 MB."""
    disk = tmp_path / "outputs"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a file system: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def fill(disk: Path, but: int) -> Path:
    """A file that leaves so many bytes free on a disk."""
    filler = disk / "filler"
    space = os.statvfs(disk)
    filler.write_bytes(bytes(space.f_bavail * space.f_frsize - but))
    return filler


def test_a_disk_that_is_really_full_fails_one_run_and_harms_no_other(
    typed: Typed, fast: list[str], tiny_disk: Path, tmp_path: Path
) -> None:
    code, _, err = typed("train", *fast, "width=512,4,8")
    assert code == 1 and "Traceback" not in err
    ((name, folder),) = runs(tmp_path, "FAILED").items()
    assert name.startswith("width-512") and (folder / "FAILED").read_text().endswith("\nreason: disk full\n")
    (line,) = (line for line in err.splitlines() if line.startswith("error: width=512 "))
    assert line.endswith("best.ckpt: No space left on device; no file was left behind")
    assert len(runs(tmp_path, "DONE")) == 2 and not list(folder.glob(".*.tmp"))
    assert "1 FAILED (disk full)" in (tiny_disk / "sweeps/s/table.md").read_text()


@pytest.mark.parametrize(
    ("free", "launcher"),
    [
        (8192, "basic"),
        pytest.param(0, "basic", marks=pytest.mark.slow),
        pytest.param(65536, "basic", marks=pytest.mark.slow),
        pytest.param(8192, "joblib", marks=pytest.mark.slow),  # no FAILED tells the sweep: the run's process does
    ],
)
def test_where_a_disk_has_no_room_left_every_run_says_so_and_goes_on_once_there_is(
    typed: Typed, fast: list[str], tiny_disk: Path, tmp_path: Path, free: int, launcher: str
) -> None:
    assert typed("train", *fast, "depth=1")[0] == 0
    done = runs(tmp_path, "DONE")
    before = content(done)
    filler = fill(tiny_disk, but=free)
    code, _, err = typed("train", *fast, "depth=1,2,3", f"launcher={launcher}")
    assert code == 1 and "Traceback" not in err, err
    assert "Errno" not in err  # every line says which file
    for depth in (2, 3):
        (line,) = (line for line in err.splitlines() if line.startswith(f"error: depth={depth} "))
        assert "No space left on device" in line
    assert content(done) == before and len(runs(tmp_path, "DONE")) == 1

    filler.unlink()
    assert typed("train", *fast, "depth=1,2,3")[0] == 0
    assert content(done) == before and len(runs(tmp_path, "DONE")) == 3
    assert "3 runs: 3 DONE" in (tiny_disk / "sweeps/s/table.md").read_text()


@pytest.mark.parametrize("place", ["outputs", "outputs/sweeps", "outputs/sweeps/s"])
def test_a_sweep_whose_folder_cannot_be_made_is_refused_in_one_line(
    typed: Typed, fast: list[str], tmp_path: Path, place: str
) -> None:
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text("a file")
    code, _, err = typed("train", *fast, "depth=1,2")
    assert code == 2 and len(err.splitlines()) == 1 and err.startswith("error: outputs"), err
    assert (tmp_path / place).read_text() == "a file"


@pytest.mark.parametrize("launcher", ["basic", pytest.param("joblib", marks=pytest.mark.slow)])
def test_a_run_whose_folder_cannot_be_made_is_named_and_the_others_go_on(
    typed: Typed, fast: list[str], tmp_path: Path, launcher: str
) -> None:
    assert typed("train", *fast, "depth=1")[0] == 0
    (run,) = runs(tmp_path, "DONE").values()
    shutil.rmtree(run)
    run.write_text("a file")
    code, _, err = typed("train", *fast, "depth=1,2", f"launcher={launcher}")
    said = [line for line in err.splitlines() if line.startswith("error: depth=1 ")]
    assert code == 1 and len(said) == 1 and f"{run.name}: cannot be made or opened" in said[0], err
    assert run.read_text() == "a file" and len(runs(tmp_path, "DONE")) == 1


def test_a_run_of_an_older_version_is_named_left_as_it_is_and_in_the_table(
    typed: Typed, fast: list[str], tmp_path: Path
) -> None:
    assert typed("train", *fast, "depth=1,2")[0] == 0
    made = min(runs(tmp_path, "DONE").values())
    words = made.name.rpartition("-")[0]
    old = made.rename(made.with_name(f"{words}-0123abcd"))  # another version's configurations have other hashes
    config = (old / "config.yaml").read_text()
    (old / "config.yaml").write_text(config.replace("\nclip: 1.0\n", "\nclipping: 1.0\n"))
    before = content({"": old})
    code, _, err = typed("train", *fast, "depth=1,2")
    assert code == 0 and "2 runs: 1 new, 1 done" in err
    (line,) = (line for line in err.splitlines() if line.startswith(f"{old.name}: "))
    assert "left as it is" in line and "another version wrote it" in line and "clip" in line
    assert content({"": old}) == before
    assert "3 runs: 3 DONE" in (tmp_path / "outputs/sweeps/s/table.md").read_text()


def test_a_checkpoint_of_another_version_fails_its_own_run_only(typed: Typed, fast: list[str], tmp_path: Path) -> None:
    assert typed("train", *fast, "depth=1")[0] == 0
    (run,) = runs(tmp_path, "DONE").values()
    (run / "DONE").unlink()  # cut off, then
    (run / "last.ckpt").write_bytes(b"of another version")
    code, _, err = typed("train", *fast, "depth=1,2")
    assert code == 2 and "2 runs: 1 begun, to go on, 1 new" in err
    assert sum(line.startswith("error: depth=1 ") and "last.ckpt" in line for line in err.splitlines()) == 1, err
    assert (run / "last.ckpt").read_bytes() == b"of another version"
    assert len(runs(tmp_path, "DONE")) == 1 and list(runs(tmp_path, "FAILED")) == [run.name]
