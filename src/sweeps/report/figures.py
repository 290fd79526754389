"""The figures of a sweep as PNG files, for papers and for where no browser is."""

import io
import math
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from src.files import write_atomic
from src.sweeps.report.classes import draw_classes
from src.sweeps.report.memory import draw_memory
from src.sweeps.report.runs import DONE
from src.sweeps.report.table import Comparison, number
from src.sweeps.report.view import Axis, axis_of, curve, curve_names, groups_of, heat_map, told

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D31", "#666666")
"""Okabe & Ito's, which people who do not see all colours tell apart; yellow, too light for a line, left out."""
MARKERS = "osD^vPX*"
SEQUENTIAL = "viridis"


def draw_all(found: Comparison, folder: Path) -> list[Path]:
    """Write every figure that these runs have into a folder, and return the files."""
    figures = {
        "heat_map": draw_heat_map(found),
        "curves": draw_curves(found),
        "parameters": draw_cost(found, "params", "parameters"),
        "seconds": draw_cost(found, "seconds", "seconds of training"),
        "parallel": draw_parallel(found),
        "memory": draw_memory(found),
        "classes": draw_classes(found),
    }
    files = []
    for name, figure in figures.items():
        if figure is None:
            continue
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=120)
        files.append(folder / f"{name}.png")
        write_atomic(files[-1], picture.getvalue())
    return files


