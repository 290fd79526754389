"""Runs side by side: what differs between them, and what came of it, with the spread over seeds."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from statistics import stdev
from typing import Any, NamedTuple

import pandas as pd

from src.arguments import NOT_IDENTITY
from src.config import LOWER_IS_BETTER
from src.errors import RequestError, did_you_mean
from src.sweeps.report.runs import DONE, STATES, Run

NOT_CHOICES = (*NOT_IDENTITY, "seed", "diagnostics", "experiment", "debug", "launcher")
"""Keys that make no other experiment, nor does what lies below them."""
SHORT = {"model.cell": "cell", "link.name": "link", "data.name": "data", "task.name": "task"}
RESULTS = ("mean", "std", "lowest", "highest", "epoch", "params", "seconds")
NUMBERS = ("value", "epoch", "params", "seconds", "steps")
LOWER_WORDS = (*LOWER_IS_BETTER, "error", "rmse", "nll")
"""Parts of a metric's name that say so, where no run says it."""


class Metric(NamedTuple):
    """What the runs are ranked by."""

    name: str
    mode: str
    """max or min: which of two values is better."""

    @property
    def sign(self) -> int:
        """Times this, more is better."""
        return -1 if self.mode == "min" else 1


class Comparison(NamedTuple):
    """Runs of a folder, ready to be shown."""

    metric: Metric
    runs: list[Run]
    frame: pd.DataFrame
    """A row for each run: run, setting (its row in ``table``), the choices, seed, state, reason, value, epoch, …"""
    table: pd.DataFrame
    """A row for each setting, best first: the choices, state, done (how many), mean, std, lowest, highest, epoch, …"""
    choices: dict[str, str]
    """The keys that differ, and what to call them."""
    baseline: float | None
    """What the trivial predictor reaches, where the runs say so."""


def compare(runs: Sequence[Run], metric: str | None = None, mode: str | None = None) -> Comparison:
    """Put runs side by side.

    Settings are ranked by the mean over their finished runs; those without a finished one follow, by what their runs
    have reached so far.

    Args:
        runs: as `read_runs` returns them.
        metric: what to rank by; without it what most of the runs watch themselves.
        mode: max or min, where the metric's name does not tell.
    Raises:
        RequestError: if no run has that metric.
    """
    chosen = pick_metric(runs, metric, mode)
    keys = minimal(pd.DataFrame([choices_of(run) for run in runs]))
    names = short_names(keys)
    rows = [row_of(run, names, chosen) for run in runs]
    groups: dict[str, list[int]] = defaultdict(list)  # runs that differ in nothing but their seed
    for place, row in enumerate(rows):
        groups[repr([row[label] for label in names.values()])].append(place)
    settings = [(setting_row([rows[place] for place in places], names), places) for places in groups.values()]
    settings.sort(key=lambda setting: rank_of(setting[0], chosen))
    setting_of = {place: rank for rank, (_, places) in enumerate(settings) for place in places}
    for place, row in enumerate(rows):
        row["setting"] = setting_of[place]
    return Comparison(
        metric=chosen,
        runs=list(runs),
        frame=pd.DataFrame(rows).astype(dict.fromkeys(NUMBERS, float)),
        table=pd.DataFrame([row for row, _ in settings]).astype(dict.fromkeys(RESULTS, float)),
        choices=names,
        baseline=baseline_of(runs, chosen),
    )


def rank_of(setting: dict[str, Any], metric: Metric) -> tuple[bool, bool, float]:
    """What settings are sorted by: finished ones first, then those with a value, then the better one."""
    mean = setting["mean"]
    return not setting["done"], mean is None, 0.0 if mean is None else -mean * metric.sign


def row_of(run: Run, names: dict[str, str], metric: Metric) -> dict[str, Any]:
    """One run as a row."""
    return {
        "run": run.name,
        "setting": 0,
        **{label: run.config.get(key) for key, label in names.items()},
        "seed": run.config.get("seed"),
        "state": run.state,
        "reason": run.reason,
        "value": number(run.value(metric.name)),
        "epoch": number(run.best.get("epoch")),
        "params": number(run.params),
        "seconds": number(run.seconds),
        "steps": number(run.steps),
    }


def setting_row(rows: list[dict[str, Any]], names: dict[str, str]) -> dict[str, Any]:
    """Runs that differ in nothing but their seed as one row; finished ones speak for them all where there are any."""
    valued = [row for row in rows if row["value"] is not None]
    counted = [row for row in valued if row["state"] == DONE] or valued or rows
    values = [row["value"] for row in counted if row["value"] is not None]
    return {
        **{label: rows[0][label] for label in names.values()},
        "state": states_of([(row["state"], row["reason"]) for row in rows]),
        "done": sum(row["state"] == DONE for row in rows),
        "mean": mean_of(values),
        "std": stdev(values) if len(values) > 1 else None,
        "lowest": min(values, default=None),
        "highest": max(values, default=None),
        **{name: mean_of([row[name] for row in counted]) for name in ("epoch", "params", "seconds")},
    }


