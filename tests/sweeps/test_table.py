"""The table of a sweep: what differs between runs, the mean and spread over seeds, and what is not finished."""

import csv
import io
import re

import pytest
from made_sweep import ODD, OUT_OF_MEMORY, make_run, make_sweep
from rich.console import Console

from src.errors import RequestError
from src.sweeps.__main__ import main
from src.sweeps.report.classes import MOST_CLASSES, class_scores
from src.sweeps.report.runs import read_runs
from src.sweeps.report.table import compare
from src.sweeps.report.text import headline, to_markdown, to_terminal
from src.sweeps.report.view import heat_map


@pytest.fixture
def sweep(tmp_path):
    """Two cells, two seeds each; one run failed."""
    make_run(tmp_path / "a", best=0.8, model__cell="gru", seed=0)
    make_run(tmp_path / "b", best=0.9, model__cell="gru", seed=1, epochs=6)
    make_run(tmp_path / "c", best=0.7, model__cell="lstm", seed=0)
    make_run(tmp_path / "d", best=0.99, model__cell="lstm", seed=1, end="FAILED", why=OUT_OF_MEMORY)
    return tmp_path


def test_settings_are_ranked_by_the_mean_over_their_finished_runs_with_the_spread_over_seeds(sweep):
    found = compare(read_runs(sweep))
    assert found.choices == {"model.cell": "cell"} and found.baseline == 0.5
    assert found.table["cell"].tolist() == ["gru", "lstm"]
    assert found.table[["mean", "lowest", "highest"]].round(6).values.tolist() == [[0.85, 0.8, 0.9], [0.7, 0.7, 0.7]]
    assert found.table["std"].tolist()[0] == pytest.approx(0.0707106, abs=1e-6)  # one degree of freedom less
    assert found.table["epoch"].tolist() == [5.5, 5.0]
    assert found.table["state"].tolist() == ["2 DONE", "1 DONE, 1 FAILED (out of memory)"]
    assert found.frame["setting"].tolist() == [0, 0, 1, 1]
    text = to_markdown(found)
    assert "| 1 | gru | 2 DONE | 0.8500 | 0.0707 | 0.8000 | 0.9000 | 5.5 | 2,000 | 8.2 |" in text
    assert "| d | FAILED | out of memory |" in text
    assert headline(found).startswith("4 runs: 3 DONE, 1 FAILED (out of memory). Ranked by val/accuracy, highest first")


def test_runs_are_ranked_by_what_they_watch_and_the_lower_perplexity_is_the_better(tmp_path):
    for name, best in (("a", 90.0), ("b", 60.0), ("c", 70.0)):
        make_run(tmp_path / name, best=best, monitor="val/perplexity", mode="min", model__cell=name)
    found = compare(read_runs(tmp_path))
    assert found.metric == ("val/perplexity", "min") and found.table["cell"].tolist() == ["b", "c", "a"]
    assert compare(read_runs(tmp_path), "val/loss").metric.mode == "min"
    assert compare(read_runs(tmp_path), "val/loss", "max").metric.mode == "max"
    heat = heat_map(found)
    assert heat.values == [[[60.0]], [[70.0]], [[90.0]]] or heat.values == [[[90.0, 60.0, 70.0]]]


def test_settings_without_a_finished_run_come_last_marked_and_without_a_value_last_of_all(tmp_path):
    make_run(tmp_path / "a", best=0.6, depth=1)
    make_run(tmp_path / "b", best=0.9, depth=2, end=None)
    make_run(tmp_path / "c", best=None, depth=3, end="FAILED", why="x")
    found = compare(read_runs(tmp_path))
    assert found.table["depth"].tolist() == [1, 2, 3]
    lines = to_markdown(found).splitlines()
    assert "~0.89" in lines[5] and "~" not in lines[4] and "| 3 | 3 | 1 FAILED (x) | ~" not in lines[6]
    assert "~ so far: none of its runs is DONE." in lines


