"""Which cell remembers how far: the problems of any length, each run against what a model without memory reaches."""

import math
from collections.abc import Sequence
from statistics import fmean

import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure

from src.sweeps.report.runs import Run
from src.sweeps.report.table import Comparison, Metric

LENGTH = "data.length"


def draw_memory(found: Comparison) -> Figure | None:
    """A row a setting, a column a length, the share remembered as colour and number; None for runs of one length."""
    lengths = sorted({run.config[LENGTH] for run in found.runs if isinstance(run.config.get(LENGTH), int)})
    if len(lengths) < 2:
        return None
    means = remembered_by_setting(found, lengths)
    names = sorted(means, key=lambda name: sum(share or 0.0 for share in means[name]))
    figure = Figure(figsize=(2.5 + 0.7 * len(lengths), 1.2 + 0.4 * len(names)), layout="constrained")
    axes = figure.subplots()
    grid = [[math.nan if share is None else share for share in means[name]] for name in names]
    colours = colormaps["viridis"].with_extremes(bad="#dddddd")
    image = axes.imshow(grid, origin="lower", aspect="auto", cmap=colours, vmin=0, vmax=1)
    for y, name in enumerate(names):
        for x, share in enumerate(means[name]):
            colour, told = ("black", "–") if share is None else ("white" if share < 0.6 else "black", f"{share:.2f}")
            axes.text(x, y, told, ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(lengths)), [str(length) for length in lengths])
    axes.set_yticks(range(len(names)), names)
    problems = "/".join(sorted({str(run.config.get("data.name")) for run in found.runs}))
    axes.set(xlabel="length T", title=f"{problems}: share remembered")
    figure.colorbar(image, ax=axes)
    return figure


def remembered_by_setting(found: Comparison, lengths: Sequence[int]) -> dict[str, list[float | None]]:
    """For each setting, but for the length and what follows from it, the mean share at each length over its runs."""
    frame = found.frame.assign(length=pd.Series([run.config.get(LENGTH) for run in found.runs], found.frame.index))
    labels = [label for label in found.choices.values() if frame.groupby("length")[label].nunique().max() > 1]
    shares: dict[str, dict[int, list[float]]] = {}
    for run, (_, row) in zip(found.runs, frame.iterrows(), strict=True):
        share = remembered(run, found.metric)
        setting = " ".join(str(row[label]) if label == "cell" else f"{label}={row[label]}" for label in labels)
        per_length = shares.setdefault(setting or str(run.config.get("model.cell")), {})
        if share is not None:
            per_length.setdefault(row["length"], []).append(share)
    return {
        setting: [fmean(seeds) if (seeds := per_length.get(length)) else None for length in lengths]
        for setting, per_length in shares.items()
    }


def remembered(run: Run, metric: Metric) -> float | None:
    """How much of what a model without memory does not know the run knows: 0 at its baseline or worse, 1 at best."""
    value, baseline = run.value(metric.name), run.value(f"{metric.name.partition('/')[0]}/baseline")
    perfect = 0.0 if metric.mode == "min" else 1.0
    if value is None or baseline is None or baseline == perfect:
        return None
    return min(max((value - baseline) / (perfect - baseline), 0.0), 1.0)
