"""How well each class is told from the others, setting by setting: what an accuracy hides where classes are rare."""

import math
from statistics import fmean
from typing import NamedTuple

from matplotlib import colormaps
from matplotlib.figure import Figure

from src.sweeps.report.table import Comparison

MOST_CLASSES = 20
"""Columns: of more classes those that are told worst."""
MOST_SETTINGS = 20
"""Rows: of more settings the best."""


class ClassScores(NamedTuple):
    """The mean F1 of each class over the runs of each setting."""

    names: list[str]
    settings: list[int]
    """Rows of the comparison's table, best first."""
    values: list[list[float | None]]
    """[setting][class]."""
    classes: int
    """In all, those that are left out among them."""


def class_scores(found: Comparison) -> ClassScores | None:
    """The scores to be shown; None where no run has any."""
    scores: dict[int, list[dict[str, float]]] = {}
    for run, setting in zip(found.runs, found.frame["setting"], strict=True):
        if run.class_f1:
            scores.setdefault(int(setting), []).append(run.class_f1)
    settings = sorted(scores)[:MOST_SETTINGS]
    names = list(dict.fromkeys(name for setting in settings for run in scores[setting] for name in run))
    if not names:
        return None
    values = {name: [mean_of(name, scores[setting]) for setting in settings] for name in names}
    worst = sorted(names, key=lambda name: max(value for value in values[name] if value is not None))[:MOST_CLASSES]
    shown = sorted(worst, key=names.index)
    rows = [[values[name][row] for name in shown] for row in range(len(settings))]
    return ClassScores(shown, settings, rows, len(names))


def mean_of(name: str, runs: list[dict[str, float]]) -> float | None:
    """The mean F1 of a class over runs that know it."""
    return round(fmean(known), 4) if (known := [run[name] for run in runs if name in run]) else None


def draw_classes(found: Comparison) -> Figure | None:
    """A row a setting, the best at the top, a column a class, F1 as colour and number."""
    scores = class_scores(found)
    if scores is None:
        return None
    labels = [str(row + 1) for row in scores.settings]
    width, height = 2.0 + 0.7 * len(scores.names), 1.6 + 0.35 * len(labels)
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    grid = [[math.nan if value is None else value for value in row] for row in scores.values]
    colours = colormaps["viridis"].with_extremes(bad="#dddddd")
    image = axes.imshow(grid, aspect="auto", cmap=colours, vmin=0, vmax=1)
    for y, row in enumerate(scores.values):
        for x, value in enumerate(row):
            colour, told = ("black", "–") if value is None else ("white" if value < 0.6 else "black", f"{value:.2f}")
            axes.text(x, y, told, ha="center", va="center", fontsize=8, color=colour)
    names = [name if len(name) <= 12 else f"{name[:11]}…" for name in scores.names]
    axes.set_xticks(range(len(names)), names, rotation=45 if len(max(names, key=len)) > 6 else 0)
    axes.set_yticks(range(len(labels)), labels)
    left_out = "" if scores.classes == len(names) else f", the {len(names)} of {scores.classes} that are told worst"
    axes.set(ylabel="rank of the setting", title=f"F1 of each class{left_out}")
    figure.colorbar(image, ax=axes)
    return figure
