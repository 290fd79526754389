"""The figure of which cell remembers how far."""

from pathlib import Path
from typing import Any

import pytest
from made_sweep import make_run

from src.sweeps.report.figures import draw_all
from src.sweeps.report.memory import draw_memory, remembered, remembered_by_setting
from src.sweeps.report.runs import Run, read_runs
from src.sweeps.report.table import Comparison, Metric, compare

WATCHED: dict[str, Any] = {"monitor": "val/mae", "mode": "min"}


def swept(folder: Path) -> Comparison:
    """Two cells at two lengths, two seeds each; the trivial loss is 0.5, and one run has not finished an epoch."""
    for cell, length, seed, best in (
        ("rnn", 10, 0, 0.1),
        ("rnn", 10, 1, 0.3),
        ("rnn", 100, 0, 0.6),
        ("lstm", 10, 0, 0.0),
        ("lstm", 100, 0, 0.25),
    ):
        how: dict[str, Any] = {"model__cell": cell, "model__horizon": length, "data__length": length, "seed": seed}
        make_run(folder / f"{cell}-{length}-{seed}", best=best, data__name="adding", **how, **WATCHED)
    how = {"model__cell": "gru", "model__horizon": 10, "data__length": 10}
    make_run(folder / "gru-10-0", end=None, best=None, epochs=0, data__name="adding", **how, **WATCHED)
    return compare(read_runs(folder))


def run_with(**best: float) -> Run:
    return Run("r", "DONE", "", {}, {name.replace("__", "/"): value for name, value in best.items()}, [], 1, 1.0, 1)


@pytest.mark.parametrize(
    ("metric", "best", "share"),
    [
        (Metric("val/loss", "min"), {"val__loss": 0.0, "val__baseline": 0.2}, 1.0),
        (Metric("val/loss", "min"), {"val__loss": 0.05, "val__baseline": 0.2}, 0.75),
        (Metric("val/loss", "min"), {"val__loss": 0.3, "val__baseline": 0.2}, 0.0),
        (Metric("val/accuracy", "max"), {"val__accuracy": 0.75, "val__baseline": 0.5}, 0.5),
        (Metric("val/accuracy", "max"), {"val__accuracy": 0.75}, None),
        (Metric("val/loss", "min"), {"val__baseline": 0.2}, None),
    ],
)
def test_the_share_is_what_lies_between_no_memory_and_a_perfect_one(
    metric: Metric, best: dict[str, float], share: float | None
) -> None:
    assert remembered(run_with(**best), metric) == (None if share is None else pytest.approx(share))


def test_settings_are_told_apart_by_all_but_what_follows_from_the_length(tmp_path: Path) -> None:
    found = remembered_by_setting(swept(tmp_path), [10, 100])
    assert found == {"rnn": [pytest.approx(0.6), 0.0], "lstm": [1.0, pytest.approx(0.5)], "gru": [None, None]}


def test_the_figure_is_drawn_where_lengths_differ_and_nowhere_else(tmp_path: Path) -> None:
    found = swept(tmp_path / "sweep")
    assert tmp_path / "memory.png" in draw_all(found, tmp_path)
    figure = draw_memory(found)
    assert figure is not None
    texts = {text.get_text() for text in figure.axes[0].texts}
    assert texts == {"0.60", "0.00", "1.00", "0.50", "–"}
    make_run(tmp_path / "one" / "run", best=0.1, data__length=10, **WATCHED)
    assert draw_memory(compare(read_runs(tmp_path / "one"))) is None
