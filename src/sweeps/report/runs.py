"""The runs below a folder, read from their own files only, at any moment of their lives."""

import csv
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from src.errors import RequestError
from src.tracking.metrics_file import read_metrics
from src.tracking.run_folder import ENDS, MARKS, end_of, is_held, noted

DONE, FAILED, PRUNED = ENDS
RUNNING, CUT_OFF = "running", "cut off"
STATES = (*ENDS, RUNNING, CUT_OFF)
"""How a run ended, or that it did not."""


@dataclass(frozen=True)
class Run:
    """One run as its folder tells it."""

    name: str
    """Its folder, as seen from the folder of the sweep."""
    state: str
    """One of ``STATES``."""
    reason: str
    """Why it FAILED or was PRUNED, or what of its files cannot be read; empty where all is well."""
    config: dict[str, Any]
    """``config.yaml``, flat: ``model.cell`` and so on; empty where it cannot be read."""
    best: dict[str, float | None]
    """Metrics of its best evaluation so far, the test's among them, and ``epoch``."""
    lines: list[dict[str, Any]]
    """``metrics.jsonl``."""
    params: int | None
    seconds: float | None
    steps: int | None
    class_f1: dict[str, float] = field(default_factory=dict)
    """Of each class, where the task has classes and the run is over."""

    def value(self, metric: str) -> float | None:
        """A metric at its best evaluation; None where it is missing or not finite."""
        return self.best.get(metric)


def read_runs(folder: Path) -> list[Run]:
    """Every run below a folder, by name; one that is deleted meanwhile is left out.

    Raises:
        RequestError: if there is none.
    """
    runs = []
    for path in run_folders(folder):
        try:
            runs.append(read_run(path, str(path.relative_to(folder)) if path != folder else path.name))
        except FileNotFoundError:
            continue
    if not runs:
        what = "holds no run: a run folder has a config.yaml" if folder.is_dir() else "no such folder"
        raise RequestError(f"{folder}: {what}")
    return runs


def run_folders(folder: Path) -> Iterator[Path]:
    """The folders at or below this one that hold a run; what lies below a run is its own."""
    for path, below, files in os.walk(folder):
        below.sort()
        if set(MARKS) & set(files):
            below.clear()
            yield Path(path)


def read_run(folder: Path, name: str) -> Run:
    """One run. What is damaged or of another version becomes its ``reason`` and hides no other run.

    Raises:
        FileNotFoundError: the folder is gone.
    """
    troubles: list[str] = []
    config = flatten(_container(folder / "config.yaml", troubles))
    summary = _container(folder / "summary.json", troubles)
    lines: list[dict[str, Any]] = []
    try:
        lines = [line for line in read_metrics(folder / "metrics.jsonl") if isinstance(line, dict)]
    except RequestError:
        troubles.append("metrics.jsonl is damaged")
    state = end_of(folder)
    if state is None:
        folder.stat()  # gone?
        state = RUNNING if is_held(folder) else CUT_OFF
    elif state in (FAILED, PRUNED):
        troubles.insert(0, noted(folder, state))
    best = summary.get("best") or best_of(lines, config)
    last = lines[-1] if lines else {}
    return Run(
        name=name,
        state=state,
        reason="; ".join(filter(None, troubles)),
        config=config,
        best={**best, **(summary.get("test") or {})},
        lines=lines,
        params=summary.get("params"),
        seconds=summary.get("seconds", last.get("time")),
        steps=summary.get("steps", last.get("step")),
        class_f1=scores_of(folder / "classes.csv"),
    )


def best_of(lines: list[dict[str, Any]], config: Mapping[str, Any]) -> dict[str, Any]:
    """The best evaluation so far, by what the run itself watches."""
    monitor = str(config.get("trainer.monitor"))
    evaluated = [line for line in lines if line.get(monitor) is not None]
    if not evaluated:
        return {}
    pick = min if config.get("trainer.mode") == "min" else max
    return {key: value for key, value in pick(evaluated, key=lambda line: line[monitor]).items() if key != "step"}


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested configuration as one level of dotted keys; lists become text."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = f"[{','.join(map(str, value))}]" if isinstance(value, list) else value
    return flat


def scores_of(path: Path) -> dict[str, float]:
    """F1 by class as a run's ``classes.csv`` has it; nothing where there is none that can be read."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {row["class"]: float(row["f1"]) for row in csv.DictReader(file)}
    except (OSError, KeyError, TypeError, ValueError, csv.Error):
        return {}


def _container(path: Path, troubles: list[str]) -> dict[str, Any]:
    """What a YAML or JSON file holds; nothing where it is not there or damaged, which is noted."""
    try:
        text = path.read_text(encoding="utf-8")
        # YAML's parser in C takes a tenth of the time, and after each job of a sweep all runs are read again.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        found = json.loads(text) if path.suffix == ".json" else yaml.load(text, loader)
    except FileNotFoundError:
        return {}
    except (ValueError, yaml.YAMLError, OSError):
        found = None
    if isinstance(found, dict):
        return found
    troubles.append(f"{path.name} is damaged")
    return {}