def draw_heat_map(found: Comparison) -> Figure:
    """A panel for each cell: depth upwards, learning rate across, the best setting's mean as colour and number."""
    heat = heat_map(found)
    columns = min(len(heat.panels), 4)
    rows = -(-len(heat.panels) // columns)
    width, height = max(2.6, 0.75 * len(heat.xs)), max(1.6, 0.5 * len(heat.ys)) + 0.6
    figure = Figure(figsize=(min(columns * width + 1.6, 20), min(rows * height + 0.6, 20)), layout="constrained")
    known = [v for panel in heat.values for row in panel for v in row if v is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    name = SEQUENTIAL if found.metric.mode == "max" else f"{SEQUENTIAL}_r"
    colours = colormaps[name].with_extremes(bad="#dddddd")
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, name, values in zip(panels, heat.panels, heat.values, strict=False):
        grid = [[math.nan if v is None else v for v in row] for row in values]
        image = axes.imshow(grid, origin="lower", aspect="auto", cmap=colours, vmin=low, vmax=high)
        for y, row in enumerate(values):
            for x, value in enumerate(row):
                dark = value is None or (value - low) * found.metric.sign > 0.6 * (high - low) * found.metric.sign
                axes.text(x, y, "–" if value is None else f"{value:.3g}", ha="center", va="center", fontsize=8,
                          color="black" if dark else "white")  # fmt: skip
        turned = 45 if len(max(heat.xs, key=len)) > 5 else 0
        axes.set_xticks(range(len(heat.xs)), [clip(label) for label in heat.xs], rotation=turned)
        axes.set_yticks(range(len(heat.ys)), [clip(label) for label in heat.ys])
        axes.set(title=clip(name, 6 * len(heat.xs)), xlabel=heat.x, ylabel=heat.y)
    for axes in panels[len(heat.panels) :]:
        axes.remove()
    figure.colorbar(image, ax=list(figure.axes), label=found.metric.name)
    return figure


def draw_curves(found: Comparison) -> Figure:
    """Every metric over the steps, a line a run."""
    names = curve_names(found)[:4] or [found.metric.name]
    by, groups = groups_of(found)
    order = list(dict.fromkeys(groups))
    figure = Figure(figsize=(4.6 * len(names), 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for run, group in zip(found.runs, groups, strict=True):
            steps, _, values = curve(run.lines, name)
            mark = "." if len(steps) < 20 else ""
            faded = max(0.25, min(1.0, 12 / len(found.runs)))
            axes.plot(steps, values, marker=mark, lw=1, alpha=faded, color=colour_of(order.index(group)))
        positive = [value for line in axes.lines for value in line.get_ydata()]
        if positive and min(positive) > 0 and max(positive) > 50 * min(positive):
            axes.set_yscale("log")
        axes.set(title=name, xlabel="step")
        axes.grid(alpha=0.3)
    legend(figure, by, order, lines=True)
    return figure


def draw_cost(found: Comparison, column: str, title: str) -> Figure:
    """What the runs reached against what they cost; open marks for runs that are not DONE."""
    by, groups = groups_of(found)
    order = list(dict.fromkeys(groups))
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    costs = []
    for run, group in zip(found.frame.to_dict("records"), groups, strict=True):
        cost, value = number(run[column]), number(run["value"])
        if cost is not None and value is not None:
            costs.append(cost)
            place = order.index(group)
            face = colour_of(place) if run["state"] == DONE else "none"
            mark = MARKERS[place % len(MARKERS)]
            axes.plot(cost, value, mark, color=colour_of(place), markerfacecolor=face, ms=6, alpha=0.8)
    if costs and min(costs) > 0 and max(costs) > 5 * min(costs):
        axes.set_xscale("log")
    if found.baseline is not None:
        axes.axhline(found.baseline, ls="--", lw=1, color="#888888")
        axes.annotate("trivial baseline", (1, found.baseline), xycoords=("axes fraction", "data"), ha="right",
                      va="bottom", fontsize=8, color="#666666")  # fmt: skip
    axes.set(xlabel=title, ylabel=found.metric.name)
    axes.grid(alpha=0.3)
    legend(figure, by, order)
    return figure


def draw_parallel(found: Comparison) -> Figure:
    """A line a setting through all its choices, coloured by what it reached."""
    axes_of = [axis_of(found, name) for name in found.choices.values()]
    measured = [(name, [number(v) for v in found.table[name]]) for name in ("params", "seconds", "mean")]
    figure = Figure(figsize=(max(6.0, 1.5 * (len(axes_of) + 3)), 4), layout="constrained")
    axes = figure.subplots()
    columns: list[list[float | None]] = [choice_places(axis) for axis in axes_of]
    for name, values in measured:
        known = [value for value in values if value is not None]
        log = name != "mean" and bool(known) and min(known) > 0
        columns.append(spread([math.log(v) if log and v is not None else v for v in values]))
    colours, shades = colormaps[SEQUENTIAL], columns[-1]
    for line in zip(*columns, strict=True):
        shade = line[-1]
        if shade is not None:
            better = shade if found.metric.mode == "max" else 1 - shade
            axes.plot([math.nan if v is None else v for v in line], color=colours(better), alpha=0.7, lw=1.2)
    for place, axis in enumerate(axes_of):
        for at, label in zip(spread(list(range(len(axis.labels)))), axis.labels, strict=True):
            axes.text(place, at or 0.0, f" {clip(label)}", fontsize=7, va="center")
    for place, (_, values) in enumerate(measured, start=len(axes_of)):
        known = [value for value in values if value is not None]
        for at, extreme in ((0, min(known, default=None)), (1, max(known, default=None))):
            axes.text(place, at, f" {told(float(f'{extreme:.4g}')) if extreme is not None else ''}", fontsize=7)
    names = [*(axis.name for axis in axes_of), "params", "seconds", found.metric.name]
    axes.set_xticks(range(len(names)), names)
    axes.vlines(range(len(names)), 0, 1, color="#888888", lw=0.8)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    if not any(shade is not None for shade in shades):
        axes.text(0.5, 0.5, "no value yet", transform=axes.transAxes, ha="center")
    return figure


def choice_places(axis: Axis) -> list[float | None]:
    """Where each setting crosses an axis, from 0 to 1."""
    places = spread(list(range(len(axis.labels))))
    return [places[label] for label in axis.of_setting]


def spread(values: list[Any]) -> list[float | None]:
    """Numbers moved to lie from 0 to 1; a half where all are the same."""
    known = [value for value in values if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    return [None if v is None else (v - low) / (high - low) if high > low else 0.5 for v in values]


def clip(text: str, most: int = 20) -> str:
    """A label that leaves room for others; ``$`` would begin a formula."""
    return (text if len(text) <= max(most, 6) else f"{text[: max(most, 6) - 1]}…").replace("$", r"\$")


def colour_of(place: int) -> str:
    """The colour of a group."""
    return COLOURS[place % len(COLOURS)]


def legend(figure: Figure, by: str, order: list[str], lines: bool = False) -> None:
    """Name the groups beside the axes, where there is more than one."""
    if len(order) > 1:
        looks = [{"ls": "-"} if lines else {"ls": "", "marker": MARKERS[k % len(MARKERS)]} for k in range(len(order))]
        marks = [Line2D([], [], color=colour_of(k), **look) for k, look in enumerate(looks)]  # type: ignore[arg-type]
        figure.legend(marks, [clip(name, 30) for name in order], title=by, loc="outside right upper", fontsize=8)