def mean_of(values: list[float | None]) -> float | None:
    """The mean of what is known."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def states_of(runs: Sequence[tuple[str, str]]) -> str:
    """How runs stand, from their states and reasons: ``2 DONE, 1 FAILED (out of memory)``."""
    parts = []
    for state in STATES:
        reasons = Counter(reason for other, reason in runs if other == state)
        if reasons:
            known = {reason: count for reason, count in reasons.items() if reason and state != DONE}
            told = "; ".join(f"{count}x {reason}" if count > 1 else reason for reason, count in known.items())
            parts.append(f"{reasons.total()} {state}" + (f" ({told})" if told else ""))
    return ", ".join(parts)


def pick_metric(runs: Sequence[Run], name: str | None, mode: str | None) -> Metric:
    """The metric that was asked for, or the one that most runs watch.

    Raises:
        RequestError: if no run has the one that was asked for.
    """
    watched = Counter((r.config["trainer.monitor"], r.config.get("trainer.mode")) for r in runs if monitored(r))
    if name is None:
        (name, usual), _ = watched.most_common(1)[0] if watched else ((None, None), 0)
        return Metric(str(name or "val/accuracy"), mode or usual or "max")
    known = {key for run in runs for key in run.best if "/" in key}
    if name not in known:
        near = did_you_mean(name, known) if known else "; no run has one yet"
        raise RequestError(f"{name}: no such metric{near}")
    usual = next((mode for monitor, mode in watched if monitor == name), None)
    guessed = "min" if any(word in name.lower() for word in LOWER_WORDS) else "max"
    return Metric(name, mode or usual or guessed)


def monitored(run: Run) -> bool:
    """Whether the run says what it watches."""
    return isinstance(run.config.get("trainer.monitor"), str)


def baseline_of(runs: Sequence[Run], metric: Metric) -> float | None:
    """The baseline of the ranking metric: runs note it beside the metric that they watch."""
    split = metric.name.partition("/")[0]
    if any(monitored(run) and run.config["trainer.monitor"] != metric.name for run in runs):
        return None
    values = [value for run in runs if (value := number(run.best.get(f"{split}/baseline"))) is not None]
    return (min if metric.mode == "min" else max)(values, default=None)


def choices_of(run: Run) -> dict[str, Any]:
    """What of a run's configuration makes another experiment."""
    below = tuple(f"{name}." for name in NOT_CHOICES)
    return {key: value for key, value in run.config.items() if not f"{key}.".startswith(below)}


def minimal(configs: pd.DataFrame) -> list[str]:
    """The keys that differ, without those that an earlier one already tells (``link.gate_bias`` beside ``link.name``).

    Only a name tells another key's value, or a number a name: two numbers are two choices, even where a search never
    drew the same one twice.
    """
    kept: list[str] = []
    usual = {"model.cell": 0, "link.name": 1, "depth": 2, "width": 3, "lr": 4}  # a person asks for these first
    known = configs[configs.notna().any(axis=1)]  # a run without a config tells nothing about what differs
    numeric = {key for key in known if all(isinstance(v, int | float) for v in known[key].dropna())}
    values = {key: known[key].map(repr) for key in known}
    for key in sorted(known.columns, key=lambda key: usual.get(key, len(usual))):
        if values[key].nunique() > 1 and not any(
            tells(values[other], values[key], both_ways=other in numeric)
            for other in kept
            if not {key, other} <= numeric
        ):
            kept.append(key)
    return kept


def tells(one: "pd.Series[str]", other: "pd.Series[str]", both_ways: bool) -> bool:
    """Whether the value of one key gives away the other's, and the other way round."""
    pairs = len(set(zip(one, other, strict=True)))
    return pairs == one.nunique() and (not both_ways or pairs == other.nunique())


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Each key by its last word where that is no other's."""
    taken = {"run", "setting", "seed", "state", "reason", "value", "mean", "std", "lowest", "highest", "done"}
    taken |= {"epoch", "params", "seconds", "steps"}
    words = {key: SHORT.get(key, key.rpartition(".")[2]) for key in keys}
    often = Counter(words.values())
    return {key: word if often[word] == 1 and word not in taken else key for key, word in words.items()}


def number(value: Any) -> float | None:
    """A finite number, or None."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    return value if good else None  # a comparison with nan is false
