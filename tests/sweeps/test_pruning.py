"""The median rule over siblings' metrics.jsonl, and a run that it ends."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from made_sweep import make_run

from src.config import Config
from src.sweeps.pruning import best_until, median_rule

Typed = Callable[..., tuple[int, str, str]]  # exit code, standard output, standard error


def write(folder: Path, values: list[float | None], monitor: str = "val/accuracy") -> None:
    """A sibling with one evaluation an epoch, and lines of training between them."""
    folder.mkdir(parents=True)
    lines = [{"step": 1, "epoch": 1, "train/loss": 1.0}]
    lines += [{"step": n, "epoch": n, monitor: value} for n, value in enumerate(values, 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"torn')


@pytest.mark.parametrize(("mode", "monitor", "sign"), [("max", "val/accuracy", 1), ("min", "val/loss", -1)])
def test_a_run_ends_where_its_best_is_worse_than_the_median_of_enough_siblings_that_came_as_far(
    mode: str, monitor: str, sign: int, tmp_path: Path, configured: Callable[..., Config]
) -> None:
    watched = [f"trainer.mode={mode}", f"trainer.monitor={monitor}"]
    cfg = configured("sweep.prune=median", "sweep.warmup_epochs=2", "sweep.min_siblings=3", *watched)
    rule = median_rule(cfg, tmp_path / "own")
    write(tmp_path / "own", [9.0, 9.0], monitor)  # its own curve is no sibling's
    write(tmp_path / "a", [0.3 * sign, 0.2 * sign, 0.9 * sign], monitor)  # its best by epoch 2 is that of epoch 1
    write(tmp_path / "b", [0.4 * sign, 0.5 * sign], monitor)
    write(tmp_path / "c", [0.99 * sign], monitor)  # has not come as far
    (tmp_path / "notes").mkdir()
    assert rule(2, 0.1 * sign) is None  # two siblings are too few
    write(tmp_path / "d", [None, 0.4 * sign], monitor)
    assert rule(1, 0.1 * sign) is None  # too early
    assert rule(2, 0.4 * sign) is None and rule(2, 0.45 * sign) is None
    why = rule(2, 0.39 * sign)
    assert why is not None and f"{0.4 * sign:.4f}" in why and "3 siblings" in why and "epoch 2" in why


def test_the_best_until_an_epoch_is_none_for_a_run_that_is_not_there_yet() -> None:
    lines = [{"epoch": 1, "v": 0.1}, {"epoch": 2, "train": 3.0}, {"epoch": 2, "v": 0.3}, {"epoch": 3, "v": 0.2}]
    assert [best_until(lines, "v", 1, epoch) for epoch in (1, 2, 3, 4)] == [0.1, 0.3, 0.3, None]
    assert best_until(lines, "v", -1, 3) == 0.1 and best_until([], "v", 1, 1) is None


def test_a_pruned_run_is_marked_keeps_its_best_and_is_skipped_by_the_same_command(
    typed: Typed, reviews: Path, tmp_path: Path
) -> None:
    sweep = tmp_path / "outputs/sweeps/p"
    for number in range(2):
        make_run(sweep / f"better-{number}", best=0.999, epochs=3)
    small = ["-m", "data=text_file", f"data.path={reviews}", "width=4", "batch_size=16", "epochs=3", "logger=none"]
    command = [*small, "sweep.name=p", "sweep.prune=median", "sweep.min_siblings=2", "depth=1"]
    code, out, err = typed("train", *command)
    assert code == 0 and "warning: pruned: val/accuracy" in out, err
    (run,) = sweep.glob("data-text_file*")
    assert (run / "PRUNED").read_text().startswith("val/accuracy 0.") and not (run / "DONE").exists()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["best"]["epoch"] == 1 and summary["final"]["epoch"] == 1 and summary["pruned"]
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    code, _, err = typed("train", *command)
    assert (code, err) == (0, "1 runs: 1 pruned\ntable and figures: outputs/sweeps/p/page.html\n")
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert typed("train", f"resume={run}", "sweep.prune=null")[0] == 0  # who wants to can let it go on
    assert (run / "DONE").exists() and not (run / "PRUNED").exists()
