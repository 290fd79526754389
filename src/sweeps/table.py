"""Runs of a sweep side by side: what differs between them, and what came of it, with the spread over seeds."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from src.errors import RequestError

NOT_CHOICES = {"seed", "resume", "threads", "logger", "sweep", "experiment", "debug"}  # what makes no other experiment
STATES = ("DONE", "FAILED")


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested configuration as one level of dotted keys; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return flat


def read_run(folder: Path) -> dict[str, Any]:
    """One run as a row: its configuration, its state, and its summary if it has one."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    row: dict[str, Any] = {"run": folder.name}
    row["state"] = next((state for state in STATES if (folder / state).exists()), "OPEN")
    row |= {key: str(value) for key, value in flatten(config).items() if key.split(".")[0] not in NOT_CHOICES}
    row["seed"] = config["seed"]
    summary = folder / "summary.json"
    if summary.exists():
        found = json.loads(summary.read_text())
        row |= {f"best/{key}": value for key, value in found["best"].items()}
        row |= {f"test/{key}": value for key, value in found.get("test", {}).items()}
        row |= {key: found[key] for key in ("params", "seconds", "steps")}
    return row


def read_sweep(folder: Path) -> pd.DataFrame:
    """Every run below a folder, a row each.

    Raises:
        RequestError: if there is none.
    """
    rows = [read_run(config.parent) for config in sorted(folder.glob("**/config.yaml"))]
    if not rows:
        raise RequestError(f"{folder} holds no run: a run folder has a config.yaml")
    return pd.DataFrame(rows)


def choices(runs: pd.DataFrame) -> list[str]:
    """The configuration keys that differ between the runs."""
    results = ("best/", "test/")
    fixed = {"run", "state", "seed", "params", "seconds", "steps"}
    keys = [key for key in runs.columns if key not in fixed and not key.startswith(results)]
    return [key for key in keys if runs[key].nunique(dropna=False) > 1]


def compare(runs: pd.DataFrame, metric: str = "val/accuracy") -> pd.DataFrame:
    """One row for every setting: runs finished, mean, lowest and highest of a metric over seeds, and what it cost.

    Args:
        runs: as `read_sweep` returns them.
        metric: as summary.json names it among the best.
    Raises:
        RequestError: if no finished run has that metric.
    """
    column = f"best/{metric}"
    if column not in runs:
        known = ", ".join(key.removeprefix("best/") for key in runs.columns if key.startswith("best/"))
        raise RequestError(f"no finished run has the metric {metric!r}; they have: {known or 'nothing yet'}")
    keys = minimal(runs, choices(runs))
    # Runs that differ in nothing but their seed share a row; without choices all of them do.
    groups = runs.assign(all="all").groupby(keys or ["all"], sort=False, dropna=False)
    table = groups.agg(
        done=("state", lambda states: f"{(states == 'DONE').sum()}/{len(states)}"),
        mean=(column, "mean"),
        lowest=(column, "min"),
        highest=(column, "max"),
        epoch=("best/epoch", "mean"),
        params=("params", "mean"),
        seconds=("seconds", "mean"),
    ).reset_index()
    baseline = f"best/{metric.split('/')[0]}/baseline"
    if baseline in runs:
        table["baseline"] = runs[baseline].max()
    return table.drop(columns="all", errors="ignore").sort_values("mean", ascending=False, ignore_index=True)


def minimal(runs: pd.DataFrame, keys: list[str]) -> list[str]:
    """The keys without those that only repeat how an earlier one splits the runs (model.cell beside model.options…)."""
    kept: list[str] = []
    splits: set[tuple[int, ...]] = set()
    for key in keys:
        split = tuple(int(code) for code in pd.factorize(runs[key])[0])
        if split not in splits:
            kept.append(key)
            splits.add(split)
    return kept


def to_markdown(table: pd.DataFrame) -> str:
    """The table as Markdown, numbers rounded to what they can bear."""
    formats = {"epoch": "{:.1f}", "params": "{:,.0f}", "seconds": "{:.0f}"}
    rows = [list(table.columns), ["---"] * len(table.columns)]
    for row in table.to_dict("records"):
        rows.append([show(value, formats.get(str(key), "{:.4f}")) for key, value in row.items()])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def show(value: Any, form: str) -> str:
    """One cell of the table; a dash where there is no value yet."""
    if isinstance(value, float):
        return "–" if pd.isna(value) else form.format(value)
    return str(value)