def test_a_choice_that_another_tells_is_left_out_and_one_that_was_drawn_at_random_is_not(tmp_path):
    links = [("none", None), ("residual", None), ("highway", -2.0)]
    for number, (link, gate) in enumerate(links * 2):
        options = {"link": {"name": link, "gate_bias": gate}, "lr": 0.1 * number + 0.01, "dropout": 0.5 - 0.07 * number}
        make_run(tmp_path / str(number), depth=1 + number // 3, threads=number, logger__name=f"l{number}", **options)
    assert list(compare(read_runs(tmp_path)).choices.values()) == ["link", "depth", "lr", "dropout"]


def test_how_and_where_a_run_was_made_splits_no_seeds_of_one_setting(tmp_path):
    make_run(tmp_path / "a", seed=0, data__cache_dir="here", data__name="imdb", trainer__precision="fp32")
    how = {"progress": False, "summary": False, "checkpoint_minutes": 5.0, "timeout_minutes": 1.0}
    made = {f"trainer__{key}": value for key, value in how.items()} | {"data__cache_dir": "there", "threads": 1}
    make_run(tmp_path / "b", seed=1, data__name="imdb", trainer__precision="fp32", **made)
    found = compare(read_runs(tmp_path))
    assert found.choices == {} and found.table["state"].tolist() == ["2 DONE"]
    make_run(tmp_path / "c", seed=1, data__name="imdb", trainer__precision="bf16", **made)
    assert compare(read_runs(tmp_path)).choices == {"trainer.precision": "precision"}


def test_the_heat_map_is_depth_against_rate_for_each_cell_and_takes_the_best_of_what_shares_a_place(tmp_path):
    make_sweep(tmp_path, cells=2, depths=3, rates=3, seeds=1)
    make_run(tmp_path / "wide", best=0.99, model__cell="gru", depth=2, lr=1e-3, width=128)
    heat = heat_map(compare(read_runs(tmp_path)))
    assert (heat.x, heat.y, heat.facet) == ("lr", "depth", "cell")
    assert (heat.xs, heat.ys, heat.panels) == (["0.0001", "0.0003", "0.001"], ["1", "2", "3"], ["gru", "lstm"])
    assert heat.values[0][1][2] == 0.99 and len(heat.settings[0][1][2]) == 2
    assert heat.values[0][1][0] is None  # it ran out of memory before it was evaluated


def test_each_class_has_its_mean_f1_by_setting_and_of_many_classes_those_that_are_told_worst(tmp_path):
    make_run(tmp_path / "a", best=0.9, model__cell="gru", seed=0, class_f1={"neg": 0.9, "po,s": 0.5})
    make_run(tmp_path / "b", best=0.9, model__cell="gru", seed=1, class_f1={"neg": 0.7, "po,s": 0.0})
    make_run(tmp_path / "c", best=0.8, model__cell="lstm", class_f1={"neg": 0.6})
    make_run(tmp_path / "d", best=0.7, model__cell="rnn")
    assert class_scores(compare(read_runs(tmp_path))) == (["neg", "po,s"], [0, 1], [[0.8, 0.25], [0.6, None]], 2)
    (tmp_path / "c" / "classes.csv").write_text("class,f1\nneg,high\n")  # damaged: it hides no other
    assert class_scores(compare(read_runs(tmp_path))).settings == [0]
    make_run(tmp_path / "e", best=0.95, model__cell="mgu", class_f1={f"class {k}": k / 1000 for k in range(1000)})
    found = class_scores(compare(read_runs(tmp_path / "e")))
    assert found.names == [f"class {k}" for k in range(MOST_CLASSES)] and found.classes == 1000


def test_a_choice_of_many_numbers_is_put_into_bins(tmp_path):
    for number in range(30):
        make_run(tmp_path / f"{number:02}", best=0.5 + 0.01 * number, lr=1e-5 * 1.4**number, depth=1 + number % 2)
    heat = heat_map(compare(read_runs(tmp_path)))
    assert len(heat.xs) == 8 and len(heat.ys) == 2
    assert sum(len(cell) for row in heat.settings[0] for cell in row) == 30
    assert max(value for row in heat.values[0] for value in row if value is not None) == 0.79


def test_odd_names_stay_in_their_cell_of_markdown_csv_and_terminal(tmp_path):
    make_run(tmp_path / "a", model__cell=ODD)
    make_run(tmp_path / "b", model__cell="[red]x[/nope]")
    assert main([str(tmp_path)]) == 0
    rows = [line for line in (tmp_path / "table.md").read_text().splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows[:4]}) == 1 and "<script" not in "".join(rows)
    assert [row["cell"] for row in csv.DictReader((tmp_path / "table.csv").open())] == [ODD, "[red]x[/nope]"]
    console = Console(file=io.StringIO(), width=200)
    console.print(to_terminal(compare(read_runs(tmp_path))))
    assert "[red]x[/nope]" in console.file.getvalue()


def test_the_command_prints_the_table_and_leaves_every_file(sweep, capsys):
    assert main([str(sweep)]) == 0
    out, err = capsys.readouterr()
    assert "| 1 | gru |" in out and err.strip().endswith("page.html")
    names = {file.name for file in sweep.iterdir() if file.is_file()}
    assert names == {"table.md", "table.csv", "runs.csv", "page.html"}
    figures = {"heat_map.png", "curves.png", "parameters.png", "seconds.png", "parallel.png"}
    assert {file.name for file in (sweep / "figures").iterdir()} == figures
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in (sweep / "figures").iterdir())
    assert main([str(sweep), "val/loss"]) == 0
    assert "Ranked by val/loss, lowest first" in capsys.readouterr().out


def test_wrong_requests_are_one_line_and_exit_code_2(sweep, tmp_path_factory, capsys):
    with pytest.raises(RequestError, match=re.escape("val/acuracy: no such metric (did you mean val/accuracy?)")):
        compare(read_runs(sweep), "val/acuracy")
    assert main([str(tmp_path_factory.mktemp("empty"))]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert main([]) == 2


@pytest.mark.parametrize("best", [0.8, None, float("nan")])
def test_a_single_run_and_one_without_a_value_are_shown_too(tmp_path, best):
    make_run(tmp_path / "a", best=best, epochs=0 if best is None else 2)
    assert main([str(tmp_path)]) == 0
    make_run(tmp_path / "b", end=None, epochs=0)
    (tmp_path / "b" / "config.yaml").unlink()
    assert main([str(tmp_path)]) == 0
