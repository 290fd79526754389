"""The table of a sweep: what differs between runs, the mean and spread over seeds, and what is not finished."""

import json

import pytest
import yaml

from src.errors import RequestError
from src.sweeps.__main__ import main
from src.sweeps.table import choices, compare, read_sweep, to_markdown


@pytest.fixture
def sweep(tmp_path):
    """Two cells, two seeds each; one run failed."""
    for cell, seed, accuracy in (("gru", 0, 0.8), ("gru", 1, 0.9), ("lstm", 0, 0.7), ("lstm", 1, None)):
        folder = tmp_path / f"{cell}-{seed}"
        folder.mkdir()
        config = {"model": {"cell": cell}, "depth": 2, "seed": seed, "sweep": {"name": "x"}}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / ("FAILED" if accuracy is None else "DONE")).touch()
        if accuracy is not None:
            best = {"val/accuracy": accuracy, "val/baseline": 0.5, "epoch": 2 + seed}
            summary = {"best": best, "final": best, "params": 10, "seconds": 1.0, "steps": 5}
            (folder / "summary.json").write_text(json.dumps(summary))
    return tmp_path


def test_the_table_gives_mean_and_spread_over_seeds_beside_the_baseline(sweep):
    runs = read_sweep(sweep)
    assert choices(runs) == ["model.cell"]
    table = compare(runs)
    assert table["model.cell"].tolist() == ["gru", "lstm"]
    assert table["done"].tolist() == ["2/2", "1/2"]
    assert table[["mean", "lowest", "highest"]].round(6).values.tolist() == [[0.85, 0.8, 0.9], [0.7, 0.7, 0.7]]
    assert table["epoch"].tolist() == [2.5, 2.0] and table["baseline"].tolist() == [0.5, 0.5]
    assert "| gru | 2/2 | 0.8500 | 0.8000 | 0.9000 | 2.5 | 10 | 1 | 0.5000 |" in to_markdown(table)


def test_a_folder_without_runs_and_an_unknown_metric_are_named(sweep, tmp_path_factory, capsys):
    with pytest.raises(RequestError, match="they have: val/accuracy"):
        compare(read_sweep(sweep), "val/acuracy")
    assert main([str(tmp_path_factory.mktemp("empty"))]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert main([]) == 2
