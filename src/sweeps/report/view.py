"""What the figures show, in plain numbers: the PNG files and the page draw the same."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from src.sweeps.report.table import Comparison, number

MOST_TICKS = 12
"""Values on an axis of the heat map; a search that draws from a range is put into bins."""
BINS = 8
MOST_PANELS = 12
MOST_POINTS, FEWEST_POINTS = 80, 8
"""Of a curve."""
ALL_POINTS = 400_000
"""Of all curves of a page together: of many runs each curve has fewer."""
MOST_CURVES = 8
"""Metrics that are drawn over the steps."""


class Heat(NamedTuple):
    """Panels of two choices against each other; in each cell the best setting's mean."""

    x: str
    y: str
    xs: list[str]
    ys: list[str]
    facet: str
    panels: list[str]
    values: list[list[list[float | None]]]
    """[panel][y][x]."""
    settings: list[list[list[list[int]]]]
    """The settings that share a cell, best first."""


class Axis(NamedTuple):
    """One choice along an axis."""

    name: str
    labels: list[str]
    of_setting: list[int]
    """Which label each setting has."""


def heat_map(found: Comparison) -> Heat:
    """Depth against learning rate for each cell, or what comes nearest to them among what differs."""
    names = list(found.choices.values())
    facet = next((name for name in ("cell", "link") if name in names), None)
    rest = [name for name in names if name != facet]
    if not rest:
        facet, rest = None, names
    y = "depth" if "depth" in rest else None
    x = "lr" if "lr" in rest else next((name for name in rest if name != y), None)
    y = y or next((name for name in rest if name != x), None)
    across, up, panel = (axis_of(found, name) for name in (x, y, facet))
    settings: list[list[list[list[int]]]] = [[[[] for _ in across.labels] for _ in up.labels] for _ in panel.labels]
    for place in range(len(found.table)):
        settings[panel.of_setting[place]][up.of_setting[place]][across.of_setting[place]].append(place)
    values = [[[best_mean(found, places) for places in row] for row in rows] for rows in settings]
    most = slice(MOST_PANELS)
    return Heat(
        across.name, up.name, across.labels, up.labels, panel.name, panel.labels[most], values[most], settings[most]
    )


def best_mean(found: Comparison, places: Sequence[int]) -> float | None:
    """The best mean of some settings; not the first one's, which may rank first because it alone is finished."""
    means = [value for place in places if (value := number(found.table["mean"].iloc[place])) is not None]
    return max(means, key=lambda value: value * found.metric.sign, default=None)


def axis_of(found: Comparison, name: str | None) -> Axis:
    """The values of a choice in order, many numbers in bins; one value where there is no such choice."""
    if name is None:
        return Axis("", [""], [0] * len(found.table))
    values = found.table[name].tolist()
    numbers = [number(value) for value in values]
    known = sorted({value for value in numbers if value is not None})
    if len(known) > MOST_TICKS:
        wide = known[0] > 0 and known[-1] / known[0] > 20
        edges = (np.geomspace if wide else np.linspace)(known[0], known[-1], BINS + 1)
        without = ["none"] if None in numbers else []
        labels = without + [f"{low:.2g}–{high:.2g}" for low, high in pairwise(edges)]
        bins = [None if v is None else int(np.searchsorted(edges[1:-1], v, "right")) for v in numbers]
        return Axis(name, labels, [0 if place is None else place + len(without) for place in bins])
    texts = [told(value) for value in values]
    labels = sorted(dict.fromkeys(texts), key=lambda text: order(values[texts.index(text)]))
    return Axis(name, labels, [labels.index(text) for text in texts])


def order(value: Any) -> tuple[int, float, str]:
    """Numbers by size, then names as they are spelled."""
    size = number(value)
    return (1, 0.0, str(value)) if size is None else (0, size, "")


def told(value: Any) -> str:
    """A choice as one writes it."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def groups_of(found: Comparison) -> tuple[str, list[str]]:
    """What the runs are coloured by, and each run's: its cell, or the first choice that has few values."""
    for name in found.choices.values():
        texts = [told(value) for value in found.frame[name]]
        if len(set(texts)) <= 8:
            return name, texts
    return "", [""] * len(found.frame)


def curve_names(found: Comparison) -> list[str]:
    """The metrics that changed over the steps, the ranking one first."""
    names = dict.fromkeys(key for run in found.runs for line in run.lines for key in line if "/" in key)
    wanted = [found.metric.name, "val/loss", "train/loss", "train/grad_norm", "train/lr"]
    ordered = [name for name in wanted if name in names]
    dull = ("baseline", "_per_second")
    rest = [name for name in names if name not in ordered and not name.endswith(dull)]
    ordered += sorted(rest, key=lambda name: not name.startswith("val/"))  # what was learned from comes last
    return ordered[:MOST_CURVES]


def points_each(curves: int) -> int:
    """How many points each of so many curves may have."""
    return min(max(ALL_POINTS // max(curves, 1), FEWEST_POINTS), MOST_POINTS)


def curve(lines: Sequence[dict[str, Any]], name: str, most: int = MOST_POINTS) -> list[list[float]]:
    """Steps, seconds and values of one metric of one run, thinned evenly."""
    points = [line for line in lines if number(line.get(name)) is not None and number(line.get("step")) is not None]
    if len(points) > most:
        points = [points[round(place)] for place in np.linspace(0, len(points) - 1, most)]
    return [[line.get(key, 0) for line in points] for key in ("step", "time", name)]


def plain(value: Any) -> Any:
    """What JSON can hold of a cell of a table: numbers rounded to seven digits, no nan."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)) or value is pd.NA:
        return None
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    if isinstance(value, int | np.integer):
        return int(value)
    return float(f"{value:.7g}") if isinstance(value, float) else str(value)
